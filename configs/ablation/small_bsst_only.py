# The small model without BBFP.
_base_ = '../bsstnet_small.py'

model = dict(generator=dict(backbone=None, fusion=dict(in_channels={{_base_.channels}})))
