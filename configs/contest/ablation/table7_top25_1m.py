# Table 7: the blurriest and the sharpest quarter of the frames.
_base_ = '_base_.py'

model = dict(generator=dict(neck=dict(selection=dict(query_ratio=0.25, key_ratio=0.25))))
