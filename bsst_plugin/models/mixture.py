"""How small networks put frames together: a little of each of many candidates."""

import torch.nn.functional as F
from torch import Tensor

SCALE = 4  # pixels of a side of the squares for which weights are chosen


def mixture(candidates: Tensor, weights: Tensor) -> Tensor:
    """``sum_k W_k D_k``, from ``(b, 3, k, h, w)`` and ``(b, k, h/4, w/4)`` to ``(b, 3, h, w)``."""
    weights = F.interpolate(weights, scale_factor=SCALE, mode='bilinear')
    return (candidates * weights[:, None]).sum(2)


def strength(candidates: Tensor) -> Tensor:
    """How much each candidate changes each 4 x 4 block, about as large as one.

    Args:
        candidates: ``(b, 3, k, h, w)``.

    Returns:
        ``(b, k, h/4, w/4)`` float32.
    """
    power = F.avg_pool2d(candidates.float().square().mean(1), SCALE)
    return 20 * (power + 1e-8).sqrt()
