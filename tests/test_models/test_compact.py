import cv2
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from mmagic.registry import MODELS

from bsst_plugin.models import CompactDecoder, CompactEncoder
from bsst_plugin.models.compact import EXPOSURES, ITERATIONS, RESTORATIONS, SPANS
from bsst_plugin.models.motion_path import path_contrast, path_deconvolutions


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


def added(frames, velocity):
    """What each restoration adds to those with a shorter exposure and to those of fewer steps."""
    results = path_deconvolutions(frames, velocity, EXPOSURES, ITERATIONS)
    table = {
        (i, j): results[:, :, i * len(ITERATIONS) + j]
        for i in range(len(EXPOSURES))
        for j in range(len(ITERATIONS))
    }
    none = torch.zeros_like(frames)
    before = lambda i, j: table.get((i, j), none)  # noqa: E731
    parts = [
        (before(i, j) - before(i - 1, j)) - (before(i, j - 1) - before(i - 1, j - 1))
        for i, j in table
    ]
    return torch.stack(parts, dim=2)


@pytest.mark.parametrize('t', [1, 2])
def test_encoder_is_its_description(randomise, frames, velocity, t):
    encoder = randomise(CompactEncoder(channels=6, num_blocks=1))
    restored, hints, shallow, feature = encoder(frames, velocity, t)
    torch.testing.assert_close(restored, added(frames, velocity), atol=1e-5, rtol=0)

    speed = (velocity[:, :1] ** 2 + velocity[:, 1:] ** 2).sqrt()
    strength = blocks_of_4(restored.transpose(1, 2).flatten(0, 1)).unflatten(0, (2, -1))
    strength = (strength.square().mean(2) + 1e-8).sqrt()
    clips = frames.view(-1, t, 3, 12, 20), velocity.view(-1, t, 2, 3, 5)
    contrast = path_contrast(*clips, SPANS)
    of_frames = torch.stack([contrast[index // t] for index in range(2)])
    everywhere = of_frames[:, :, None, None].expand(-1, -1, 3, 5)
    expected = torch.cat((velocity / 4, speed / 4, everywhere, 20 * strength), 1)
    torch.testing.assert_close(hints, expected)

    mix = encoder.see[0]
    seen = torch.einsum('bckhw,dck->bdhw', 4 * restored, mix.weight.view(8, 3, -1))
    seen = F.leaky_relu(seen + mix.bias.view(-1, 1, 1), 0.1)
    parts = (blocks_of_4(frames), hints, blocks_of_4(seen))
    conv = encoder.to_quarter[0]
    expected = F.conv2d(torch.cat(parts, 1), conv.weight, conv.bias, padding=1)
    torch.testing.assert_close(shallow, F.leaky_relu(expected, 0.1))
    torch.testing.assert_close(feature, encoder.blocks(shallow))
    assert feature.shape == (2, 6, 3, 5)


@pytest.fixture
def skips():
    """Restorations, hints and shallow feature."""
    hints = torch.randn(2, 3 + 2 * len(SPANS) + RESTORATIONS, 3, 5)
    return torch.randn(2, 3, RESTORATIONS, 12, 20), hints, torch.rand(2, 6, 3, 5)


def test_decoder_mixes_restorations(randomise, skips):
    decoder = randomise(CompactDecoder(channels=6, num_blocks=1))
    restored, hints, shallow = skips
    feature = torch.rand(2, 6, 3, 5)
    out = decoder(feature, skips, 2)
    conv = decoder.merge[0]
    x = F.leaky_relu(F.conv2d(feature + shallow, conv.weight, conv.bias, padding=1), 0.1)
    x = decoder.blocks(x)
    weights = decoder.to_guess(hints) + decoder.to_weights(x)
    expected = F.pixel_shuffle(decoder.to_frame(x), 4)
    for index in range(RESTORATIONS):
        weight = cv2_resize(weights[:, index], 4)
        expected = expected + weight[:, None] * restored[:, :, index]
    torch.testing.assert_close(out, expected, atol=1e-4, rtol=1e-4)


def cv2_resize(maps, factor):
    """Maps ``(b, h, w)`` enlarged by another library, bilinear."""
    size = (factor * maps.shape[2], factor * maps.shape[1])
    images = [cv2.resize(m.detach().numpy(), size, interpolation=cv2.INTER_LINEAR) for m in maps]
    return torch.from_numpy(np.stack(images))


def test_fresh_decoder_changes_nothing(skips):
    out = CompactDecoder(6, 1)(torch.rand(2, 6, 3, 5), skips, 1)
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
    # Without motion there is nothing to restore.
    assert t == 1 or all(p.grad.any() for p in parts)
