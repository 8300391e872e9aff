# Table 4: SST on windows of 60 frames.
_base_ = '_base_.py'

model = dict(generator=dict(neck=dict(selection=dict(_delete_=True, type='DenseSelection'))))
num_frames = 60
