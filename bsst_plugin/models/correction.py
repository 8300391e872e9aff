"""Correcting what a small network has made of frames, by how further candidates agree with it.

Which of them to trust is seen over areas so large that noise and single edges do not matter.
"""

import torch
import torch.nn.functional as F
from mmengine.model import BaseModule
from torch import Tensor, nn

from bsst_plugin.models.layers import CAB, LRELU_SLOPE, conv3x3, leaky_relu, zeroed
from bsst_plugin.models.mixture import SCALE, mixture, seen, strength
from bsst_plugin.ops.precision import no_autocast

AREA = 16  # pixels of a side of the squares in which the agreement of candidates is measured
_AREAS = (1, 3, 7)  # sides of the areas that are looked at, in squares, beside the whole frame
_SEEN_CHANNELS = 8  # of what is made of the candidates of a pixel
_JUDGED_CHANNELS = 64
_LEAST = 1e-9  # power of a candidate that counts as none
_DETAIL = 5  # pixels of a side of the mean that a frame's detail differs from


class Correction(BaseModule):
    """Adds a mixture of candidates, ``sum_k W_k(p) D_k(p)``, to a residual.

    The weights W of each 4 x 4 block are chosen from the candidates, what else is known of the
    block, and how the candidates of its surroundings agree.

    Args:
        candidates: Number of the candidates.
        known_channels: Channels of what else is known.
        channels: Channels of the features.
        num_blocks: Number of channel attention blocks.
    """

    def __init__(
        self, candidates: int, known_channels: int, channels: int, num_blocks: int
    ) -> None:
        super().__init__()
        agreements = (len(_AREAS) + 1) * (candidates + 1) * (candidates + 2) // 2
        self.see = nn.Sequential(nn.Conv2d(3 * candidates, _SEEN_CHANNELS, 1), leaky_relu())
        self.judge = nn.Sequential(
            nn.Dropout(0.0),  # tools/fit_small.py, whose clips are few, hides some
            nn.Conv2d(agreements, _JUDGED_CHANNELS, 1),
            leaky_relu(),
            _Rethought(_JUDGED_CHANNELS),
            nn.Conv2d(_JUDGED_CHANNELS, channels, 1),
        )
        inputs = _SEEN_CHANNELS * SCALE**2 + candidates + known_channels
        self.to_quarter = conv3x3(inputs, channels)
        self.blocks = nn.Sequential(*(CAB(channels) for _ in range(num_blocks)))
        # A fresh one leaves the residual as it is.
        self.to_weights = zeroed(conv3x3(channels, candidates))
        self.judged_to_weights = zeroed(nn.Conv2d(channels, candidates, 1))

    def corrected(
        self, frames: Tensor, residual: Tensor, candidates: Tensor, *known: Tensor
    ) -> Tensor:
        """The residual and what is added to it.

        Args:
            frames: ``(b, 3, h, w)``, blurry frames in [0, 1].
            residual: ``(b, 3, h, w)``, what has been added to them.
            candidates: ``(b, 3, k, h, w)``.
            *known: Each ``(b, c, h/4, w/4)``.

        Returns:
            ``(b, 3, h, w)``.
        """
        judged = self.judge(agreement(candidates, _detail(frames)[:, :, None]))
        judged = F.interpolate(judged, scale_factor=AREA // SCALE, mode='bilinear')
        judged = judged[..., : frames.shape[-2] // SCALE, : frames.shape[-1] // SCALE]
        pixels = F.pixel_unshuffle(seen(candidates, self.see), SCALE)
        parts = (pixels, strength(candidates), *known)
        x = self.to_quarter(torch.cat([part.to(pixels.dtype) for part in parts], dim=1)) + judged
        x = self.blocks(F.leaky_relu(x, LRELU_SLOPE))
        weights = self.to_weights(x)
        weights = weights + self.judged_to_weights(F.leaky_relu(judged, LRELU_SLOPE))
        return residual + mixture(candidates, weights)


class _Rethought(nn.Module):
    """What is judged of each square, plus what a second look at it adds: nothing at first.

    Args:
        channels: Channels of input and output.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.inner = nn.Conv2d(channels, channels, 1)
        self.outer = zeroed(nn.Conv2d(channels, channels, 1))

    def forward(self, x: Tensor) -> Tensor:
        """``(b, c, h', w')``; same shape."""
        return x + self.outer(F.leaky_relu(self.inner(x), LRELU_SLOPE))


@torch.no_grad()
def agreement(*candidates: Tensor) -> Tensor:
    """How strong candidates are and how any two of them correlate.

    Args:
        candidates: Each ``(b, 3, some, h, w)``, k in all.

    Returns:
        ``(b, 4 * k(k+1)/2, h', w')`` float32, h' and w' those of squares of ``AREA`` pixels,
        rounded up: of each square, of 3 x 3 and of 7 x 7 squares around it and of the whole frame
        the correlations, without taking off means, of all pairs, and the power of each candidate;
        carries no gradient.
    """
    with no_autocast(candidates[0]):
        values = torch.cat([_in_squares(part.float()) for part in candidates], dim=3).flatten(4)
        products = values @ values.transpose(-1, -2) / values.shape[-1]
    k = values.shape[3]
    first, second = torch.triu_indices(k, k, 1)
    own = products.diagonal(dim1=-2, dim2=-1)
    square = torch.cat((products[..., first, second], own), dim=-1)
    square = square.permute(0, 3, 1, 2)  # (b, k(k+1)/2, h', w')
    areas = [F.avg_pool2d(square, side, 1, side // 2, count_include_pad=False) for side in _AREAS]
    areas.append(square.mean((2, 3), keepdim=True).expand_as(square))
    parts = []
    for area in areas:
        cross, power = area.split((len(first), k), dim=1)
        power = power.clamp(min=_LEAST)
        correlation = cross * (power[:, first] * power[:, second]).rsqrt()
        parts += [correlation, (power.log() + 9) / 4]
    return torch.cat(parts, dim=1)


def _in_squares(x: Tensor) -> Tensor:
    """``(b, 3, k, h, w)`` as ``(b, h', w', k, 3, AREA, AREA)``, a view; zero beyond the frame."""
    rows, columns = (-side % AREA for side in x.shape[-2:])
    if rows or columns:
        x = F.pad(x, (0, columns, 0, rows))
    return x.unflatten(4, (-1, AREA)).unflatten(3, (-1, AREA)).permute(0, 3, 5, 2, 1, 4, 6)


def _detail(frames: Tensor) -> Tensor:
    """Frames less the means around each pixel."""
    padded = F.pad(frames, (_DETAIL // 2,) * 4, mode='replicate')
    return frames - F.avg_pool2d(padded, _DETAIL, 1)
