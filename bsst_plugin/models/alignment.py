"""Alignment of two earlier frames' features to the current frame (Figure 3 of the paper)."""
from dataclasses import dataclass

import torch
from mmengine.model import BaseModule
from torch import Tensor, nn

from bsst_plugin.models.layers import conv3x3, leaky_relu
from bsst_plugin.ops import deform_conv2d
from mmagic.registry import MODELS


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


class _DeformableAlignment(BaseModule):
    """Second-order flow-guided deformable convolution; subclasses say what guides it."""

    guide_channels: int

    def __init__(
        self, channels: int = 192, deform_groups: int = 16, max_residue_magnitude: float = 5.0
    ) -> None:
        super().__init__()
        self.max_residue_magnitude = max_residue_magnitude
        conv = nn.Conv2d(2 * channels, channels, 3, padding=1)
        self.weight, self.bias = conv.weight, conv.bias
        self.conv_offset = nn.Sequential(
            conv3x3(3 * channels + self.guide_channels + 4, channels), leaky_relu(),
            conv3x3(channels, channels), leaky_relu(),
            conv3x3(channels, channels), leaky_relu(),
            conv3x3(channels, 27 * deform_groups))
        # The first samples lie where the flow points to.
        nn.init.zeros_(self.conv_offset[-1].weight)
        nn.init.zeros_(self.conv_offset[-1].bias)

    def _align(
        self, first: Neighbour, second: Neighbour, condition: list[Tensor],
        mask_bias: tuple[Tensor, Tensor] | None = None
    ) -> Tensor:
        dtype = first.feature.dtype
        condition = [part.to(dtype) for part in (*condition, first.flow, second.flow)]
        out = self.conv_offset(torch.cat(condition, dim=1))
        *residues, logits = out.float().chunk(3, dim=1)
        residue = self.max_residue_magnitude * torch.tanh(torch.cat(residues, dim=1))
        # Both orders get half of the samples: the flow is added to each, y before x.
        half = residue.shape[1] // 4
        flows = [n.flow.float().flip(1).repeat(1, half, 1, 1) for n in (first, second)]
        offset = residue + torch.cat(flows, dim=1)
        if mask_bias is not None:
            half = logits.shape[1] // 2
            logits = logits + torch.cat([b.expand(-1, half, -1, -1) for b in mask_bias], dim=1)
        features = torch.cat((first.feature, second.feature), dim=1)
        return deform_conv2d(features, offset, torch.sigmoid(logits), self.weight, self.bias)


@MODELS.register_module()
class BlurAwareAlignment(_DeformableAlignment):
    """Blur-aware feature alignment (BFA, Eq. 3).

    The sharp maps of the two earlier frames join the condition that makes offsets and masks, and
    are added to the masks as their base, so that sharp pixels are preferred. A sharp map counts
    only where the flow that warped it is consistent.

    Args:
        channels: C of the paper.
        deform_groups: Groups of offsets and masks; half of them sample the first neighbour.
        max_residue_magnitude: Largest offset that is learned on top of the flow, in pixels.
    """

    guide_channels = 5  # A1, A of the current frame, A2, valid1, valid2

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
        condition = [first.warped, current, second.warped, first.sharp_map, sharp_map,
                     second.sharp_map, first.valid, second.valid]
        mask_bias = tuple(0.1 * (2 * n.sharp_map * n.valid - 1) for n in (first, second))
        return self._align(first, second, condition, mask_bias)


@MODELS.register_module()
class FlowGuidedAlignment(_DeformableAlignment):
    """Standard flow-guided feature alignment (SFFA of Table 6): no sharp maps, no check.

    Args:
        channels: C of the paper.
        deform_groups: Groups of offsets and masks; half of them sample the first neighbour.
        max_residue_magnitude: Largest offset that is learned on top of the flow, in pixels.
    """

    guide_channels = 0

    def forward(
        self, current: Tensor, sharp_map: Tensor, first: Neighbour, second: Neighbour
    ) -> Tensor:
        """Align both neighbours; same arguments as ``BlurAwareAlignment``, A unused."""
        return self._align(first, second, [first.warped, current, second.warped])
