import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from mmagic.evaluation.metrics.ssim import ssim
from mmagic.registry import METRICS
from scipy.ndimage import gaussian_filter

from bsst_plugin.evaluation import gaussian_ssim
from bsst_plugin.evaluation.gaussian_ssim import to_8bit


def reference(first, second):
    """The definition, with scipy's filter: channels first, float32 in [0, 1]."""
    return definition(first, second, np.float32, lambda image: gaussian_filter(image, 1.5))


def definition(first, second, dtype, blur):
    x, y = (image.transpose(2, 0, 1).astype(dtype) / 255 for image in (first, second))
    variance_x = blur(x * x) - blur(x) ** 2
    variance_y = blur(y * y) - blur(y) ** 2
    covariance = blur(x * y) - blur(x) * blur(y)
    top = (2 * blur(x) * blur(y) + 0.01**2) * (2 * covariance + 0.03**2)
    bottom = (blur(x) ** 2 + blur(y) ** 2 + 0.01**2) * (variance_x + variance_y + 0.03**2)
    return np.mean(top / bottom)


def tap_by_tap(image):
    """The Gaussian, cut off at 4 sigma; beyond a border the image goes on as its reflection."""
    weights = np.exp(-0.5 * (np.arange(-6, 7) / 1.5) ** 2)
    for axis, side in enumerate(image.shape):
        back_and_forth = [*range(side), *reversed(range(side))]
        total = np.zeros_like(image)
        for tap, weight in zip(range(-6, 7), weights / weights.sum(), strict=True):
            index = [back_and_forth[(i + tap) % (2 * side)] for i in range(side)]
            total += weight * image.take(index, axis)
        image = total
    return image


@st.composite
def pairs(draw):
    shape = (draw(st.integers(1, 20)), draw(st.integers(1, 20)), 3)
    return draw(arrays(np.uint8, shape)), draw(arrays(np.uint8, shape))


@given(pairs())
@settings(max_examples=60, deadline=None)
def test_equals_scipy_on_small_images(pair):
    assert gaussian_ssim(*pair) == pytest.approx(reference(*pair), abs=1e-6)


@given(pairs())
@settings(max_examples=30, deadline=None)
def test_equals_the_definition_on_small_images(pair):
    # The rounding of float32 is of this size where the variance is small.
    exact = definition(*pair, np.float64, tap_by_tap)
    assert gaussian_ssim(*pair) == pytest.approx(exact, abs=2e-3)


@pytest.fixture(scope='module')
def photographs():
    """A smooth picture and a noisy copy."""
    rng = np.random.RandomState(0)
    sharp = gaussian_filter(rng.rand(120, 170, 3), (3, 3, 0))
    sharp = (255 * (sharp - sharp.min()) / (sharp.max() - sharp.min())).round().astype(np.uint8)
    noisy = np.clip(sharp + rng.randint(-9, 10, sharp.shape), 0, 255).astype(np.uint8)
    return sharp, noisy


def test_equals_scipy_on_a_picture(photographs):
    value = gaussian_ssim(*photographs)
    assert value == pytest.approx(reference(*photographs), abs=1e-6)
    assert 0.5 < value < 0.99


def test_identical_pictures_have_one(photographs):
    assert gaussian_ssim(photographs[0], photographs[0]) == pytest.approx(1, abs=1e-6)


def test_order_of_the_channels_makes_no_difference(photographs):
    value = gaussian_ssim(*photographs)
    swapped = gaussian_ssim(*(image[..., ::-1] for image in photographs))
    assert swapped == pytest.approx(value, abs=1e-7)


def test_is_not_mmagics_ssim(photographs):
    assert abs(gaussian_ssim(*photographs) - ssim(*photographs)) > 0.01


def test_registered_metric_scores_8_bit_frames(photographs):
    metric = METRICS.build(dict(type='GaussianSSIM'))
    sharp, noisy = (torch.from_numpy(image).movedim(-1, 0).float() for image in photographs)
    # Values that round to those of the pictures; outside of [0, 255] they are clamped.
    noisy = torch.where(noisy == 255, noisy + 7, noisy + 0.3)
    clip = dict(gt_img=torch.stack([sharp] * 2), output=dict(pred_img=torch.stack([noisy, sharp])))
    metric.process(None, [clip])
    value = metric.compute_metrics(metric.results)['GaussianSSIM']
    assert value == pytest.approx((reference(*photographs) + 1) / 2, abs=1e-6)


def test_to_8bit():
    frames = torch.tensor([-3.0, 0.4, 0.6, 254.6, 255.4, 300.0]).view(1, 3, 1, 2)
    assert to_8bit(frames).tolist() == [[[[0, 1, 255], [0, 255, 255]]]]
