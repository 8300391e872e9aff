"""Alignment of two earlier frames' features to the current frame (Figure 3 of the paper)."""

from dataclasses import dataclass

import torch
from mmagic.registry import MODELS
from mmengine.model import BaseModule
from torch import Tensor

from bsst_plugin.models.layers import GuidedDeformConv


@dataclass(frozen=True)
class Neighbour:
    """What propagation knows about one earlier frame when it reaches the current one.

    Attributes:
        feature: ``(n, c, h, w)``, propagated feature as it left that frame.
        warped: ``(n, c, h, w)``, the same, warped to the current frame.
        flow: ``(n, 2, h, w)`` in pixels, from the current frame to that frame.
        sharp_map: ``(n, 1, h, w)`` in [0, 1], A of that frame, warped to the current frame.
        valid: ``(n, 1, h, w)``, 1 where the flow passes the forward-backward check.
    """

    feature: Tensor
    warped: Tensor
    flow: Tensor
    sharp_map: Tensor
    valid: Tensor

    @classmethod
    def absent(cls, like: 'Neighbour') -> 'Neighbour':
        """A neighbour that does not exist: all zeros, in the shapes of ``like``."""
        return cls(**{name: torch.zeros_like(value) for name, value in vars(like).items()})


@MODELS.register_module()
class BlurAwareAlignment(BaseModule):
    """Blur-aware feature alignment (BFA, Eq. 3).

    The sharp maps of the two earlier frames join the condition that makes offsets and masks, and
    are added to the masks as their base, so that sharp pixels are preferred. A sharp map counts
    only where the flow that warped it is consistent.

    Args:
        channels: C of the paper.
        deform_groups: Groups of offsets and masks; half of them sample the first neighbour.
        max_residue_magnitude: Largest offset that is learned on top of the flow, in pixels.
    """

    def __init__(
        self, channels: int = 192, deform_groups: int = 16, max_residue_magnitude: float = 5.0
    ) -> None:
        super().__init__()
        # Three features, A of three frames, two checks, two flows.
        self.deform = GuidedDeformConv(
            channels, 3 * channels + 3 + 2 + 4, deform_groups, max_residue_magnitude
        )

    def forward(
        self, current: Tensor, sharp_map: Tensor, first: Neighbour, second: Neighbour
    ) -> Tensor:
        """Align both neighbours to the current frame.

        Args:
            current: ``(n, c, h, w)``, feature of the current frame from the previous branch.
            sharp_map: ``(n, 1, h, w)``, A of the current frame.
            first: The frame one step before.
            second: The frame two steps before.

        Returns:
            ``(n, c, h, w)``.
        """
        condition = _concat(
            first.warped,
            current,
            second.warped,
            first.sharp_map,
            sharp_map,
            second.sharp_map,
            first.valid,
            second.valid,
            first.flow,
            second.flow,
        )
        mask_bias = (_base_mask(first), _base_mask(second))
        return self.deform(
            first.feature, second.feature, condition, (first.flow, second.flow), mask_bias
        )


@MODELS.register_module()
class FlowGuidedAlignment(BaseModule):
    """Standard flow-guided feature alignment (SFFA of Table 6): no sharp maps, no check.

    Args:
        channels: C of the paper.
        deform_groups: Groups of offsets and masks; half of them sample the first neighbour.
        max_residue_magnitude: Largest offset that is learned on top of the flow, in pixels.
    """

    def __init__(
        self, channels: int = 192, deform_groups: int = 16, max_residue_magnitude: float = 5.0
    ) -> None:
        super().__init__()
        # Three features, two flows.
        self.deform = GuidedDeformConv(
            channels, 3 * channels + 4, deform_groups, max_residue_magnitude
        )

    def forward(
        self, current: Tensor, sharp_map: Tensor, first: Neighbour, second: Neighbour
    ) -> Tensor:
        """Align both neighbours; same arguments as ``BlurAwareAlignment``, A unused."""
        condition = _concat(first.warped, current, second.warped, first.flow, second.flow)
        return self.deform(first.feature, second.feature, condition, (first.flow, second.flow))


def _base_mask(neighbour: Neighbour) -> Tensor:
    """What a neighbour's sharp map adds to the mask logits, in [-0.1, 0.1]."""
    return 0.1 * (2 * neighbour.sharp_map * neighbour.valid - 1)


def _concat(feature: Tensor, *others: Tensor) -> Tensor:
    """Concatenate channels; maps and flows are float32, features may not be."""
    return torch.cat([feature, *(other.to(feature.dtype) for other in others)], dim=1)
