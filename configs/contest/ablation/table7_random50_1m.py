# Table 7: half of the windows, chosen at random.
_base_ = '_base_.py'

model = dict(
    generator=dict(neck=dict(selection=dict(_delete_=True, type='RandomSelection', ratio=0.5)))
)
