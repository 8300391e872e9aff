# The paper's method on the layers of the released network: C = 192, four branches, four blocks.
model = dict(
    type='VideoDeblurrer',
    generator=dict(
        type='BSSTNet',
        encoder=dict(type='FrameEncoder', shallow_channels=64, channels=192),
        flow_estimator=dict(type='RAFTFlow'),
        blur_map=dict(type='BlurMapEstimator'),
        backbone=dict(
            type='BBFP',
            channels=192,
            num_branches=4,
            alignment=dict(type='BlurAwareAlignment', deform_groups=16),
        ),
        fusion=dict(
            type='SwinFusion',
            in_channels=5 * 192,
            channels=192,
            conv_groups=3,
            num_groups=2,
            depth=2,
            num_heads=6,
        ),
        neck=dict(
            type='BSST',
            channels=192,
            dim=512,
            depth=4,
            num_heads=4,
            hidden_channels=40,
            selection=dict(type='BlurAwareSelection', theta=0.3),
        ),
        decoder=dict(type='FrameDecoder', channels=192, shallow_channels=64, num_blocks=2),
    ),
    pixel_loss=dict(type='L1Loss', loss_weight=1.0, reduction='mean'),
    data_preprocessor=dict(type='DataPreprocessor', mean=[0.0] * 3, std=[255.0] * 3),
    # The paper's tiles; longer clips than those of its evaluation are cut in time, too.
    test_cfg=dict(tile=256, overlap=64, merge='cut', num_frames=48),
)
# In distributed training: a clip without blurry windows gives some layers no gradient.
find_unused_parameters = True
