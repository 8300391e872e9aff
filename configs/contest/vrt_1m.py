# VRT, 0.97 M parameters: windows of 6 frames, of 4 x 4 instead of 8 x 8 pixels. Its SPyNet would be
# 1.4 M more, and untrained: DIS flow instead, as BSSTNet has it here.
_base_ = '_base_.py'

model = dict(
    generator=dict(
        type='FlowVRT',
        flow_estimator=dict(type='DISFlow'),
        channels=32,
        refine_channels=32,
        depths=(1, 2, 2, 4, 2, 2, 1),
        refine_depths=(1, 1, 1),
        num_heads=4,
        window=(6, 4, 4),
        deform_groups=4,
    ),
)
