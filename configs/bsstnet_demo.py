# A BSSTNet that trains from scratch in minutes on two CPU cores, for `make demo`. It shows that
# every part works; for quality take a larger one.
_base_ = ['_base_/default_runtime.py', '_base_/models/bsstnet.py', '_base_/datasets/gopro.py']

channels = 48
model = dict(
    generator=dict(
        encoder=dict(shallow_channels=16, channels=channels),
        flow_estimator=dict(_delete_=True, type='DISFlow'),
        backbone=dict(channels=channels, num_branches=2, alignment=dict(deform_groups=8)),
        fusion=dict(in_channels=3 * channels, channels=channels, num_groups=1, num_heads=4),
        neck=dict(channels=channels, dim=96, depth=2, hidden_channels=8),
        decoder=dict(channels=channels, shallow_channels=16, num_blocks=1),
    ),
    # In so few iterations the mean square gains more PSNR than an absolute difference, whose
    # optimum for what is still uncertain is to change nothing.
    pixel_loss=dict(_delete_=True, type='MSELoss', loss_weight=1.0, reduction='mean'),
)

data_root = 'data/demo'
train_pipeline = [  # as in the base, with smaller crops
    dict(type='GenerateSegmentIndices', interval_list=[1], filename_tmpl='{:05d}.png'),
    dict(type='LoadFrames', key='img', channel_order='rgb'),
    dict(type='LoadFrames', key='gt', channel_order='rgb'),
    dict(type='SetValues', dictionary=dict(scale=1)),
    dict(type='PairedRandomCrop', gt_patch_size=64),
    dict(type='Flip', keys=['img', 'gt'], flip_ratio=0.5, direction='horizontal'),
    dict(type='Flip', keys=['img', 'gt'], flip_ratio=0.5, direction='vertical'),
    dict(type='RandomTransposeHW', keys=['img', 'gt'], transpose_ratio=0.5),
    dict(type='PackInputs'),
]
train_dataloader = dict(
    num_workers=0,
    persistent_workers=False,
    batch_size=1,
    # As many as the test clips have: propagation that was trained on 6 frames blew up over 12.
    dataset=dict(data_root=data_root, num_input_frames=12, pipeline=train_pipeline),
)
val_dataloader = dict(num_workers=0, dataset=dict(data_root=data_root))
test_dataloader = val_dataloader

max_iters = 300
train_cfg = dict(type='ResumableTrainLoop', max_iters=max_iters, val_begin=max_iters + 1)
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=1e-3, betas=(0.9, 0.99), weight_decay=0.0),
    clip_grad=dict(max_norm=0.1),
)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.1, by_epoch=False, begin=0, end=50),
    dict(type='CosineAnnealingLR', by_epoch=False, begin=50, end=max_iters, eta_min=1e-6),
]
default_hooks = dict(
    logger=dict(interval=50), checkpoint=dict(interval=50, max_keep_ckpts=1, save_best=None)
)
log_processor = dict(window_size=50)
