# NAFNet, 0.97 M parameters, frame by frame.
_base_ = '_base_.py'

model = dict(
    generator=dict(
        type='FrameByFrame',
        generator=dict(
            type='NAFNet',
            img_channels=3,
            mid_channels=24,
            enc_blk_nums=[1, 1, 2],
            middle_blk_num=2,
            dec_blk_nums=[1, 1, 1],
        ),
    ),
)
