# SST, the standard spatio-temporal transformer of Table 4: BSSTNet whose attention takes every
# window of every frame.
_base_ = '../bsstnet_gopro.py'

model = dict(generator=dict(neck=dict(selection=dict(_delete_=True, type='DenseSelection'))))
