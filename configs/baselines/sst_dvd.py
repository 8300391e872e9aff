# SST on DVD.
_base_ = '../bsstnet_dvd.py'

model = dict(generator=dict(neck=dict(selection=dict(_delete_=True, type='DenseSelection'))))
