# Goes on from the authors' checkpoint, converted by
#     python tools/model_converters/released.py SRC checkpoints/bsstnet_gopro_released.pth
# For data of your own set data_root. The schedule is a short one of this package, from no paper.
_base_ = 'bsstnet_gopro_released.py'

load_from = 'checkpoints/bsstnet_gopro_released.pth'

max_iters = 20_000
warmup = 500
train_cfg = dict(max_iters=max_iters, val_interval=1_000)
optim_wrapper = dict(optimizer=dict(lr=5e-5))
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
default_hooks = dict(checkpoint=dict(interval=1_000))
