# The small model without BSST.
_base_ = '../bsstnet_small.py'

model = dict(generator=dict(neck=None))
