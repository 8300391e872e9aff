# The small model without BSST.
_base_ = '../bsstnet_small_together.py'

model = dict(generator=dict(neck=None))
