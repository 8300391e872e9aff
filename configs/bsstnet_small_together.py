# All parts of the small model but BlurPath together, after tools/fit_small.py trained one after the
# other, on clips that are always new. Two processes of one thread are faster than one of two; each
# takes 9 GB, most of them videos:
#     torchrun --nproc-per-node 2 tools/train.py configs/bsstnet_small_together.py \
#         --launcher pytorch --cfg-options load_from=work_dirs/small.pth
_base_ = 'bsstnet_small_scales.py'

max_iters = 150
train_cfg = dict(max_iters=max_iters, val_interval=75)
train_dataloader = dict(batch_size=1, dataset=dict(settings=dict(size=192)))
# The first of those that are tested: one minute on two cores, each time.
val_dataloader = dict(dataset=dict(length=24))
optim_wrapper = dict(type='AmpOptimWrapper', dtype='bfloat16', optimizer=dict(lr=4e-4))
param_scheduler = [
    dict(type='LinearLR', start_factor=0.05, by_epoch=False, begin=0, end=20),
    dict(
        type='LinearLR',
        start_factor=1.0,
        end_factor=0.0,
        by_epoch=False,
        begin=20,
        end=max_iters,
    ),
]
custom_hooks = [dict(type='EMAHook', momentum=0.02)]
default_hooks = dict(logger=dict(interval=20), checkpoint=dict(interval=75))
