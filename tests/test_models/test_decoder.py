import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from bsst_plugin.models import FrameDecoder
from bsst_plugin.models.decoder import ShiftBlock, spatial_shift

# (dy, dx) of each of the 32 shifted channels.
TABLE = [
    *((8, 8), (8, 4), (8, 0), (8, -4), (8, -8), (-8, 8), (-8, 4), (-8, 0), (-8, -4), (-8, -8)),
    *((4, 8), (4, -8), (0, 8), (0, -8), (-4, 8), (-4, -8)),
    *(
        shift
        for shift in ((4, 4), (4, 0), (4, -4), (0, 4), (0, -4), (-4, 4), (-4, 0), (-4, -4))
        for _ in range(2)
    ),
]


def shift_by_loop(x):
    out = torch.zeros_like(x)
    _, c, h, w = x.shape
    for channel, i, j in np.ndindex(c, h, w):
        dy, dx = TABLE[channel]
        if 0 <= i - dy < h and 0 <= j - dx < w:
            out[:, channel, i, j] = x[:, channel, i - dy, j - dx]
    return out


@pytest.mark.parametrize('size', [(20, 17), (8, 8), (3, 30), (1, 1)])
def test_spatial_shift_is_the_table(size):
    x = torch.randn(2, 32, *size)
    assert torch.equal(spatial_shift(x), shift_by_loop(x))


@pytest.mark.parametrize('channels', [8, 16, 24, 40, 64])
def test_other_widths_shift_by_the_same_distances(channels):
    x = torch.zeros(1, channels, 40, 40)
    x[:, :, 20, 20] = 1
    moved = {tuple((p[1:] - 20).tolist()) for p in spatial_shift(x)[0].nonzero()}
    assert spatial_shift(x).sum() == channels
    assert set(TABLE[16:]) <= moved <= set(TABLE)


class Recorder(nn.Module):
    def __init__(self):
        super().__init__()
        self.calls = []

    def forward(self, *inputs):
        self.calls.append(inputs)
        return inputs[0]


@pytest.mark.parametrize('t', [1, 2, 3])
def test_frames_exchange_half_of_their_channels_within_their_clip(t):
    block = ShiftBlock(64)
    merge, refine = Recorder(), Recorder()
    block.merge, block.refine = nn.ModuleList([merge] * 4), nn.ModuleList([refine] * 4)
    x = torch.randn(2 * t, 64, 4, 5)
    assert torch.equal(block(x, t), x)  # rolled forward and back twice
    for round_, (mixed, arrived) in enumerate(merge.calls):
        for clip in range(2):
            for frame in range(t):
                here, before = clip * t + frame, clip * t + (frame - 1) % t
                if round_ % 2 == 0:  # the second half of the frame before arrives
                    expected = torch.cat((x[before, 32:], x[here, :32]))
                    new = expected[:32]
                else:  # and goes back
                    expected = x[here]
                    new = expected[32:]
                assert torch.equal(mixed[here], expected)
                assert torch.equal(arrived[here], shift_by_loop(new[None])[0])


def test_each_round_merges_then_refines(randomise):
    block = randomise(ShiftBlock(64))
    t, x = 3, torch.randn(3, 64, 4, 5)
    y = x
    for index in range(4):
        step = 32 if index % 2 == 0 else -32
        y = y.reshape(t * 64, 4, 5).roll(step, 0).view(t, 64, 4, 5)
        new = y[:, :32] if step > 0 else y[:, 32:]
        y = block.refine[index](block.merge[index](y, shift_by_loop(new)))
    torch.testing.assert_close(block(x, t), y, atol=1e-5, rtol=1e-4)


def test_decoder_is_its_description(randomise):
    decoder = randomise(FrameDecoder(channels=6, shallow_channels=16, num_blocks=2))
    decoder = decoder.double()
    feature, half, full = (torch.randn(4, c, s, s).double() for c, s in ((6, 4), (16, 8), (16, 16)))
    x = F.interpolate(feature, scale_factor=2, mode='bilinear', align_corners=False)
    x = F.conv2d(x, decoder.up_half.weight) + decoder.skip_half(half)
    for block in decoder.shift_blocks:
        x = block(x, 2)
    x = F.pixel_shuffle(F.conv2d(x, decoder.up_full.weight, decoder.up_full.bias, padding=1), 2)
    x = F.conv2d(F.leaky_relu(x, 0.1), decoder.conv_full.weight, padding=1)
    x = decoder.refine_full(x + decoder.skip_full(full))
    expected = F.conv2d(x, decoder.to_frame.weight, padding=1)
    assert expected.shape == (4, 3, 16, 16)
    scale = expected.abs().max()
    torch.testing.assert_close(decoder(feature, (full, half), 2) / scale, expected / scale)
