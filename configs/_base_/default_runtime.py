# What every experiment shares. The plugin registers its components when it is imported.
custom_imports = dict(imports=['bsst_plugin'], allow_failed_imports=False)
default_scope = 'mmagic'

default_hooks = dict(
    timer=dict(type='IterTimerHook'),
    # Validations by iteration: there are no epochs.
    logger=dict(type='LoggerHook', interval=100, log_metric_by_epoch=False),
    param_scheduler=dict(type='ParamSchedulerHook'),
    checkpoint=dict(
        type='CheckpointHook',
        interval=5000,
        by_epoch=False,
        max_keep_ckpts=3,
        save_best='PSNR',
        rule='greater',
        backend_args=dict(backend='atomic'),
    ),
    sampler_seed=dict(type='DistSamplerSeedHook'),
    finite_loss=dict(type='FiniteLossHook'),
    comparison=dict(type='ComparisonImages', interval=10),
)

# Losses and metrics, and at each validation a few frames (blurry, output, sharp), as files in
# vis_data/ beside the log and for `tensorboard --logdir work_dirs`.
visualizer = dict(
    type='ConcatImageVisualizer',
    vis_backends=[dict(type='LocalVisBackend'), dict(type='TensorboardVisBackend')],
    fn_key='name',
    img_keys=['input', 'pred_img', 'gt_img'],
    bgr2rgb=True,
)

env_cfg = dict(
    cudnn_benchmark=False,
    mp_cfg=dict(mp_start_method='fork', opencv_num_threads=1),
    dist_cfg=dict(backend='nccl'),
)

log_level = 'INFO'
log_processor = dict(type='LogProcessor', window_size=100, by_epoch=False)
randomness = dict(seed=0)
load_from = None
resume = False
