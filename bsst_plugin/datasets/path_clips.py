"""What ``BlurPath`` learns from: how well each path explains the blur of a clip.

Paths are not known, not even where a scene is rendered: objects cover one another, exposures are
averages of few frames. What is known is the sharp frame. Blurred along the true path, it becomes
the blurry one.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

from bsst_plugin.models.blur_path import (
    CELL,
    DIRECTIONS,
    LENGTHS,
    brightness,
    derivative_products,
    evidence_of_products,
    path_table,
)
from bsst_plugin.models.bsstnet import BSSTNet

from .clip_files import ClipParts, Rendered

_AREA = 3  # side of the areas in which errors are compared, cells
_NOISE = 0.7 / 255  # errors below are no worse than others
_BEST = 0.6  # per dB: how much likelier a path is that explains the blur better
_SCALE = 1000.0  # products in float16 would be zero otherwise
_MOST = 0.1  # rms of the blur from which on a cell counts no more


@dataclass(frozen=True)
class PathClip(ClipParts):
    """A clip, or a batch of clips.

    Args:
        products: ``derivative_products`` times 1000, ``(..., t, d, k, h', w')`` float16.
        errors: ``path_errors``, ``(..., t, 1 + paths, h', w')`` float16.
        flows_forward: ``(..., t-1, 2, h/4, w/4)``.
        flows_backward: Same.
    """

    products: Tensor
    errors: Tensor
    flows_forward: Tensor
    flows_backward: Tensor

    @classmethod
    @torch.no_grad()
    def of(cls, network: BSSTNet, clips: Rendered) -> PathClip:
        """Compute it, for a batch."""
        shape = clips.blurry.shape[:2]
        blurry, sharp = clips.input.flatten(0, 1), clips.target.flatten(0, 1)
        products = (_SCALE * derivative_products(blurry)).unflatten(0, shape)
        # One by one: a frame blurred along all paths takes some 10 MB.
        pairs = zip(blurry.split(1), sharp.split(1), strict=True)
        errors = torch.cat([path_errors(*pair) for pair in pairs]).unflatten(0, shape)
        return cls(products.half(), errors.half(), clips.flows_forward, clips.flows_backward)

    def evidence(self) -> Tensor:
        """``path_evidence`` of a batch, ``(b, c, d, h', w')``."""
        products = self.products.flatten(0, 1).float() / _SCALE
        return evidence_of_products(products, self.flows_forward, self.flows_backward)


def path_errors(blurry: Tensor, sharp: Tensor) -> Tensor:
    """How badly each path explains the blur.

    Args:
        blurry: ``(b, 3, h, w)`` in [0, 1].
        sharp: Same.

    Returns:
        ``(b, 1 + paths, h', w')`` in dB: mean square of the difference of the blurry frame and the
        sharp one, not blurred and blurred along each path of ``path_table``; of their brightness,
        about each cell.
    """
    blurry, sharp = map(brightness, (blurry, sharp))
    reach = max(LENGTHS) // 2 + 2
    padded = F.pad(sharp, (reach,) * 4, mode='replicate')
    size = padded.shape[-2:]
    spectra = torch.fft.rfft2(padded) * _kernel_spectra(*size).to(padded.device)
    blurred = torch.fft.irfft2(spectra, s=size)[..., reach:-reach, reach:-reach]
    results = torch.cat((sharp, blurred), dim=1)
    squares = F.avg_pool2d((results - blurry).square(), CELL, ceil_mode=True)
    squares = F.avg_pool2d(squares, _AREA, 1, _AREA // 2, count_include_pad=False)
    return 10 * (squares + _NOISE**2).log10()


@lru_cache(maxsize=4)
def _kernel_spectra(h: int, w: int) -> Tensor:
    """Spectra of blur along each path, ``(paths, h, w//2 + 1)``: uniform, bilinear, centred."""
    kernels = torch.zeros(DIRECTIONS * len(LENGTHS), h, w)
    for kernel, (x, y) in zip(kernels, path_table().tolist(), strict=True):
        count = math.ceil(8 * math.hypot(x, y))
        for part in ((i + 0.5) / count - 0.5 for i in range(count)):
            column, row = part * x, part * y
            left, top = math.floor(column), math.floor(row)
            for i, share_x in ((left, left + 1 - column), (left + 1, column - left)):
                for j, share_y in ((top, top + 1 - row), (top + 1, row - top)):
                    kernel[j, i] += share_x * share_y / count
    return torch.fft.rfft2(kernels)


def path_loss(logits: Tensor, errors: Tensor) -> Tensor:
    """Cross entropy to shares that fall with the error of a path, cells weighted by their blur.

    Args:
        logits: ``(b, 1 + paths, h', w')``.
        errors: See ``path_errors``.

    Returns:
        A number.
    """
    shares = (-_BEST * errors).softmax(dim=1)
    entropy = -(shares * logits.log_softmax(dim=1)).sum(1)
    return _weighted_mean(entropy, errors)


def explained(logits: Tensor, errors: Tensor) -> tuple[Tensor, Tensor]:
    """How much of the blur the likeliest path and the best one explain, dB, as cells are weighted.

    Args:
        logits: ``(b, 1 + paths, h', w')``.
        errors: See ``path_errors``.
    """
    likeliest = errors.gather(1, logits.argmax(dim=1, keepdim=True))[:, 0]
    best = errors.amin(1)
    return (
        _weighted_mean(errors[:, 0] - likeliest, errors),
        _weighted_mean(errors[:, 0] - best, errors),
    )


def _weighted_mean(values: Tensor, errors: Tensor) -> Tensor:
    """Mean of ``(b, h', w')``, weighted by the root mean square of what blur does to a cell."""
    weights = (10 ** (errors[:, 0] / 20)).clamp(max=_MOST)
    return (weights * values).sum() / weights.sum()


def turned(evidence: Tensor, errors: Tensor) -> tuple[Tensor, Tensor]:
    """The same seen in a mirror or with rows and columns exchanged, at random."""
    none, paths = errors[:, :1], errors[:, 1:].unflatten(1, (DIRECTIONS, len(LENGTHS)))
    seen = [evidence, none, paths.transpose(1, 2)]  # (b, c, [d,] h', w')
    if torch.rand(()) < 0.5:
        seen = [_directions(x, 0).flip(-1) for x in seen]
    if torch.rand(()) < 0.5:
        seen = [_directions(x, DIRECTIONS // 2).transpose(-1, -2) for x in seen]
    evidence, none, paths = seen
    return evidence, torch.cat((none, paths.transpose(1, 2).flatten(1, 2)), dim=1)


def _directions(x: Tensor, sum_of_both: int) -> Tensor:
    """Exchange the directions i and ``sum_of_both - i`` of ``(b, c, d, h', w')``."""
    if x.dim() == 4:
        return x
    return x[:, :, [(sum_of_both - i) % DIRECTIONS for i in range(DIRECTIONS)]]
