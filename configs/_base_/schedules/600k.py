# The recipe of the released code: 600k iterations of 8 clips of 24 frames. Where the paper says
# Adam (0.9, 0.999), the released code has AdamW (0.9, 0.99) without weight decay.
max_iters = 600_000
warmup = 1_000

train_cfg = dict(type='ResumableTrainLoop', max_iters=max_iters, val_interval=5_000)
optim_wrapper = dict(
    type='AmpOptimWrapper',
    loss_scale='dynamic',
    optimizer=dict(type='AdamW', lr=4e-4, betas=(0.9, 0.99), weight_decay=0.0),
    clip_grad=dict(max_norm=0.01),
    # Of several keys in a parameter's name the longest counts: `flow_refiner`, which the released
    # configs add, before the `conv_offset` inside it.
    paramwise_cfg=dict(
        custom_keys={
            'conv_offset': dict(lr_mult=0.25),
            'neck.soft_split': dict(lr_mult=0.5),
            'neck.soft_composition': dict(lr_mult=0.5),
            'neck.compose_conv': dict(lr_mult=0.5),
        }
    ),
)
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-3, by_epoch=False, begin=0, end=warmup),
    dict(
        type='CosineAnnealingLR',
        by_epoch=False,
        begin=warmup,
        end=max_iters,
        T_max=max_iters - warmup,
        eta_min=1e-7,
    ),
]
# 8 GPUs with a clip each. With N GPUs, `--auto-scale-lr` scales the learning rate by N / 8, or
# optim_wrapper.accumulative_counts = 8 / N keeps the batch of 8, see configs/bsstnet_gopro_1gpu.py.
auto_scale_lr = dict(enable=False, base_batch_size=8)
