# The small model without BBFP.
_base_ = '../bsstnet_small_together.py'

model = dict(generator=dict(backbone=None, fusion=dict(in_channels={{_base_.channels}})))
