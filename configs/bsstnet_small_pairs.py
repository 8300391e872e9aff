# The small model on pairs of your own video, which nothing was trained on:
#     python tools/dataset_converters/synthesize_blur.py my.mp4 data/pairs --split test --frames 5
#     python tools/test.py configs/bsstnet_small_pairs.py bsst_plugin/weights/bsstnet_small.pth
_base_ = 'bsstnet_small.py'

val_dataloader = dict(
    _delete_=True,
    num_workers=1,
    batch_size=1,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type='VideoWindows',
        metainfo=dict(dataset_type='pairs', task_name='deblur'),
        data_root='data/pairs',
        data_prefix=dict(img='test/blur', gt='test/GT'),
        num_frames=12,
        pipeline=[
            dict(type='LoadFrames', key='img', channel_order='rgb'),
            dict(type='LoadFrames', key='gt', channel_order='rgb'),
            dict(type='PackInputs', meta_keys=['video', 'window', 'first_frame', 'scored_frames']),
        ],
    ),
)
test_dataloader = val_dataloader
val_evaluator = [dict(type='DeblurringMetrics')]
test_evaluator = val_evaluator
