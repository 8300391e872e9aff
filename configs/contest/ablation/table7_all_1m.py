# Table 7: all tokens (100 %).
_base_ = '_base_.py'

model = dict(generator=dict(neck=dict(selection=dict(_delete_=True, type='DenseSelection'))))
