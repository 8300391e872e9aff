# SST, 0.99 M parameters: BSSTNet whose attention takes every window of every frame.
_base_ = 'bsstnet_1m.py'

model = dict(generator=dict(neck=dict(selection=dict(_delete_=True, type='DenseSelection'))))
