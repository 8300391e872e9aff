import pytest
import torch
import torch.nn.functional as F
from mmagic.registry import MODELS

from bsst_plugin.models import CompactDecoder, CompactEncoder
from bsst_plugin.models.compact import PATH_TIMES
from bsst_plugin.models.motion_path import path_differences


def blocks_of_4(frames):
    """What each 4 x 4 block of pixels becomes, by a loop."""
    b, c, h, w = frames.shape
    out = torch.empty(b, 16 * c, h // 4, w // 4)
    for channel in range(c):
        for dy in range(4):
            for dx in range(4):
                out[:, 16 * channel + 4 * dy + dx] = frames[:, channel, dy::4, dx::4]
    return out


@pytest.fixture
def frames():
    return torch.rand(2, 3, 12, 20)


@pytest.fixture
def velocity():
    return torch.randn(2, 2, 3, 5)


def test_encoder_is_its_description(randomise, frames, velocity):
    encoder = randomise(CompactEncoder(channels=6, num_blocks=1))
    *passed_on, shallow, feature = encoder(frames, velocity)
    assert passed_on[0] is frames and passed_on[1] is velocity
    differences = path_differences(frames, velocity, PATH_TIMES)
    mix = encoder.along_path[0]
    path = torch.einsum('bckhw,dck->bdhw', 4 * differences, mix.weight.view(8, 3, -1))
    path = F.leaky_relu(path + mix.bias.view(-1, 1, 1), 0.1)
    speed = (velocity[:, :1] ** 2 + velocity[:, 1:] ** 2).sqrt()
    parts = (blocks_of_4(frames), velocity / 4, speed / 4, blocks_of_4(path))
    conv = encoder.to_quarter[0]
    expected = F.conv2d(torch.cat(parts, 1), conv.weight, conv.bias, padding=1)
    torch.testing.assert_close(shallow, F.leaky_relu(expected, 0.1))
    torch.testing.assert_close(feature, encoder.blocks(shallow))
    assert feature.shape == (2, 6, 3, 5)


def test_decoder_filters_along_the_path(randomise, frames, velocity):
    decoder = randomise(CompactDecoder(channels=6, num_blocks=1))
    feature, shallow = torch.rand(2, 2, 6, 3, 5)
    out = decoder(feature, (frames, velocity, shallow), 2)
    conv = decoder.merge[0]
    x = F.leaky_relu(F.conv2d(feature + shallow, conv.weight, conv.bias, padding=1), 0.1)
    x = decoder.blocks(x)
    painted, weights = decoder.to_frame(x), decoder.to_filter(x)
    differences = path_differences(frames, velocity, PATH_TIMES)
    expected = painted
    for index in range(len(PATH_TIMES)):
        weight = weights[:, 16 * index : 16 * (index + 1)]  # of the pixels of a block
        difference = blocks_of_4(differences[:, :, index].contiguous())
        expected = expected + weight.repeat(1, 3, 1, 1) * difference
    torch.testing.assert_close(blocks_of_4(out), expected)


def test_fresh_decoder_changes_nothing(frames, velocity):
    feature, shallow = torch.rand(2, 2, 6, 3, 5)
    out = CompactDecoder(6, 1)(feature, (frames, velocity, shallow), 1)
    assert not out.any()


@pytest.mark.parametrize('size', [(16, 16), (33, 50)])
@pytest.mark.parametrize('t', [1, 3])
def test_in_a_network(tiny_generator, randomise, size, t):
    config = tiny_generator(
        encoder=dict(type='CompactEncoder', channels=8),
        decoder=dict(type='CompactDecoder', channels=8),
    )
    net = randomise(MODELS.build(config))
    clip = torch.rand(1, t, 3, *size)
    out = net(clip)
    assert out.shape == clip.shape
    out.sum().backward()
    parts = [*net.encoder.parameters(), *net.decoder.parameters()]
    assert all(p.grad is not None for p in parts)
    # Without motion there is nothing along the path to filter.
    assert t == 1 or all(p.grad.any() for p in parts)
