# Table 4: SST on windows of 24 frames.
_base_ = '_base_.py'

model = dict(generator=dict(neck=dict(selection=dict(_delete_=True, type='DenseSelection'))))
num_frames = 24
