# What ends the training of the small model: the learning rate falls to zero.
#     python tools/train.py configs/bsstnet_small_cooldown.py \
#         --cfg-options load_from=work_dirs/bsstnet_small/iter_9000.pth
_base_ = 'bsstnet_small.py'

param_scheduler = None
custom_hooks = [dict(type='EMAHook', momentum=0.01)]
default_hooks = dict(budget=dict(type='TimeBudget', minutes=20))
