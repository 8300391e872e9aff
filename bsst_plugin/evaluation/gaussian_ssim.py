"""The SSIM of the paper's numbers: Gaussian weights, over the channels too."""

import numpy as np
from mmagic.evaluation.metrics.base_sample_wise_metric import BaseSampleWiseMetric
from mmagic.registry import METRICS
from scipy.ndimage import gaussian_filter
from torch import Tensor

SIGMA = 1.5
C1, C2 = np.float32(0.01**2), np.float32(0.03**2)


def gaussian_ssim(first: np.ndarray, second: np.ndarray) -> float:
    """SSIM with a Gaussian of sigma 1.5 over height, width and channels, in float32.

    Unlike MMagic's SSIM it mixes channels, and it scores the border.

    Args:
        first: ``(h, w, 3)`` in [0, 255], channels in the order RGB or BGR: they give the same.
        second: Same shape.

    Returns:
        Mean of the map, at most 1.
    """
    # Channels first, as for the published numbers: in float32 the order of the axes shows.
    x, y = (np.moveaxis(i, -1, 0).astype(np.float32) / np.float32(255) for i in (first, second))
    mean_x, mean_y = _blur(x), _blur(y)
    covariance = _blur(x * y) - mean_x * mean_y
    variances = (_blur(x * x) - mean_x**2) + (_blur(y * y) - mean_y**2)
    ssim = (2 * mean_x * mean_y + C1) * (2 * covariance + C2)
    ssim /= (mean_x**2 + mean_y**2 + C1) * (variances + C2)
    return float(ssim.mean(dtype=np.float64))


@METRICS.register_module()
class GaussianSSIM(BaseSampleWiseMetric):
    """The paper's SSIM as a metric of its own, of whole images; masks are not looked at.

    Takes the arguments of MMagic's ``BaseSampleWiseMetric``. Images are rounded to 8 bit first.
    """

    metric = 'GaussianSSIM'

    def process_image(self, gt: Tensor, pred: Tensor, mask: Tensor | None) -> float:
        """SSIM of ``(3, h, w)`` images in [0, 255]."""
        return gaussian_ssim(*(to_8bit(image) for image in (gt, pred)))


def as_clip(frames: Tensor) -> Tensor:
    """``(t, 3, h, w)``; MMagic packs clips of one frame as ``(3, h, w)``."""
    return frames.reshape(-1, *frames.shape[-3:])


def to_8bit(frames: Tensor) -> np.ndarray:
    """``(..., 3, h, w)`` in [0, 255] as uint8 ``(..., h, w, 3)``, clamped and rounded."""
    return frames.clamp(0, 255).round().byte().movedim(-3, -1).cpu().numpy()


def _blur(image: np.ndarray) -> np.ndarray:
    return gaussian_filter(image, SIGMA)
