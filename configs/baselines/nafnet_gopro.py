# NAFNet (width 64), frame by frame, with the settings that its authors publish for GoPro (8 GPUs):
# 400k iterations of 64 single frames. Their NAFNetLocal is the same network on tiles of 256.
_base_ = '_base_.py'

model = dict(
    generator=dict(
        type='FrameByFrame',
        generator=dict(
            type='NAFNet',
            img_channels=3,
            mid_channels=64,
            enc_blk_nums=[1, 1, 1, 28],
            middle_blk_num=1,
            dec_blk_nums=[1, 1, 1, 1],
        ),
    ),
    pixel_loss=dict(type='FrameByFrameLoss', loss=dict(type='PSNRLoss')),
)
train_dataloader = dict(num_workers=8, batch_size=8, dataset=dict(num_input_frames=1))

max_iters = 400_000
train_cfg = dict(type='ResumableTrainLoop', max_iters=max_iters, val_interval=20_000)
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=1e-3, betas=(0.9, 0.9), weight_decay=1e-3),
    clip_grad=dict(max_norm=0.01),
)
param_scheduler = dict(type='CosineAnnealingLR', by_epoch=False, T_max=max_iters, eta_min=1e-7)
auto_scale_lr = dict(base_batch_size=64)
