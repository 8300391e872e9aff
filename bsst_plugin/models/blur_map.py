"""Blur map estimation (section 3.2 of the paper)."""

import torch
from mmagic.registry import MODELS
from mmengine.model import BaseModule
from torch import Tensor

from bsst_plugin.models.motion_path import flows_of_frames


@MODELS.register_module()
class BlurMapEstimator(BaseModule):
    """Blur map from optical flow, Eq. 1-2; no parameters.

    Where pixels move, frames are blurry: the unnormalised blur of a frame is the squared length
    of its flows to the two neighbours, normalised over the clip by minimum and maximum.

    Args:
        reduction: ``'sum'`` adds the two flows, the missing ones of the first and the last frame
            being zero (the paper's Eq. 1); ``'mean'`` averages over those that exist (the
            released code).

    Raises:
        ValueError: ``reduction`` is neither of the two.
    """

    def __init__(self, reduction: str = 'sum') -> None:
        super().__init__()
        if reduction not in ('sum', 'mean'):
            raise ValueError(f"reduction must be 'sum' or 'mean', not {reduction!r}")
        self.reduction = reduction

    def forward(self, flows_forward: Tensor, flows_backward: Tensor) -> Tensor:
        """Estimate the blur map B of each clip; the sharp map A is ``1 - B``.

        Args:
            flows_forward: ``(n, t-1, 2, h, w)`` in pixels, frame i+1 to frame i.
            flows_backward: ``(n, t-1, 2, h, w)`` in pixels, frame i to frame i+1.

        Returns:
            ``(n, t, 1, h, w)`` float32 in [0, 1]; zero for a clip of one frame and for a clip
            without motion.
        """
        *flows, neighbours = flows_of_frames(flows_forward, flows_backward)
        to_previous, to_next = (flow.square().sum(2, keepdim=True) for flow in flows)
        blur = to_next + to_previous  # Eq. 1
        if self.reduction == 'mean':
            blur = blur / neighbours
        lowest = blur.amin((1, 2, 3, 4), keepdim=True)
        span = blur.amax((1, 2, 3, 4), keepdim=True) - lowest
        # Where nothing moves the numerator is 0 too: any other divisor gives the zero map.
        return (blur - lowest) / torch.where(span > 0, span, torch.ones_like(span))  # Eq. 2
