# Pairs in GoPro's layout, DATA_ROOT/{train,test}/{blur,GT}/VIDEO/NNNNN.png.
data_root = 'data/gopro'

train_pipeline = [
    dict(type='GenerateSegmentIndices', interval_list=[1], filename_tmpl='{:05d}.png'),
    dict(type='LoadFrames', key='img', channel_order='rgb'),
    dict(type='LoadFrames', key='gt', channel_order='rgb'),
    dict(type='SetValues', dictionary=dict(scale=1)),
    dict(type='PairedRandomCrop', gt_patch_size=256),
    dict(type='Flip', keys=['img', 'gt'], flip_ratio=0.5, direction='horizontal'),
    dict(type='Flip', keys=['img', 'gt'], flip_ratio=0.5, direction='vertical'),
    dict(type='RandomTransposeHW', keys=['img', 'gt'], transpose_ratio=0.5),
    dict(type='PackInputs'),
]
test_pipeline = [
    dict(type='LoadFrames', key='img', channel_order='rgb'),
    dict(type='LoadFrames', key='gt', channel_order='rgb'),
    dict(type='PackInputs', meta_keys=['video', 'window', 'first_frame', 'scored_frames']),
]
# For MMagicInferencer, which knows these names.
demo_pipeline = [
    dict(type='GenerateSegmentIndices', interval_list=[1]),
    dict(type='LoadImageFromFile', key='img', channel_order='rgb'),
    dict(type='PackInputs'),
]

train_dataloader = dict(
    num_workers=4,
    batch_size=1,
    persistent_workers=True,
    sampler=dict(type='ResumableSampler', shuffle=True),
    dataset=dict(
        type='SeededFramesDataset',
        metainfo=dict(dataset_type='gopro', task_name='deblur'),
        data_root=data_root,
        data_prefix=dict(img='train/blur', gt='train/GT'),
        num_input_frames=24,
        pipeline=train_pipeline,
    ),
)
# The paper's protocol: windows of 48 frames, of which all but the outer two at each end are scored,
# each frame once, in half precision (on a GPU). The tiles are in the model's test_cfg.
val_dataloader = dict(
    num_workers=1,
    batch_size=1,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type='VideoWindows',
        metainfo=dict(dataset_type='gopro', task_name='deblur'),
        data_root=data_root,
        data_prefix=dict(img='test/blur', gt='test/GT'),
        num_frames=48,
        pipeline=test_pipeline,
    ),
)
test_dataloader = val_dataloader

val_evaluator = [dict(type='DeblurringMetrics')]
test_evaluator = val_evaluator
val_cfg = dict(type='MultiValLoop', fp16=True)
test_cfg = dict(type='MultiTestLoop', fp16=True)
