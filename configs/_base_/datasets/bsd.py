# A part of BSD, converted by tools/dataset_converters/bsd.py; it has validation videos of its own.
_base_ = 'gopro.py'

data_root = 'data/bsd_3ms24ms'
metainfo = dict(dataset_type='bsd')
train_dataloader = dict(dataset=dict(data_root=data_root, metainfo=metainfo))
val_dataloader = dict(
    dataset=dict(
        data_root=data_root,
        metainfo=metainfo,
        data_prefix=dict(img='valid/blur', gt='valid/GT'),
    )
)
test_dataloader = dict(dataset=dict(data_root=data_root, metainfo=metainfo))
