import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mmagic.registry import MODELS
from scipy.ndimage import map_coordinates
from skimage.data import astronaut

from bsst_plugin.models.mid_exposure import MidExposure
from bsst_plugin.models.motion_path import neighbour_differences, path_corrections
from bsst_plugin.models.scale_mixture import detail

N, T, H, W = 2, 3, 32, 40


@pytest.fixture
def given_to_it():
    """Frames, residual, features and flows of two clips of three frames."""
    torch.manual_seed(0)
    flows = tuple(torch.randn(2, N, T - 1, 2, H // 4, W // 4))
    residual = 0.1 * torch.randn(6, 3, H, W)
    return torch.rand(6, 3, H, W), residual, torch.randn(6, 6, H // 4, W // 4), flows


def seen_by(module, *inputs):
    """Candidates and what else it knows."""
    seen = []

    def corrected(frames, residual, candidates, *known):
        seen.append((candidates, torch.cat(known, 1)))
        return residual

    module.corrected = corrected
    with torch.no_grad():
        module(*inputs)
    return tuple(torch.cat(parts) for parts in zip(*seen, strict=True))


def moved(image, way):
    """An image ``(3, h, w)`` at places that are a way ``(2, h/4, w/4)`` further, by scipy."""
    y, x = np.mgrid[: image.shape[1], : image.shape[2]].astype(float)
    quarter = ((y + 0.5) / 4 - 0.5, (x + 0.5) / 4 - 0.5)
    dx, dy = (4 * map_coordinates(part, quarter, order=1, mode='nearest') for part in way)
    return np.stack(
        [map_coordinates(part, [y + dy, x + dx], order=1, mode='nearest') for part in image]
    )


def test_fresh_one_leaves_the_residual(given_to_it):
    assert torch.equal(MidExposure(6).eval()(*given_to_it), given_to_it[1])


def test_candidates_and_what_it_knows_are_its_description(given_to_it):
    frames, residual, features, (forward, backward) = given_to_it
    candidates, known = seen_by(MidExposure(6), *given_to_it)
    restored = frames + residual
    assert torch.equal(candidates[:, :, 0], residual)
    assert torch.equal(candidates[:, :, 1], detail(residual))
    neighbours = neighbour_differences(restored.view(N, T, 3, H, W), forward, backward, False)
    torch.testing.assert_close(candidates[:, :, 11:], neighbours)
    assert torch.equal(known[:, :6], features)
    for clip in range(N):
        for frame in range(T):
            to_next = backward[clip, frame] if frame < T - 1 else -forward[clip, frame - 1]
            to_last = forward[clip, frame - 1] if frame else -backward[clip, frame]
            velocity, acceleration = (to_next - to_last) / 2, to_next + to_last
            k = T * clip + frame
            for at, way in ((6, velocity / 4), (9, acceleration / 4)):
                torch.testing.assert_close(known[k, at : at + 2], way)
                torch.testing.assert_close(known[k, at + 2] ** 2, way.square().sum(0))
            image = restored[k].double().numpy()
            v, a = velocity.double().numpy(), acceleration.double().numpy()
            camera = np.sort(a.reshape(2, -1))[:, (a[0].size - 1) // 2, None, None]
            along = (moved(image, 0.06 * v) - moved(image, -0.06 * v)) / 2
            expected = [moved(image, way / 24) - image for way in (a, camera + 0 * a)] + [along]
            for index, part in enumerate(expected, 2):
                np.testing.assert_allclose(candidates[k, :, index], part, atol=1e-4)
            for index, skew in zip((5, 7, 9), (-0.5, 0, 0.5), strict=True):
                middle = torch.from_numpy(moved(image, 2 / 9 * skew * v)).float()[None]
                change = path_corrections(
                    frames[k : k + 1], middle, velocity[None], ((2.2, 1.0), (1.0, 1.0)), skew
                )
                got = candidates[k : k + 1, :, index : index + 2]
                torch.testing.assert_close(got, change, atol=1e-4, rtol=1e-3)


def test_what_accelerates_is_moved_to_where_it_was_in_the_middle():
    # A photograph on its way v u + a u^2 / 2, seen at its mean place, as restorations show it.
    photo = astronaut()[100:228, 100:260].transpose(2, 0, 1).astype(float) / 255
    acceleration, speed = 48.0, 5.0
    times = (np.arange(100) + 0.5) / 100 - 0.5
    mean = np.mean(speed * times + acceleration * times**2 / 2)
    middle = torch.from_numpy(photo).float()
    way = np.zeros((2, 32, 40))
    way[0] = -mean / 4
    at_mean = torch.from_numpy(moved(photo, way)).float()
    backward = torch.zeros(1, 2, 2, 32, 40)
    for step, sign in enumerate((-1, 1)):
        backward[0, step, 0] = (speed + sign * acceleration / 2) / 4
    frames = at_mean.expand(3, -1, -1, -1)
    residual, features = torch.zeros_like(frames), torch.zeros(3, 6, 32, 40)
    candidates, _ = seen_by(MidExposure(6), frames, residual, features, (-backward, backward))
    inside = (slice(None), slice(None), slice(8, -8))
    before = (at_mean - middle)[inside].square().mean()
    for way in (2, 3):
        after = (at_mean + candidates[1, :, way] - middle)[inside].square().mean()
        assert after < 0.25 * before


def test_it_sees_the_same_frame_by_frame(given_to_it, randomise):
    module = randomise(MidExposure(6, channels=8)).eval()
    together = module(*given_to_it)
    with torch.no_grad():
        torch.testing.assert_close(module(*given_to_it), together, atol=1e-4, rtol=1e-3)


def test_everything_learns(given_to_it, randomise):
    module = randomise(MidExposure(6, channels=8))
    frames, residual, features, flows = given_to_it
    residual.requires_grad_()
    features.requires_grad_()
    module(frames, residual, features, flows).square().mean().backward()
    assert all(p.grad.any() for p in module.parameters())
    assert residual.grad.any() and features.grad.any()


@pytest.fixture(scope='module')
def network(tiny_generator, randomise):
    own = dict(known_channels=8, channels=8)
    config = tiny_generator(
        scales=dict(type='ScaleMixture', **own), mid_exposure=dict(type='MidExposure', **own)
    )
    return randomise(MODELS.build(config)).eval()


@torch.no_grad()
def test_of_a_network_it_corrects_what_was_mixed(network):
    frames = torch.rand(N, T, 3, 64, 64)
    given = []
    handle = network.mid_exposure.register_forward_hook(lambda m, x, y: given.append((*x, y)))
    out = network(frames)
    handle.remove()
    ((flat, residual, encoded, flows, corrected),) = given
    assert torch.equal(flat, frames.flatten(0, 1))
    torch.testing.assert_close(out, frames + corrected.unflatten(0, (N, T)))
    torch.testing.assert_close(encoded, network.residual(frames)[2])
    for flow, expected in zip(flows, network.motion(frames), strict=False):
        torch.testing.assert_close(flow, expected)
    corrector, network.mid_exposure = network.mid_exposure, None
    torch.testing.assert_close(network(frames), frames + residual.unflatten(0, (N, T)))
    network.mid_exposure = corrector
    assert not torch.allclose(corrected, residual, atol=1e-3)


@settings(max_examples=8, deadline=None)
@given(st.integers(1, 4), st.integers(16, 70), st.integers(16, 70))
@torch.no_grad()
def test_any_size_and_length(network, t, h, w):
    out = network(torch.rand(1, t, 3, h, w))
    assert out.shape == (1, t, 3, h, w) and torch.isfinite(out).all()
