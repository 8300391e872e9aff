# DVD, converted by tools/dataset_converters/dvd.py.
_base_ = 'gopro.py'

data_root = 'data/dvd'
train_dataloader = dict(dataset=dict(data_root=data_root, metainfo=dict(dataset_type='dvd')))
val_dataloader = dict(dataset=dict(data_root=data_root, metainfo=dict(dataset_type='dvd')))
test_dataloader = val_dataloader
