import cv2
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from mmagic.registry import MODELS

from bsst_plugin.models.scale_mixture import ScaleMixture, smaller_residuals

N, T, H, W = 2, 3, 64, 80


@pytest.fixture
def given_to_it():
    """Frames, residual and features of two clips of three frames."""
    torch.manual_seed(0)
    frames = torch.rand(N, T, 3, H, W)
    return frames, 0.1 * torch.randn(N * T, 3, H, W), torch.randn(N * T, 6, H // 4, W // 4)


def negative(frames):
    """A restoration that is easily told from others."""
    return 0.5 - frames.flatten(0, 1)


def means(frames, side):
    """Means of squares, by OpenCV: ``(b, 3, h, w)``."""
    out = []
    for frame in frames.permute(0, 2, 3, 1).numpy():
        size = (frame.shape[1] // side, frame.shape[0] // side)
        out.append(cv2.resize(frame, size, interpolation=cv2.INTER_AREA))
    return torch.from_numpy(np.stack(out)).permute(0, 3, 1, 2)


def test_smaller_frames_are_restored(given_to_it):
    frames = given_to_it[0]
    halved, quartered = smaller_residuals(frames, negative)
    torch.testing.assert_close(halved, 0.5 - means(frames.flatten(0, 1), 2))
    torch.testing.assert_close(quartered, 0.5 - means(frames.flatten(0, 1), 4))


def test_what_is_too_small_is_made_of_what_is_larger():
    frames = torch.rand(1, 2, 3, 40, 100)
    restored = []

    def restore(frames):
        restored.append(frames.shape)
        return negative(frames)

    halved, quartered = smaller_residuals(frames, restore)
    assert restored == [(1, 2, 3, 20, 50)]
    torch.testing.assert_close(quartered, means(halved, 2))
    halved, quartered = smaller_residuals(frames[..., :16, :], restore)
    assert len(restored) == 1
    assert halved.shape == (2, 3, 8, 50) and quartered.shape == (2, 3, 4, 25)
    assert not halved.any() and not quartered.any()


def test_fresh_one_leaves_the_residual(given_to_it):
    assert torch.equal(ScaleMixture(6).eval()(*given_to_it, negative), given_to_it[1])


def cubic(image, size):
    """Larger by OpenCV, whose kernel is the same: ``(b, 3, h, w)``."""
    frames = image.permute(0, 2, 3, 1).numpy()
    out = [cv2.resize(f, size[::-1], interpolation=cv2.INTER_CUBIC) for f in frames]
    return torch.from_numpy(np.stack(out)).permute(0, 3, 1, 2)


@torch.no_grad()
def test_it_is_its_description(given_to_it, randomise, monkeypatch):
    scales = randomise(ScaleMixture(6, channels=8)).eval()
    frames, residual, features = given_to_it
    seen = []

    def corrected(frames, residual, candidates, *known):
        seen.append((frames, residual, candidates, *known))
        return ScaleMixture.corrected(scales, frames, residual, candidates, *known)

    monkeypatch.setattr(scales, 'corrected', corrected)
    out = scales(*given_to_it, negative)
    halved = cubic(0.5 - means(frames.flatten(0, 1), 2), (H, W))
    quartered = cubic(0.5 - means(frames.flatten(0, 1), 4), (H, W))
    detail = residual - cubic(means(residual, 2), (H, W))
    candidates = (residual, detail, halved - residual, quartered - halved)
    found = [torch.cat(parts) for parts in zip(*seen, strict=True)]
    expected = (frames.flatten(0, 1), residual, torch.stack(candidates, 2), features)
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(out, scales.corrected(*expected), atol=1e-4, rtol=1e-3)


def test_all_its_parameters_learn_and_what_is_smaller_does_not(given_to_it, randomise):
    scales = randomise(ScaleMixture(6, channels=8))
    frames, residual, features = given_to_it
    weight = torch.ones((), requires_grad=True)
    residual.requires_grad_()
    scales(frames, residual, features, lambda x: weight * negative(x)).square().mean().backward()
    assert all(p.grad.any() for p in scales.parameters())
    assert residual.grad.any() and weight.grad is None


@pytest.fixture
def network(tiny_generator, randomise):
    config = tiny_generator(scales=dict(type='ScaleMixture', known_channels=16, channels=8))
    return randomise(MODELS.build(config)).eval()


@torch.no_grad()
def test_of_a_network_it_sees_what_it_makes_of_smaller_frames(network):
    frames = torch.rand(N, T, 3, 50, 70)
    padded, residual, encoded, refined = network.residual(frames)
    assert padded.shape[-2:] == residual.shape[-2:] == (64, 96)
    without = dict(network.named_children())

    def restore(smaller):
        h, w = smaller.shape[-2:]
        alone = network.residual(smaller, refined=False)
        assert not alone[3].any()
        return alone[1][..., :h, :w]

    features = torch.cat((encoded, refined), 1)
    expected = without['scales'](padded, residual, features, restore)
    expected = frames + expected.unflatten(0, (N, T))[..., :50, :70]
    torch.testing.assert_close(network(frames), expected)
    network.scales = None
    unmixed = frames + residual.unflatten(0, (N, T))[..., :50, :70]
    torch.testing.assert_close(network(frames), unmixed)
    assert not torch.allclose(expected, unmixed, atol=1e-3)


@torch.no_grad()
def test_refined_features_are_those_of_refine(network):
    frames = torch.rand(1, T, 3, 64, 64)
    _, _, encoded, refined = network.residual(frames)
    motion = network.motion(frames)
    expected = network.refine(encoded[None], *motion)[0]
    torch.testing.assert_close(refined, expected)


def test_candidates_that_are_the_sharp_frames_are_found(given_to_it):
    # It learns in a moment to take all of a difference, where that is right everywhere.
    frames, _, features = given_to_it
    sharp = F.interpolate(torch.rand(N * T, 3, H // 4, W // 4), size=(H, W), mode='bicubic')
    target = sharp - frames.flatten(0, 1)
    residual = 0.5 * target
    scales = ScaleMixture(6, channels=8)
    optimizer = torch.optim.AdamW(scales.parameters(), 1e-2)
    parts = (frames.flatten(0, 1), residual, features, 0 * target[..., ::2, ::2])
    parts = (*parts, 0 * target[..., ::4, ::4])
    for _ in range(60):
        error = (scales.mixed(*parts) - target).square().mean()
        optimizer.zero_grad()
        error.backward()
        optimizer.step()
    assert error < 0.1 * (residual - target).square().mean()
