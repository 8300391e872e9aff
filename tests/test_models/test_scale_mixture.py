import cv2
import numpy as np
import pytest
import torch
from mmagic.registry import MODELS

from bsst_plugin.models.scale_mixture import ScaleMixture, smaller_residuals

N, T, H, W = 2, 3, 64, 80


@pytest.fixture
def given_to_it():
    """Frames, residual, features and residuals of halves and quarters."""
    torch.manual_seed(0)
    residuals = [0.1 * torch.randn(6, 3, H // side, W // side) for side in (1, 2, 4)]
    return torch.rand(6, 3, H, W), residuals[0], torch.randn(6, 6, H // 4, W // 4), *residuals[1:]


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


def test_smaller_frames_are_restored():
    frames = torch.rand(N, T, 3, H, W)
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
    assert torch.equal(ScaleMixture(6).eval()(*given_to_it), given_to_it[1])


def cubic(image, size):
    """Larger by OpenCV, whose kernel is the same: ``(b, 3, h, w)``."""
    frames = image.permute(0, 2, 3, 1).numpy()
    out = [cv2.resize(f, size[::-1], interpolation=cv2.INTER_CUBIC) for f in frames]
    return torch.from_numpy(np.stack(out)).permute(0, 3, 1, 2)


@torch.no_grad()
def test_it_is_its_description(given_to_it, randomise, monkeypatch):
    scales = randomise(ScaleMixture(6, channels=8)).eval()
    frames, residual, features, halved, quartered = given_to_it
    seen = []

    def corrected(frames, residual, candidates, *known):
        seen.append((frames, residual, candidates, *known))
        return ScaleMixture.corrected(scales, frames, residual, candidates, *known)

    monkeypatch.setattr(scales, 'corrected', corrected)
    out = scales(*given_to_it)
    halved, quartered = (cubic(smaller, (H, W)) for smaller in (halved, quartered))
    detail = residual - cubic(means(residual, 2), (H, W))
    candidates = (residual, detail, halved - residual, quartered - halved)
    found = [torch.cat(parts) for parts in zip(*seen, strict=True)]
    expected = (frames, residual, torch.stack(candidates, 2), features)
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(out, scales.corrected(*expected), atol=1e-4, rtol=1e-3)


def test_everything_learns(given_to_it, randomise):
    scales = randomise(ScaleMixture(6, channels=8))
    frames, *rest = given_to_it
    rest = [part.requires_grad_() for part in rest]
    scales(frames, *rest).square().mean().backward()
    assert all(p.grad.any() for p in scales.parameters())
    assert all(part.grad.any() for part in rest)


def test_smaller_frames_carry_no_gradient():
    weight = torch.ones((), requires_grad=True)
    residuals = smaller_residuals(torch.rand(1, 1, 3, 64, 64), lambda x: weight * negative(x))
    assert not any(residual.requires_grad for residual in residuals)


@pytest.fixture
def network(tiny_generator, randomise):
    config = tiny_generator(scales=dict(type='ScaleMixture', known_channels=8, channels=8))
    return randomise(MODELS.build(config)).eval()


@torch.no_grad()
def test_of_a_network_it_sees_what_it_makes_of_smaller_frames(network):
    frames = torch.rand(N, T, 3, 50, 70)
    padded, residual, encoded, _ = network.residual(frames)
    assert padded.shape[-2:] == residual.shape[-2:] == (64, 96)

    def restore(smaller):
        h, w = smaller.shape[-2:]
        return network.residual(smaller, refined=False)[1][..., :h, :w]

    smaller = smaller_residuals(padded, restore)
    expected = network.scales(padded.flatten(0, 1), residual, encoded, *smaller)
    expected = frames + expected.unflatten(0, (N, T))[..., :50, :70]
    torch.testing.assert_close(network(frames), expected)
    network.scales = None
    unmixed = frames + residual.unflatten(0, (N, T))[..., :50, :70]
    torch.testing.assert_close(network(frames), unmixed)
    assert not torch.allclose(expected, unmixed, atol=1e-3)


@torch.no_grad()
def test_smaller_frames_are_seen_alone(network):
    frames = torch.rand(1, T, 3, 64, 64)
    called = []
    network.refine = lambda *args: called.append(args)
    network.residual_alone(frames)
    assert not called


def test_it_learns_in_a_moment_to_take_more_where_that_is_right(given_to_it):
    frames, target, features, halved, quartered = given_to_it
    residual = 0.5 * target
    scales = ScaleMixture(6, channels=8)
    optimizer = torch.optim.AdamW(scales.parameters(), 1e-2)
    for _ in range(60):
        out = scales(frames, residual, features, halved, quartered)
        error = (out - target).square().mean()
        optimizer.zero_grad()
        error.backward()
        optimizer.step()
    assert error < 0.1 * (residual - target).square().mean()
