from itertools import product

import cv2
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from mmagic.registry import MODELS

from bsst_plugin.models import CompactDecoder, CompactEncoder
from bsst_plugin.models.blur_path import likeliest_path, path_evidence
from bsst_plugin.models.compact import (
    CANDIDATES,
    EXPOSURES,
    GAMMAS,
    HINTS,
    ITERATIONS,
    PATH_PARTS,
    SPANS,
)
from bsst_plugin.models.motion_path import (
    frame_velocity,
    neighbour_differences,
    path_contrast,
    path_deconvolutions,
)


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


def added(frames, velocity, exposures):
    """What is new in each restoration, whose neighbour in all three settings is before it."""
    results = path_deconvolutions(frames, velocity, GAMMAS, exposures, ITERATIONS)
    settings = (GAMMAS, exposures, ITERATIONS)
    places = list(product(*map(range, map(len, settings))))
    table = dict(zip(places, results.unbind(2), strict=True))
    parts = []
    for place in places:
        part = torch.zeros_like(frames)
        for back in product((0, 1), repeat=3):  # inclusion and exclusion
            before = tuple(a - b for a, b in zip(place, back, strict=True))
            part = part + (-1) ** sum(back) * table.get(before, torch.zeros_like(frames))
        parts.append(part)
    return torch.stack(parts, dim=2)


@pytest.mark.parametrize('t', [1, 2])
def test_encoder_is_its_description(randomise, frames, t):
    encoder = randomise(CompactEncoder(channels=6, num_blocks=1))
    n = 2 // t
    flows = torch.randn(2, n, t - 1, 2, 3, 5)
    velocity = frame_velocity(*flows)
    *given, candidates, hints, encoded, feature = encoder(frames, *flows)
    assert all(map(torch.equal, given, (frames, *flows)))
    assert encoded is feature and feature.shape == (2, 6, 3, 5)
    clips = frames.view(n, t, 3, 12, 20)
    path, likely = likeliest_path(
        encoder.blur_path(path_evidence(clips, *flows)), velocity.flatten(0, 1)
    )
    parts = (
        added(frames, velocity.flatten(0, 1), EXPOSURES),
        added(frames, path, PATH_PARTS),
        neighbour_differences(clips, *flows),
    )
    torch.testing.assert_close(candidates, torch.cat(parts, 2), atol=1e-5, rtol=0)

    velocities = velocity.flatten(0, 1)
    speed = (velocities[:, :1] ** 2 + velocities[:, 1:] ** 2).sqrt()
    previous, following, moved_previous, moved_following = candidates[:, :, -4:].unbind(2)
    gaps = torch.stack((previous - following, moved_previous - moved_following), 2)
    looked_at = torch.cat((candidates, gaps), 2)
    strength = blocks_of_4(looked_at.transpose(1, 2).flatten(0, 1)).unflatten(0, (2, -1))
    strength = (strength.square().mean(2) + 1e-8).sqrt()
    contrast = path_contrast(clips, velocity, SPANS)
    of_frames = contrast.reshape(2, -1)
    everywhere = of_frames[:, :, None, None].expand(-1, -1, 3, 5)
    length = (path[:, :1] ** 2 + path[:, 1:] ** 2).sqrt()
    parts = (velocities / 4, speed / 4, everywhere, 20 * strength, path / 4, length / 4, likely)
    expected = torch.cat(parts, 1)
    torch.testing.assert_close(hints, expected)

    mix = encoder.see[0]
    seen = torch.einsum('bckhw,dck->bdhw', 4 * candidates, mix.weight.view(8, 3, -1))
    seen = F.leaky_relu(seen + mix.bias.view(-1, 1, 1), 0.1)
    parts = (blocks_of_4(frames), hints, blocks_of_4(seen))
    conv = encoder.to_quarter[0]
    quarter = F.conv2d(torch.cat(parts, 1), conv.weight, conv.bias, padding=1)
    torch.testing.assert_close(feature, encoder.blocks(F.leaky_relu(quarter, 0.1)))


@pytest.fixture
def skips(frames):
    """A clip of two frames, its flows, candidates, hints and the encoder's feature."""
    hints = torch.randn(2, HINTS, 3, 5)
    candidates = torch.randn(2, 3, CANDIDATES, 12, 20)
    return frames, *torch.randn(2, 1, 1, 2, 3, 5), candidates, hints, torch.rand(2, 6, 3, 5)


def test_decoder_mixes_candidates(randomise, skips):
    decoder = randomise(CompactDecoder(channels=6, num_blocks=1))
    *_, candidates, hints, encoded = skips
    feature = torch.rand(2, 6, 3, 5)
    out = decoder(feature, skips, 2)
    merge = decoder.merge
    x = decoder.blocks(encoded + F.conv2d(feature, merge.weight, merge.bias, padding=1))
    weights = decoder.to_guess(hints) + decoder.to_weights(x)
    expected = F.pixel_shuffle(decoder.to_frame(x), 4)
    for index in range(CANDIDATES):
        weight = cv2_resize(weights[:, index], 4)
        expected = expected + weight[:, None] * candidates[:, :, index]
    torch.testing.assert_close(out, expected, atol=1e-4, rtol=1e-4)


def cv2_resize(maps, factor):
    """Maps ``(b, h, w)`` enlarged by another library, bilinear."""
    size = (factor * maps.shape[2], factor * maps.shape[1])
    images = [cv2.resize(m.detach().numpy(), size, interpolation=cv2.INTER_LINEAR) for m in maps]
    return torch.from_numpy(np.stack(images))


@pytest.mark.parametrize('second_blocks', [0, 1])
def test_fresh_decoder_changes_nothing(skips, second_blocks):
    out = CompactDecoder(6, 1, second_blocks)(torch.rand(2, 6, 3, 5), skips, 2)
    assert not out.any()


def test_second_pass_is_told_of_the_first(randomise, skips):
    decoder = randomise(CompactDecoder(channels=6, num_blocks=1, second_blocks=1)).eval()
    frames, forward, backward, candidates, hints, encoded = skips
    feature = torch.rand(2, 6, 3, 5)
    x, first = decoder.first_pass(candidates, hints, encoded, feature)
    ways = 4 * hints[:, :2], 4 * hints[:, HINTS - 5 : HINTS - 3]
    expected = decoder.second_pass(frames, first, x, candidates, ways, (forward, backward))
    torch.testing.assert_close(decoder(feature, skips, 2), expected)
    assert (expected - first).abs().max() > 1e-3


@pytest.mark.parametrize('second_blocks', [0, 1])
@pytest.mark.parametrize('size', [(16, 16), (33, 50)])
@pytest.mark.parametrize('t', [1, 3])
def test_in_a_network(tiny_generator, randomise, size, t, second_blocks):
    config = tiny_generator(
        encoder=dict(type='CompactEncoder', channels=8),
        decoder=dict(type='CompactDecoder', channels=8, second_blocks=second_blocks),
    )
    net = randomise(MODELS.build(config))
    clip = torch.rand(1, t, 3, *size)
    out = net(clip)
    assert out.shape == clip.shape
    out.sum().backward()
    parts = [*net.encoder.parameters(), *net.decoder.parameters()]
    fixed = set(net.encoder.blur_path.parameters())
    assert not any(p.requires_grad for p in fixed)
    parts = [p for p in parts if p not in fixed]
    assert all(p.grad is not None for p in parts)
    # Without motion there is nothing to restore.
    assert t == 1 or all(p.grad.any() for p in parts)
