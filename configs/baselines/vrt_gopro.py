# VRT with the settings that its authors publish for deblurring (8 GPUs): 300k iterations of 8 clips
# of 6 frames, 192 x 192. For the authors' checkpoint see tools/model_converters/vrt.py.
_base_ = '_base_.py'

spynet = 'https://download.openmmlab.com/mmediting/restorers/basicvsr/spynet_20210409-c6c1bd09.pth'
model = dict(
    generator=dict(type='VRT', with_cp=True),
    pixel_loss=dict(type='CharbonnierLoss', loss_weight=1.0, reduction='mean', eps=1e-9),
)

train_pipeline = [
    dict(step, gt_patch_size=192) if step['type'] == 'PairedRandomCrop' else step
    for step in _base_.train_pipeline
]
train_dataloader = dict(batch_size=1, dataset=dict(num_input_frames=6, pipeline=train_pipeline))

max_iters = 300_000
train_cfg = dict(type='ResumableTrainLoop', max_iters=max_iters, val_interval=5_000)
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='Adam', lr=4e-4, betas=(0.9, 0.99)),
    paramwise_cfg=dict(custom_keys={'spynet': dict(lr_mult=0.125), 'deform': dict(lr_mult=0.125)}),
)
param_scheduler = dict(type='CosineAnnealingLR', by_epoch=False, T_max=max_iters, eta_min=1e-7)
custom_hooks = [
    dict(type='PretrainedPart', part='generator.spynet', checkpoint=spynet),
    dict(type='FrozenStart', keys=['spynet', 'deform'], iters=20_000),
]
find_unused_parameters = True  # the frozen ones
