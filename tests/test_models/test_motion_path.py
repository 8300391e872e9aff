from itertools import product

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import map_coordinates
from skimage.data import astronaut

from bsst_plugin.models.motion_path import (
    _power,
    frame_acceleration,
    frame_velocity,
    neighbour_differences,
    path_contrast,
    path_corrections,
    path_deconvolutions,
)


def sample(image, y, x):
    """Bilinear, the border repeated."""
    return map_coordinates(image, [y, x], order=1, mode='nearest')


def richardson_lucy(frame, velocity, gamma, exposure, steps, start=None, skew=0):
    """A frame ``(3, h, w)`` after so many steps, by another library."""
    y, x = np.mgrid[: frame.shape[1], : frame.shape[2]].astype(float)
    quarter = ((y + 0.5) / 4 - 0.5, (x + 0.5) / 4 - 0.5)  # where a pixel lies in the velocity
    vx, vy = (4 * sample(part, *quarter) for part in velocity)

    def blur(image, skew):
        parts = [exposure / 3 * s for s in (-1 - skew, 0, 1 - skew)]
        places = [(y + s * vy, x + s * vx) for s in parts]
        return np.mean([[sample(c, *place) for c in image] for place in places], axis=0)

    darkest = 1 / 255
    light = frame.clip(darkest, 1) ** gamma
    last = now = light if start is None else start.clip(darkest, 1) ** gamma
    for _ in range(steps):
        power = (1.9 * now + 0.1 * last) / (0.1 * now + 1.9 * last)  # about (now / last) ** 0.9
        ahead = (now * power).clip(darkest**gamma, 1)
        last, now = now, (ahead * blur(light / blur(ahead, skew), -skew)).clip(darkest**gamma, 1)
    return now ** (1 / gamma)


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 3), st.integers(1, 5), st.integers(1, 6), st.integers(0, 99))
def test_deconvolutions_equal_another_library(b, rows, columns, seed):
    torch.manual_seed(seed)
    frames = torch.rand(b, 3, 4 * rows, 4 * columns)
    velocity = torch.randn(b, 2, rows, columns)
    out = path_deconvolutions(frames, velocity, (2.2, 1.0), (0.3, 1.0), (1, 3))
    assert out.shape == (b, 3, 8, 4 * rows, 4 * columns)
    for index in range(b):
        frame, way = frames[index].double().numpy(), velocity[index].double().numpy()
        for k, setting in enumerate(product((2.2, 1.0), (0.3, 1.0), (1, 3))):
            expected = richardson_lucy(frame, way, *setting) - frame.clip(1 / 255, 1)
            np.testing.assert_allclose(out[index, :, k].numpy(), expected, atol=1e-3)


def test_the_approximate_power_is_close_to_the_power():
    ratio = torch.linspace(0.5, 2, 50)
    for last in (0.01, 1.0):
        power = _power(last * ratio, torch.tensor(last))
        assert torch.allclose(power, ratio**0.9, rtol=6e-3)
        assert not torch.allclose(power, ratio, rtol=6e-3)


@settings(max_examples=25, deadline=None)
@given(
    st.integers(1, 2),
    st.integers(1, 5),
    st.integers(1, 6),
    st.sampled_from((-0.5, 0.0, 0.3)),
    st.integers(0, 99),
)
def test_corrections_equal_another_library(b, rows, columns, skew, seed):
    torch.manual_seed(seed)
    frames, restored = torch.rand(2, b, 3, 4 * rows, 4 * columns)
    velocity = torch.randn(b, 2, rows, columns)
    assumed = ((2.2, 0.65), (1.0, 1.0))
    out = path_corrections(frames, restored, velocity, assumed, skew)
    assert out.shape == (b, 3, 2, 4 * rows, 4 * columns)
    for index in range(b):
        frame, start, way = (x[index].double().numpy() for x in (frames, restored, velocity))
        for k, setting in enumerate(assumed):
            expected = richardson_lucy(frame, way, *setting, 1, start, skew)
            expected -= start.clip(1 / 255, 1)
            np.testing.assert_allclose(out[index, :, k].numpy(), expected, atol=1e-3)


def test_what_blurs_to_the_frame_needs_no_correction():
    photo = torch.from_numpy(astronaut()[:128, :160].copy()).permute(2, 0, 1)[None] / 255
    velocity = torch.zeros(1, 2, 32, 40)
    velocity[:, 0] = 6 / 4
    light = photo.clamp(min=1 / 255) ** 2.2
    blurry = sum(light.roll(shift, 3) for shift in (-2, 0, 2)) / 3  # a third of the path apart
    correction = path_corrections(blurry ** (1 / 2.2), photo, velocity, ((2.2, 1.0), (2.2, 0.5)))
    right, wrong = correction[..., 8:-8].square().mean((0, 1, 3, 4))
    assert right < 1e-6 < 1e-4 < wrong


