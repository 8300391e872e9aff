# The small model that ships with the package, trained on clips rendered on the fly:
#     python tools/dataset_converters/photographs.py data/photographs
#     python tools/fit_path.py configs/bsstnet_small.py work_dirs/path.pth
#     python tools/fit_small.py configs/bsstnet_small.py work_dirs/frames.pth --frames \
#         --start work_dirs/path.pth
#     python tools/fit_small.py configs/bsstnet_small.py work_dirs/first.pth \
#         --start work_dirs/frames.pth
#     python tools/fit_small.py configs/bsstnet_small.py work_dirs/second.pth --second \
#         --start work_dirs/first.pth
#     python tools/fit_small.py configs/bsstnet_small_scales.py work_dirs/small.pth --scales \
#         --start work_dirs/second.pth
# All parts together, on clips that are always new, are trained by configs/bsstnet_small_together.py
# on a CPU, and with a GPU by
#     python tools/train.py configs/bsstnet_small.py --resume \
#         --cfg-options load_from=work_dirs/small.pth
# The learning rate stays constant, so that training may stop whenever the validation curve is
# flat; configs/bsstnet_small_cooldown.py then brings it to zero.
_base_ = ['_base_/default_runtime.py', '_base_/models/bsstnet.py']

channels = 48
model = dict(
    generator=dict(
        encoder=dict(_delete_=True, type='CompactEncoder', channels=channels, num_blocks=2),
        flow_estimator=dict(_delete_=True, type='DISFlow'),
        backbone=dict(channels=channels, num_branches=1, alignment=dict(deform_groups=4)),
        fusion=dict(in_channels=2 * channels, channels=channels, conv_groups=1, num_groups=0),
        neck=dict(channels=channels, dim=96, depth=1, hidden_channels=8),
        decoder=dict(
            _delete_=True,
            type='CompactDecoder',
            channels=channels,
            num_blocks=4,
            second_blocks=2,
        ),
        scales=dict(type='ScaleMixture', known_channels=channels),
        mid_exposure=dict(type='MidExposure', known_channels=channels),
    ),
    pixel_loss=dict(_delete_=True, type='FrameRMSELoss', eps=1e-3),
)

data_root = 'data/photographs'
capture = dict(
    noise_share=0.25,
    jpeg_share=0.15,
    still_share=0.05,
    exposure=(0.05, 1.0),
    video_share=0.35,
    # Pairs that are made from real video are averages of few frames, mostly of pixel values.
    averaged_share=0.5,
    averaged_step=8.0,
)
train_dataloader = dict(
    num_workers=1,
    batch_size=2,
    persistent_workers=True,
    sampler=dict(type='ResumableSampler'),
    dataset=dict(
        type='RenderedClips',
        data_root=data_root,
        split='train',
        length=1_000_000,
        # A multiple of 64, a window: others are padded to it, which costs time. On frames of 64
        # the flow is poor.
        settings=dict(num_frames=8, size=128, blur=(4.0, 26.0)),
        # What is hard in real video is not all rendered; averages of 3 frames, of which the
        # default has few, are those that can be undone.
        capture=dict(capture, video_share=0.6, averaged_frames=(2, 9)),
        pipeline=[
            dict(type='Flip', keys=['img', 'gt'], flip_ratio=0.5, direction='horizontal'),
            dict(type='Flip', keys=['img', 'gt'], flip_ratio=0.5, direction='vertical'),
            dict(type='RandomTransposeHW', keys=['img', 'gt'], transpose_ratio=0.5),
            dict(type='PackInputs'),
        ],
    ),
)
val_dataloader = dict(
    num_workers=1,
    batch_size=1,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type='RenderedClips',
        data_root=data_root,
        split='val',
        length=60,
        # Frames at rest without noise are their own sharp ones: infinitely many dB.
        settings=dict(num_frames=8, size=128, blur=(8.0, 24.0), slowest=0.25),
        capture=dict(capture, still_share=0.0),
        pipeline=[dict(type='PackInputs')],
    ),
)
test_dataloader = val_dataloader
val_evaluator = [dict(type='PSNR'), dict(type='PSNR', pred_key='input', prefix='input')]
test_evaluator = val_evaluator
val_cfg = dict(type='MultiValLoop')
test_cfg = dict(type='MultiTestLoop')

train_cfg = dict(type='ResumableTrainLoop', max_iters=1_000_000, val_interval=200)
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=1e-3, betas=(0.9, 0.99), weight_decay=0.0),
    # tools/fit_small.py saw more clips at a time.
    paramwise_cfg=dict(custom_keys={'decoder.to_guess': dict(lr_mult=0.1)}),
    clip_grad=dict(max_norm=0.1),
)
param_scheduler = [dict(type='LinearLR', start_factor=0.02, by_epoch=False, begin=0, end=200)]
# The weights that are validated and saved are averages over about the last 500 iterations.
custom_hooks = [dict(type='EMAHook', momentum=0.002, begin_iter=200)]
default_hooks = dict(checkpoint=dict(interval=200, max_keep_ckpts=2))
