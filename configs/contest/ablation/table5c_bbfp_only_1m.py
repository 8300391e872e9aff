# Table 5 (c): BBFP without BSST.
_base_ = '_base_.py'

model = dict(generator=dict(neck=None))
