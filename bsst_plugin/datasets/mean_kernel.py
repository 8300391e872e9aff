"""The mean blur of a rendered frame, for methods that are told how a frame was blurred."""

import math

import numpy as np

from .blur_synthesis import BlurSettings, Scene

_STEPS = 65  # of an exposure
_POINTS = 5  # along each side of the frame


def mean_kernel(scene: Scene, settings: BlurSettings, time: float) -> np.ndarray:
    """The blur kernel of the camera's motion, averaged over the frame.

    The blurry frame is about the sharp one convolved with it; pieces that move by themselves and
    the differences between parts of the frame are left out.

    Args:
        scene: What is seen.
        settings: How it is rendered.
        time: Middle of the exposure, in frames.

    Returns:
        ``(k, k)`` float64, k odd; its sum is one.
    """
    times = time + settings.exposure * ((np.arange(_STEPS) + 0.5) / _STEPS - 0.5)
    maps = scene.background.motion(times)
    places = np.linspace(0, settings.size - 1, _POINTS)
    points = np.stack(np.meshgrid(places, places, [1.0])).reshape(3, -1)
    # A pixel of the frame shows at each time what the sharp frame has at `seen`.
    seen = np.linalg.inv(maps[_STEPS // 2]) @ maps @ points
    # A convolution takes what lies on the other side.
    shifts = (points - seen)[:, :2].transpose(0, 2, 1).reshape(-1, 2)  # x, y
    reach = math.ceil(np.abs(shifts).max()) + 1
    kernel = np.zeros((2 * reach + 1, 2 * reach + 1))
    corner = np.floor(shifts).astype(int)
    part = shifts - corner
    for dx in (0, 1):
        for dy in (0, 1):
            weight = np.abs(1 - dx - part[:, 0]) * np.abs(1 - dy - part[:, 1])
            np.add.at(kernel, (corner[:, 1] + dy + reach, corner[:, 0] + dx + reach), weight)
    return kernel / kernel.sum()
