import numpy as np
import pytest
from scipy.ndimage import center_of_mass, convolve, gaussian_filter

from bsst_plugin.datasets import BlurSettings, Layer, Scene, mean_kernel, render_linear


def moving(x, y, pixels):
    """A scene whose content goes by (x, y) per frame to the left and up."""

    def motion(times):
        maps = np.tile(np.eye(3), (len(times), 1, 1))
        maps[:, 0, 2] = 40 + x * times + 3 * np.sin(times)
        maps[:, 1, 2] = 40 + y * times + np.abs(times - 1)
        return maps

    return Scene(Layer(pixels, motion))


def distance(a, b):
    """Root mean square difference, away from the border."""
    return np.sqrt(np.square(a - b)[10:-10, 10:-10].mean())


@pytest.mark.parametrize('velocity', [(12.0, 8.0), (-12.0, 9.0)])
def test_convolution_with_it_is_the_blur(velocity):
    rng = np.random.default_rng(0)
    pixels = gaussian_filter(rng.random((140, 140, 3)), (2, 2, 0)).astype(np.float32)
    settings = BlurSettings(num_frames=3, size=48, exposure=0.75, max_step=0.1)
    scene = moving(*velocity, pixels)
    for time, (blurry, sharp) in enumerate(render_linear(scene, settings)):
        kernel = mean_kernel(scene, settings, time)
        assert kernel.sum() == pytest.approx(1) and kernel.shape[0] % 2 == 1
        again, turned = (convolve(sharp, k[..., None]) for k in (kernel, kernel[::-1]))
        # Not zero: the kernel's points lie between pixels.
        assert distance(again, blurry) < 0.1 * distance(sharp, blurry)
        assert distance(again, blurry) < 0.3 * distance(turned, blurry)


def test_without_motion_it_is_a_point():
    def still(times):
        return np.tile(np.eye(3), (len(times), 1, 1))

    scene = Scene(Layer(np.zeros((64, 64, 3), np.float32), still))
    kernel = mean_kernel(scene, BlurSettings(size=48), 0)
    middle = kernel.shape[0] // 2
    assert kernel[middle, middle] == pytest.approx(1)
    assert center_of_mass(kernel) == pytest.approx((middle, middle))
