# Table 4: SST, evaluated on windows of 12 frames (training clips keep their 24).
_base_ = '_base_.py'

num_frames = 12
model = dict(
    generator=dict(neck=dict(selection=dict(_delete_=True, type='DenseSelection'))),
    test_cfg=dict(num_frames=num_frames),
)
val_dataloader = dict(dataset=dict(num_frames=num_frames))
test_dataloader = val_dataloader
