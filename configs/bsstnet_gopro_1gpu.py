# The recipe of bsstnet_gopro.py on fewer GPUs, down to one of 24 GB: the gradients of several
# iterations of one clip add up to a batch of 8, and activations are computed twice instead of kept.
# For N GPUs set accumulate to 8 / N. For a shorter training lower `steps`.
_base_ = 'bsstnet_gopro.py'

accumulate = 8
steps = 600_000

model = dict(generator=dict(with_cp=True))
optim_wrapper = dict(accumulative_counts=accumulate)
# An iteration is one clip on each GPU, a step is `accumulate` iterations.
max_iters = steps * accumulate
warmup = 1_000 * accumulate
train_cfg = dict(max_iters=max_iters, val_interval=5_000 * accumulate)
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
# Gradients are not in checkpoints: write them after whole steps.
default_hooks = dict(checkpoint=dict(interval=500 * accumulate))
