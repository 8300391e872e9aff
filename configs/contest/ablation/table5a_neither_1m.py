# Table 5 (a): neither BBFP nor BSST.
_base_ = '_base_.py'

model = dict(generator=dict(backbone=None, fusion=dict(in_channels=36), neck=None))
