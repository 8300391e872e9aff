# bsstnet_gopro_finetune.py for DVD.
_base_ = 'bsstnet_gopro_finetune.py'

load_from = 'checkpoints/bsstnet_dvd_released.pth'

data_root = 'data/dvd'
train_dataloader = dict(dataset=dict(data_root=data_root, metainfo=dict(dataset_type='dvd')))
val_dataloader = dict(dataset=dict(data_root=data_root, metainfo=dict(dataset_type='dvd')))
test_dataloader = val_dataloader
optim_wrapper = dict(paramwise_cfg=dict(custom_keys={'flow_refiner': dict(lr_mult=0.25)}))
