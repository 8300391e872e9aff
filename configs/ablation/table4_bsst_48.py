# Table 4: BSST on windows of 48 frames.
_base_ = '_base_.py'

num_frames = 48
