import pytest
import torch
from mmagic.registry import MODELS

NAFNET = dict(
    type='NAFNet', mid_channels=4, enc_blk_nums=[1, 1], middle_blk_num=1, dec_blk_nums=[1, 1]
)


@pytest.fixture(scope='module')
def net(randomise):
    return randomise(MODELS.build(dict(type='FrameByFrame', generator=NAFNET)))


@pytest.mark.parametrize('shape', [(2, 3, 3, 16, 20), (1, 1, 3, 17, 31)], ids=str)
@pytest.mark.parametrize('training', [True, False])
def test_each_frame_is_restored_alone(net, shape, training):
    lqs, sizes = torch.rand(shape), []
    hook = net.generator.register_forward_hook(lambda _, args, out: sizes.append(len(args[0])))
    with torch.set_grad_enabled(training):
        out = net(lqs)
    hook.remove()
    frames = shape[0] * shape[1]
    assert sizes == ([frames] if training else [1] * frames)
    assert out.requires_grad == training
    assert out.shape == lqs.shape
    for clip, restored in zip(lqs, out, strict=True):
        for frame, expected in zip(clip, restored, strict=True):
            torch.testing.assert_close(net.generator(frame[None])[0], expected)


def test_single_frames_may_come_without_time(net):
    lqs = torch.rand(2, 3, 16, 20)
    torch.testing.assert_close(net(lqs), net(lqs[:, None])[:, 0])
    loss = MODELS.build(dict(type='FrameByFrameLoss', loss=dict(type='PSNRLoss')))
    target = torch.rand_like(lqs)
    torch.testing.assert_close(loss(lqs, target), loss(lqs[:, None], target[:, None]))


def test_loss_is_the_mean_over_frames():
    loss = MODELS.build(dict(type='FrameByFrameLoss', loss=dict(type='PSNRLoss')))
    pred, target = torch.rand(2, 2, 3, 3, 8, 8)
    error = (pred - target).square().mean((2, 3, 4))  # of each frame
    torch.testing.assert_close(loss(pred, target), 10 * torch.log10(error + 1e-8).mean())
