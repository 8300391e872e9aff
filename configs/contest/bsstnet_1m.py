# BSSTNet, 0.99 M parameters.
_base_ = '_base_.py'

channels = 36
model = dict(
    generator=dict(
        type='BSSTNet',
        encoder=dict(type='FrameEncoder', shallow_channels=16, channels=channels),
        flow_estimator=dict(type='DISFlow'),
        blur_map=dict(type='BlurMapEstimator'),
        backbone=dict(
            type='BBFP',
            channels=channels,
            num_branches=2,
            alignment=dict(type='BlurAwareAlignment', deform_groups=4),
        ),
        fusion=dict(
            type='SwinFusion',
            in_channels=3 * channels,
            channels=channels,
            conv_groups=3,
            num_groups=1,
            depth=2,
            num_heads=4,
        ),
        neck=dict(
            type='BSST',
            channels=channels,
            dim=128,
            depth=2,
            num_heads=4,
            hidden_channels=8,
            selection=dict(type='BlurAwareSelection', theta=0.3),
        ),
        decoder=dict(type='FrameDecoder', channels=channels, shallow_channels=16, num_blocks=1),
    ),
)
