"""Mixing what a network makes of frames with what it makes of smaller ones.

Of frames half as large the blur is half as long: there more of it can be undone, if not all that is
sharp can be seen. A network that restores frames and their halves and quarters is right about
other things in each of them, noise is less, and where all agree they can be trusted.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from mmagic.registry import MODELS
from torch import Tensor

from bsst_plugin.models.correction import Correction
from bsst_plugin.models.layers import in_chunks

LEVELS = 2  # sizes beside that of the frames: a half, a quarter
_LEAST_SIDE = 16  # pixels: on smaller frames nothing is estimated


@MODELS.register_module()
class ScaleMixture(Correction):
    """Corrects the residual of frames by that of smaller ones.

    Candidates are the residual itself, its detail, and what each smaller one differs by from the
    next larger one.

    Args:
        known_channels: Channels of the encoder's features.
        channels: Channels of its own features.
    """

    def __init__(self, known_channels: int, channels: int = 24) -> None:
        super().__init__(LEVELS + 2, known_channels, channels, num_blocks=1)

    def forward(
        self, frames: Tensor, residual: Tensor, features: Tensor, *smaller: Tensor
    ) -> Tensor:
        """Correct the residual.

        Args:
            frames: ``(b, 3, h, w)``, blurry frames in [0, 1], h and w multiples of 4.
            residual: ``(b, 3, h, w)``, what has been added to them.
            features: ``(b, c, h/4, w/4)``, of the encoder.
            *smaller: See :func:`smaller_residuals`.

        Returns:
            ``(b, 3, h, w)``.
        """
        return in_chunks(self._mixed, frames, residual, features, *smaller)

    def _mixed(
        self, frames: Tensor, residual: Tensor, features: Tensor, *smaller: Tensor
    ) -> Tensor:
        size = (residual.shape[-2], residual.shape[-1])
        levels = [residual, *(_resized(level, size) for level in smaller)]
        differences = (b - a for a, b in zip(levels[:-1], levels[1:], strict=True))
        candidates = torch.stack((residual, detail(residual), *differences), dim=2)
        return self.corrected(frames, residual, candidates, features)


@torch.no_grad()
def smaller_residuals(frames: Tensor, restore: Callable[[Tensor], Tensor]) -> list[Tensor]:
    """Residuals of frames half as large, and of a quarter; they carry no gradient.

    Args:
        frames: ``(n, t, 3, h, w)``, blurry frames in [0, 1], h and w multiples of 4.
        restore: Gives the residual of clips, ``(n*t, 3, h', w')`` of ``(n, t, 3, h', w')``.

    Returns:
        ``(n*t, 3, h/2, w/2)`` and ``(n*t, 3, h/4, w/4)``. Where frames would have less than 16
        pixels, it is the residual of the size before made smaller; all zero if there is none.
    """
    residuals: list[Tensor] = []
    for _ in range(LEVELS):
        frames = _halved(frames.flatten(0, 1)).unflatten(0, frames.shape[:2])
        if min(frames.shape[-2:]) >= _LEAST_SIDE:
            residuals.append(restore(frames))
        elif residuals:
            residuals.append(_halved(residuals[-1]))
        else:
            residuals.append(torch.zeros_like(frames).flatten(0, 1))
    return residuals


def detail(residual: Tensor) -> Tensor:
    """What of a residual is lost when it is made half as large; ``(b, 3, h, w)``."""
    return residual - _resized(_halved(residual), (residual.shape[-2], residual.shape[-1]))


def _halved(frames: Tensor) -> Tensor:
    """Means of 2 x 2 pixels; ``(b, 3, h, w)``, h and w even."""
    return F.avg_pool2d(frames, 2)


def _resized(residual: Tensor, size: tuple[int, int]) -> Tensor:
    return F.interpolate(residual, size=size, mode='bicubic')
