# Table 4: BSST on windows of 36 frames.
_base_ = '_base_.py'

num_frames = 36
