# What the methods of `make compare` share: rendered clips, crops, batch, loss, optimizer and time.
_base_ = ['../_base_/default_runtime.py', '../_base_/datasets/gopro.py']

model = dict(
    type='VideoDeblurrer',
    # In so little time the mean square gains more PSNR than an absolute difference.
    pixel_loss=dict(type='MSELoss', loss_weight=1.0, reduction='mean'),
    data_preprocessor=dict(type='DataPreprocessor', mean=[0.0] * 3, std=[255.0] * 3),
    test_cfg=dict(tile=256, overlap=64, merge='cut', num_frames=48),
)

data_root = 'data/demo_clips'
metainfo = dict(dataset_type='rendered', task_name='deblur')
train_pipeline = [
    dict(step, gt_patch_size=64) if step['type'] == 'PairedRandomCrop' else step
    for step in _base_.train_pipeline
]
train_dataloader = dict(
    num_workers=0,
    persistent_workers=False,
    batch_size=2,
    dataset=dict(
        data_root=data_root, metainfo=metainfo, num_input_frames=6, pipeline=train_pipeline
    ),
)
val_dataloader = dict(num_workers=0, dataset=dict(data_root=data_root, metainfo=metainfo))
test_dataloader = val_dataloader

# Time ends the training, see the budget below.
max_iters = 1_000_000
train_cfg = dict(type='ResumableTrainLoop', max_iters=max_iters, val_begin=max_iters + 1)
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=1e-3, betas=(0.9, 0.99), weight_decay=0.0),
    clip_grad=dict(max_norm=0.1),
)
param_scheduler = None
default_hooks = dict(
    budget=dict(type='TimeBudget', minutes=9),
    logger=dict(interval=25),
    checkpoint=dict(interval=25, max_keep_ckpts=1, save_best=None),
)
log_processor = dict(window_size=25)
