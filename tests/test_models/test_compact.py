import pytest
import torch
import torch.nn.functional as F
from mmagic.registry import MODELS

from bsst_plugin.models import CompactDecoder, CompactEncoder


def blocks_of_4(frames):
    """What each 4 x 4 block of pixels becomes, by a loop."""
    b, c, h, w = frames.shape
    out = torch.empty(b, 16 * c, h // 4, w // 4)
    for channel in range(c):
        for dy in range(4):
            for dx in range(4):
                out[:, 16 * channel + 4 * dy + dx] = frames[:, channel, dy::4, dx::4]
    return out


def test_encoder_is_its_description(randomise):
    encoder = randomise(CompactEncoder(channels=6, num_blocks=1))
    frames = torch.rand(2, 3, 12, 20)
    conv = encoder.to_quarter[0]
    shallow = F.leaky_relu(F.conv2d(blocks_of_4(frames), conv.weight, conv.bias, padding=1), 0.1)
    out = encoder(frames)
    torch.testing.assert_close(out[0], shallow)
    torch.testing.assert_close(out[1], encoder.blocks(shallow))
    assert out[1].shape == (2, 6, 3, 5)


def test_decoder_is_the_counterpart(randomise):
    decoder = randomise(CompactDecoder(channels=6, num_blocks=1))
    feature, shallow = torch.rand(2, 2, 6, 3, 5)
    out = decoder(feature, (shallow,), 2)
    conv = decoder.merge[0]
    x = F.leaky_relu(F.conv2d(feature + shallow, conv.weight, conv.bias, padding=1), 0.1)
    torch.testing.assert_close(blocks_of_4(out), decoder.to_frame(decoder.blocks(x)))


def test_fresh_decoder_changes_nothing():
    out = CompactDecoder(6, 1)(torch.rand(1, 6, 4, 4), (torch.rand(1, 6, 4, 4),), 1)
    assert not out.any()


@pytest.mark.parametrize('size', [(16, 16), (33, 50)])
def test_in_a_network(tiny_generator, randomise, size):
    config = tiny_generator(
        encoder=dict(type='CompactEncoder', channels=8),
        decoder=dict(type='CompactDecoder', channels=8),
    )
    net = randomise(MODELS.build(config))
    clip = torch.rand(1, 3, 3, *size)
    out = net(clip)
    assert out.shape == clip.shape
    out.sum().backward()
    parts = [*net.encoder.parameters(), *net.decoder.parameters()]
    assert all(p.grad is not None and p.grad.any() for p in parts)
