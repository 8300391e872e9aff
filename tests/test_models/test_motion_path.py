import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import map_coordinates

from bsst_plugin.models.motion_path import frame_velocity, path_differences


def sample(image, y, x):
    """Bilinear, the border repeated."""
    return map_coordinates(image, [y, x], order=1, mode='nearest')


def differences_by_loop(frame, velocity, times):
    """``path_differences`` of one frame, by another library."""
    c, h, w = frame.shape
    y, x = np.mgrid[:h, :w].astype(float)
    quarter = ((y + 0.5) / 4 - 0.5, (x + 0.5) / 4 - 0.5)  # where a pixel lies in the velocity
    vx, vy = (4 * sample(part, *quarter) for part in velocity)
    out = np.empty((c, len(times), h, w))
    for channel in range(c):
        for index, time in enumerate(times):
            seen = sample(frame[channel], y + time * vy, x + time * vx)
            out[channel, index] = seen - frame[channel]
    return out


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 3), st.integers(1, 5), st.integers(1, 6), st.integers(0, 99))
def test_differences_equal_another_library(b, rows, columns, seed):
    torch.manual_seed(seed)
    frames = torch.rand(b, 3, 4 * rows, 4 * columns)
    velocity = 2 * torch.randn(b, 2, rows, columns)
    times = (0.3, -0.3, 1.0)
    out = path_differences(frames, velocity, times)
    assert out.shape == (b, 3, 3, 4 * rows, 4 * columns)
    for index in range(b):
        pair = (frames[index].double().numpy(), velocity[index].double().numpy())
        expected = differences_by_loop(*pair, times)
        np.testing.assert_allclose(out[index].numpy(), expected, atol=2e-5)


def test_what_rests_is_the_same_along_its_path():
    out = path_differences(torch.rand(2, 3, 16, 20), torch.zeros(2, 2, 4, 5), (0.5, -0.5))
    assert out.abs().max() < 1e-5


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
