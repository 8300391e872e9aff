# BasicVSR++ on DVD: 600k iterations.
_base_ = 'basicvsrpp_gopro.py'

data_root = 'data/dvd'
train_dataloader = dict(dataset=dict(data_root=data_root, metainfo=dict(dataset_type='dvd')))
val_dataloader = dict(dataset=dict(data_root=data_root, metainfo=dict(dataset_type='dvd')))
test_dataloader = val_dataloader

max_iters = 600_000
train_cfg = dict(max_iters=max_iters)
param_scheduler = dict(T_max=max_iters)
