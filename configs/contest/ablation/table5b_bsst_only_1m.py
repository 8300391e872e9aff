# Table 5 (b): BSST without BBFP.
_base_ = '_base_.py'

model = dict(generator=dict(backbone=None, fusion=dict(in_channels=36)))
