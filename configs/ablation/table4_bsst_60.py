# Table 4: BSST on windows of 60 frames.
_base_ = '_base_.py'

num_frames = 60