def test_what_moved_unevenly_needs_no_correction_either():
    photo = torch.from_numpy(astronaut()[:128, :160].copy()).permute(2, 0, 1)[None] / 255
    photo = photo.clamp(min=1 / 255)
    velocity = torch.zeros(1, 2, 32, 40)
    velocity[:, 0] = 9 / 4
    blurry = sum(photo.roll(shift, 3) for shift in (-2, 0, 4)) / 3  # more of the way afterwards
    right, even, wrong = (
        path_corrections(blurry, photo, velocity, ((1.0, 1.0),), skew)[..., 8:-8].square().mean()
        for skew in (1 / 3, 0.0, -1 / 3)
    )
    assert right < 1e-6 and 1e-4 < even < wrong


def test_what_rests_stays_as_it_is():
    frames = torch.rand(2, 3, 16, 20)
    out = path_deconvolutions(frames, torch.zeros(2, 2, 4, 5), (1.0, 2.2), (0.5, 1.0), (2,))
    assert out.abs().max() < 1e-4


@pytest.mark.parametrize('gamma', [2.2, 1.0])
def test_the_right_exposure_restores_best(gamma):
    # A photograph that moves by 8 pixels a frame, its shutter open for half of that.
    photo = astronaut()[:128, :160].astype(float) / 255
    light = [np.roll(photo**gamma, shift, axis=1) for shift in (-2, -1, 0, 1, 2)]
    blurry = np.mean(light, axis=0) ** (1 / gamma)
    frames = torch.from_numpy(blurry).permute(2, 0, 1)[None].float()
    velocity = torch.zeros(1, 2, 32, 40)
    velocity[:, 0] = 8 / 4
    exposures = (0.1, 0.6, 1.5)  # 4 pixels and the width of one, of 8
    errors = []
    for result in path_deconvolutions(frames, velocity, (gamma,), exposures, (5,))[0].unbind(1):
        restored = (frames[0] + result).permute(1, 2, 0).numpy()
        errors.append(np.square(restored - photo)[8:-8, 8:-8].mean())
    before = np.square(blurry - photo)[8:-8, 8:-8].mean()
    assert errors[1] < before / 2
    assert errors[1] < min(errors[0], errors[2])


