"""How small networks put frames together: a little of each of many candidates."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

SCALE = 4  # pixels of a side of the squares for which weights are chosen


def mixture(candidates: Tensor, weights: Tensor) -> Tensor:
    """``sum_k W_k D_k``, from ``(b, 3, k, h, w)`` and ``(b, k, h/4, w/4)`` to ``(b, 3, h, w)``."""
    weights = F.interpolate(weights, scale_factor=SCALE, mode='bilinear').to(candidates.dtype)
    # One by one they stay in the cache: four times as fast on a CPU as all at a time. Taken apart
    # at once, as each slice would fill a tensor of them all with gradients.
    parts = zip(candidates.unbind(2), weights[:, None].unbind(2), strict=True)
    mixed = torch.zeros_like(candidates[:, :, 0])
    for candidate, weight in parts:
        mixed = mixed.addcmul_(candidate, weight)
    return mixed


def seen(candidates: Tensor, see: nn.Sequential) -> Tensor:
    """What a 1 x 1 convolution and its activation make of the candidates of each pixel.

    They are scaled to about the size of the pixels' values: differences are small. As a product of
    matrices it does not copy them, as convolutions of a CPU do.

    Args:
        candidates: ``(b, 3, k, h, w)``.
        see: Convolution of 3k to c channels, and activation.

    Returns:
        ``(b, c, h, w)``.
    """
    convolution, activation = see
    pixels = candidates.flatten(3).flatten(1, 2)  # (b, 3k, h*w)
    weight, bias = convolution.parameters()
    out = SCALE * weight.flatten(1) @ pixels + bias[:, None]
    return activation(out).unflatten(2, candidates.shape[-2:])


def strength(candidates: Tensor) -> Tensor:
    """How much each candidate changes each 4 x 4 block, about as large as one.

    Args:
        candidates: ``(b, 3, k, h, w)``.

    Returns:
        ``(b, k, h/4, w/4)`` float32.
    """
    power = F.avg_pool2d(candidates.float().square().mean(1), SCALE)
    return 20 * (power + 1e-8).sqrt()
