"""Mixing a second time, with what the first time made of a frame and its neighbours.

The first time a small network judges each candidate by what the blurry frames show. Once all
frames are restored it can be seen how well that went: whether the restored neighbours show the
same, whether the restored frame, blurred again, is the blurry one, and which candidates agree with
those, over areas so large that noise and single edges do not matter.
"""

import torch
import torch.nn.functional as F
from mmengine.model import BaseModule
from torch import Tensor, nn

from bsst_plugin.models.layers import CAB, LRELU_SLOPE, conv3x3, in_chunks, leaky_relu, zeroed
from bsst_plugin.models.mixture import SCALE, mixture, seen, strength
from bsst_plugin.models.motion_path import neighbour_differences, path_corrections
from bsst_plugin.ops.precision import no_autocast

AREA = 16  # pixels of a side of the squares in which the agreement of candidates is measured
_AREAS = (1, 3, 7)  # sides of the areas that are looked at, in squares, beside the whole frame
#: Blur for which a restored frame is corrected, ``(gamma, part)`` of the path that the blur shows
#: and ``(gamma, exposure)`` of the flow.
PATH_CORRECTIONS = ((2.2, 1.0), (1.0, 1.0))
FLOW_CORRECTIONS = ((2.2, 0.65), (1.0, 1.0))
# Corrections, what the first mixture changed and what both neighbours show.
_NEW = len(PATH_CORRECTIONS) + len(FLOW_CORRECTIONS) + 3
_SEEN_CHANNELS = 8  # of what is made of the candidates of a pixel
_JUDGED_CHANNELS = 64
_DROPPED = 0.2  # part of the agreements that is hidden in training: there are many
_LEAST = 1e-9  # power of a candidate that counts as none
_DETAIL = 5  # pixels of a side of the mean that a frame's detail differs from


class SecondPass(BaseModule):
    """Corrects a first mixture.

    Args:
        candidates: Number of the candidates of the first mixture.
        channels: Channels of the feature, C of the paper.
        num_blocks: Number of channel attention blocks.
    """

    def __init__(self, candidates: int, channels: int, num_blocks: int) -> None:
        super().__init__()
        count = candidates + _NEW
        agreements = (len(_AREAS) + 1) * (count + 1) * (count + 2) // 2
        self.see = nn.Sequential(nn.Conv2d(3 * count, _SEEN_CHANNELS, 1), leaky_relu())
        self.judge = nn.Sequential(
            nn.Dropout(_DROPPED),
            nn.Conv2d(agreements, _JUDGED_CHANNELS, 1),
            leaky_relu(),
            _Rethought(_JUDGED_CHANNELS),
            nn.Conv2d(_JUDGED_CHANNELS, channels, 1),
        )
        inputs = _SEEN_CHANNELS * SCALE**2 + count + 1 + channels
        self.to_quarter = conv3x3(inputs, channels)
        self.blocks = nn.Sequential(*(CAB(channels) for _ in range(num_blocks)))
        # A fresh one leaves the first mixture as it is.
        self.to_weights = zeroed(conv3x3(channels, count))
        self.judged_to_weights = zeroed(nn.Conv2d(channels, count, 1))

    def forward(
        self,
        frames: Tensor,
        first: Tensor,
        feature: Tensor,
        candidates: Tensor,
        ways: tuple[Tensor, Tensor],
        flows: tuple[Tensor, Tensor],
    ) -> Tensor:
        """Mix again, in the clips of a batch.

        Args:
            frames: ``(n*t, 3, h, w)``, blurry frames in [0, 1].
            first: ``(n*t, 3, h, w)``, what the first mixture adds to them.
            feature: ``(n*t, c, h/4, w/4)``, what the first weights were chosen from.
            candidates: ``(n*t, 3, k, h, w)``, of the first mixture.
            ways: Velocity, and path that the blur shows, of each frame: ``(n*t, 2, h/4, w/4)`` in
                pixels of that size.
            flows: ``flows_forward`` and ``flows_backward``, ``(n, t-1, 2, h/4, w/4)``.

        Returns:
            ``(n*t, 3, h, w)``, to be added to the frames.
        """
        clips = (frames + first).unflatten(0, (len(flows[0]), -1))
        neighbours = neighbour_differences(clips, *flows, camera=False)
        return in_chunks(self._again, frames, first, feature, candidates, neighbours, *ways)

    def _again(
        self,
        frames: Tensor,
        first: Tensor,
        feature: Tensor,
        candidates: Tensor,
        neighbours: Tensor,
        velocity: Tensor,
        path: Tensor,
    ) -> Tensor:
        corrections = [
            path_corrections(frames, frames + first, way, assumed)
            for way, assumed in ((path, PATH_CORRECTIONS), (velocity, FLOW_CORRECTIONS))
        ]
        changed = first[:, :, None]
        candidates = torch.cat((candidates, *corrections, changed, neighbours), dim=2)
        judged = self.judge(agreement(candidates, _detail(frames)[:, :, None]))
        judged = F.interpolate(judged, scale_factor=AREA // SCALE, mode='bilinear')
        judged = judged[..., : feature.shape[-2], : feature.shape[-1]]
        pixels = F.pixel_unshuffle(seen(candidates, self.see), SCALE)
        gap = candidates[:, :, -2:-1] - candidates[:, :, -1:]  # how the neighbours disagree
        parts = (pixels, strength(candidates), strength(gap), feature)
        x = self.to_quarter(torch.cat([part.to(pixels.dtype) for part in parts], dim=1)) + judged
        x = self.blocks(F.leaky_relu(x, LRELU_SLOPE))
        weights = self.to_weights(x)
        weights = weights + self.judged_to_weights(F.leaky_relu(judged, LRELU_SLOPE))
        return first + mixture(candidates, weights)


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
