# Table 4: BSST on windows of 12 frames.
_base_ = '_base_.py'

num_frames = 12
