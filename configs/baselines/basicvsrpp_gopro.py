# BasicVSR++ with the settings that its authors publish for deblurring GoPro (8 GPUs): 200k
# iterations of 8 clips of 30 frames. The smallest frame that it takes is 256 x 256.
_base_ = '_base_.py'

spynet = 'https://download.openmmlab.com/mmediting/restorers/basicvsr/spynet_20210409-c6c1bd09.pth'
model = dict(
    generator=dict(
        type='BasicVSRPlusPlusNet', mid_channels=64, num_blocks=15, is_low_res_input=False
    ),
    pixel_loss=dict(type='CharbonnierLoss', loss_weight=1.0, reduction='mean'),
)
train_dataloader = dict(batch_size=1, dataset=dict(num_input_frames=30))

max_iters = 200_000
train_cfg = dict(type='ResumableTrainLoop', max_iters=max_iters, val_interval=5_000)
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='Adam', lr=1e-4, betas=(0.9, 0.99)),
    paramwise_cfg=dict(custom_keys={'spynet': dict(lr_mult=0.25)}),
)
param_scheduler = dict(type='CosineAnnealingLR', by_epoch=False, T_max=max_iters, eta_min=1e-7)
custom_hooks = [
    dict(type='PretrainedPart', part='generator.spynet', checkpoint=spynet),
    dict(type='FrozenStart', keys=['spynet'], iters=5_000),
]
find_unused_parameters = True  # the frozen ones