def enlarged(flow):
    """A flow ``(2, h/4, w/4)`` in pixels of the frame, ``(2, h, w)``, by another library."""
    y, x = np.mgrid[: 4 * flow.shape[1], : 4 * flow.shape[2]].astype(float)
    return 4 * np.stack([sample(part, (y + 0.5) / 4 - 0.5, (x + 0.5) / 4 - 0.5) for part in flow])


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 2), st.integers(1, 4), st.integers(1, 3), st.integers(0, 99))
def test_neighbours_equal_another_library(n, t, rows, seed):
    torch.manual_seed(seed)
    columns = 3
    frames = torch.rand(n, t, 3, 4 * rows, 4 * columns)
    forward, backward = torch.randn(2, n, t - 1, 2, rows, columns)
    out = neighbour_differences(frames, forward, backward)
    assert out.shape == (n * t, 3, 4, 4 * rows, 4 * columns)
    by_pixels_only = neighbour_differences(frames, forward, backward, camera=False)
    assert torch.equal(by_pixels_only, out[:, :, 2:])
    y, x = np.mgrid[: 4 * rows, : 4 * columns].astype(float)
    for clip, index in np.ndindex(n, t):
        frame = frames[clip, index].double().numpy()
        for k, step in enumerate((-1, 1)):
            by_camera, by_pixels = (out[clip * t + index, :, i].numpy() for i in (k, k + 2))
            if not 0 <= index + step < t:
                assert max(abs(by_camera).max(), abs(by_pixels).max()) < 1e-5
                continue
            flow = (forward[clip, index - 1] if step < 0 else backward[clip, index]).double()
            other = frames[clip, index + step].double().numpy()
            camera = 4 * flow.flatten(1).sort(dim=1).values[:, (rows * columns - 1) // 2].numpy()
            for seen, (dx, dy) in ((by_camera, camera), (by_pixels, enlarged(flow.numpy()))):
                expected = np.stack([sample(c, y + dy, x + dx) for c in other])
                np.testing.assert_allclose(seen, expected - frame, atol=1e-4)


def test_neighbours_show_what_something_hides():
    # A grey square passes in front of a photograph that the camera moves over by (4, 8) a frame.
    photo = torch.from_numpy(astronaut()[100:300, 100:300].copy()).permute(2, 0, 1) / 255
    clip = torch.stack([photo[:, 8 * i : 8 * i + 64, 4 * i : 4 * i + 96] for i in range(3)])
    hidden = clip.clone()
    hidden[1, :, 24:40, 40:56] = 0.5
    flow = torch.tensor([1.0, 2.0])[:, None, None].expand(1, 2, 2, 16, 24)
    differences = neighbour_differences(hidden[None], flow, -flow)
    middle = differences.unflatten(0, (1, 3))[0, 1]
    inner = (slice(None), slice(16, -16), slice(16, -16))
    for k in range(2):
        torch.testing.assert_close((hidden[1] + middle[:, k])[inner], clip[1][inner])


def contrasts_by_loop(frames, velocity, spans):
    """What ``path_contrast`` says of some frames ``(t, 3, h, w)``, by another library."""
    sums = np.zeros((2, len(spans)))
    moving = total = 0
    for frame, way in zip(frames, velocity, strict=True):
        for row, column in np.ndindex(way.shape[1:]):
            total += 1
            vx, vy = 4 * way[:, row, column]
            if vx**2 + vy**2 <= 4:
                continue
            moving += 1
            y, x = 4 * row + 1.5, 4 * column + 1.5
            for direction, (dx, dy) in enumerate(((vx, vy), (-vy, vx))):
                for k, s in enumerate(spans):
                    ends = [
                        [sample(c, [y + e * s / 2 * dy], [x + e * s / 2 * dx]) for c in frame]
                        for e in (-1, 1)
                    ]
                    sums[direction, k] += np.square(np.subtract(*ends)).mean()
    a, b = np.log(sums / (moving + 1e-3) + 1e-5)
    return np.concatenate((a - b, (a - a[-1])[:-1], [moving / total]))


@settings(max_examples=10, deadline=None)
@given(st.integers(1, 2), st.integers(1, 3), st.integers(1, 4), st.integers(0, 99))
def test_contrasts_equal_a_loop(n, t, columns, seed):
    torch.manual_seed(seed)
    rows = 2
    frames = torch.rand(n, t, 3, 4 * rows, 4 * columns)
    velocity = torch.randn(n, t, 2, rows, columns)
    out = path_contrast(frames, velocity, (0.2, 0.7, 1.0))
    assert out.shape == (n, t, 12)
    for index, frame in np.ndindex(n, t):
        for part, some in ((slice(6), slice(None)), (slice(6, 12), slice(frame, frame + 1))):
            pair = (x[index, some].double().numpy() for x in (frames, velocity))
            expected = contrasts_by_loop(*pair, (0.2, 0.7, 1.0))
            np.testing.assert_allclose(out[index, frame, part].numpy(), expected, atol=1e-3)


def test_contrast_tells_the_exposure():
    photo = astronaut()[:128, :160].astype(float) / 255
    velocity = torch.zeros(1, 1, 2, 32, 40)
    velocity[:, :, 0] = 16 / 4
    along = []
    for width in (1, 5, 9, 15):  # pixels, of 16 a frame
        blurry = np.mean([np.roll(photo, s, axis=1) for s in range(width)], axis=0)
        frames = torch.from_numpy(blurry).permute(2, 0, 1)[None, None].float()
        along.append(float(path_contrast(frames, velocity, (0.2, 1.0))[0, 0, 2]))
    assert all(a > b + 0.1 for a, b in zip(along, along[1:], strict=False))


def test_velocity_is_the_mean_of_the_ways_that_are_known():
    forward, backward = torch.randn(2, 2, 3, 2, 4, 5)
    out = frame_velocity(forward, backward)
    torch.testing.assert_close(out[:, 0], backward[:, 0])
    torch.testing.assert_close(out[:, 3], -forward[:, 2])
    for frame in (1, 2):
        expected = (backward[:, frame] - forward[:, frame - 1]) / 2
        torch.testing.assert_close(out[:, frame], expected)


def test_a_single_frame_has_no_velocity():
    none = torch.zeros(2, 0, 2, 4, 5)
    out = frame_velocity(none, none)
    assert out.shape == (2, 1, 2, 4, 5) and not out.any()


@pytest.mark.parametrize('speed', [3.0, -2.0])
def test_steady_motion_to_the_right_has_its_speed(speed):
    # Frame i to i+1 is the flow backward in name.
    flow = torch.zeros(1, 3, 2, 4, 5)
    flow[:, :, 0] = speed
    out = frame_velocity(-flow, flow)
    assert (out[:, :, 0] == speed).all() and not out[:, :, 1].any()


def test_acceleration_is_the_second_difference_of_places():
    places = np.random.default_rng(0).normal(size=5)
    backward = torch.zeros(1, 4, 2, 4, 5)
    backward[:, :, 0] = torch.from_numpy(np.diff(places)).float()[:, None, None]
    out = frame_acceleration(-backward, backward)
    assert out.shape == (1, 5, 2, 4, 5)
    expected = torch.from_numpy(np.diff(places, 2)).float()
    torch.testing.assert_close(out[0, 1:-1, 0], expected[:, None, None].expand(3, 4, 5))
    assert not out[:, [0, -1]].any() and not out[:, :, 1].any()


@pytest.mark.parametrize('t', [1, 2])
def test_so_few_frames_have_no_acceleration(t):
    flows = torch.randn(2, 1, t - 1, 2, 4, 5)
    out = frame_acceleration(*flows)
    assert out.shape == (1, t, 2, 4, 5) and not out.any()
