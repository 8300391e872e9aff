"""Blur-aware bidirectional feature propagation (section 3.3 of the paper)."""

import torch
from mmagic.registry import MODELS
from mmengine.model import BaseModule
from torch import Tensor, nn

from bsst_plugin.models.alignment import Neighbour
from bsst_plugin.models.layers import GatedCAB, LeadingConv3x3, leaky_relu
from bsst_plugin.ops import flow_consistency, flow_warp


@MODELS.register_module()
class BBFP(BaseModule):
    """Backbone: features travel backward and forward in time, aligned by flow.

    Branch j passes from frame to frame what it gathered, aligned with the help of the sharp maps
    (Eq. 3), and adds what the encoder and the branches before it say of the frame.

    Args:
        channels: C of the paper.
        num_branches: Number of branches; the first one runs backward in time, the next one
            forward, and so on.
        alignment: Config of the alignment, ``BlurAwareAlignment`` or ``FlowGuidedAlignment``,
            without its ``channels``, which are those of the backbone.
    """

    def __init__(
        self,
        channels: int = 192,
        num_branches: int = 4,
        alignment: dict = dict(type='BlurAwareAlignment'),
    ) -> None:
        super().__init__()
        self.out_channels = (1 + num_branches) * channels
        self.alignments = nn.ModuleList(
            MODELS.build(dict(alignment, channels=channels)) for _ in range(num_branches)
        )
        self.bodies = nn.ModuleList(
            nn.Sequential(
                LeadingConv3x3((2 + i) * channels, channels),
                leaky_relu(),
                GatedCAB(channels, kernel_size=3),
            )
            for i in range(num_branches)
        )

    def forward(
        self, features: Tensor, flows_forward: Tensor, flows_backward: Tensor, sharp_map: Tensor
    ) -> Tensor:
        """Propagate through all branches.

        Args:
            features: ``(n, t, c, h, w)`` from the encoder.
            flows_forward: ``(n, t-1, 2, h, w)`` in pixels, frame i+1 to frame i.
            flows_backward: ``(n, t-1, 2, h, w)`` in pixels, frame i to frame i+1.
            sharp_map: ``(n, t, 1, h, w)`` in [0, 1], A of the paper.

        Returns:
            ``(n, t, (1 + num_branches) * c, h, w)``: the encoder's feature and each branch's.
        """
        forward, backward = list(flows_forward.unbind(1)), list(flows_backward.unbind(1))
        sharp_maps = list(sharp_map.unbind(1))
        branches = [list(features.unbind(1))]  # per branch, the features of its frames
        for index in range(len(self.bodies)):
            if index % 2 == 0:  # backward in time: the clip in reverse, with the flows swapped
                reverse = [branch[::-1] for branch in branches]
                done = self._propagate(
                    index, reverse, backward[::-1], forward[::-1], sharp_maps[::-1]
                )[::-1]
            else:
                done = self._propagate(index, branches, forward, backward, sharp_maps)
            branches.append(done)
        # Frame after frame, so that channels_last, which stack() would lose, stays as it is.
        frames = [torch.cat(frame, dim=1) for frame in zip(*branches, strict=True)]
        return torch.cat(frames).unflatten(0, (len(frames), -1)).transpose(0, 1)

    def _propagate(
        self,
        index: int,
        branches: list[list[Tensor]],
        flows: list[Tensor],
        opposite_flows: list[Tensor],
        sharp_maps: list[Tensor],
    ) -> list[Tensor]:
        """One branch. ``flows[i]`` maps frame i+1 to frame i, ``opposite_flows[i]`` back."""
        align, body = self.alignments[index], self.bodies[index]
        done: list[Tensor] = []
        for i, current in enumerate(branches[-1]):
            gathered = [branch[i] for branch in branches]
            if i == 0:  # nothing has been propagated yet, it counts as zero
                done.append(body(torch.cat(gathered, dim=1)))
                continue
            neighbours = self._neighbours(i, done, flows, opposite_flows, sharp_maps)
            prop = align(current, sharp_maps[i], *neighbours)
            done.append(prop + body(torch.cat([*gathered, prop], dim=1)))
        return done

    @staticmethod
    def _neighbours(
        i: int,
        done: list[Tensor],
        flows: list[Tensor],
        opposite_flows: list[Tensor],
        sharp_maps: list[Tensor],
    ) -> tuple[Neighbour, Neighbour]:
        """Frames i-1 and i-2 as seen from frame i."""

        def neighbour(step: int, flow: Tensor, opposite: Tensor) -> Neighbour:
            feature = done[i - step]
            return Neighbour(
                feature,
                flow_warp(feature, flow),
                flow,
                flow_warp(sharp_maps[i - step], flow),
                flow_consistency(flow, opposite),
            )

        flow1, opposite1 = flows[i - 1], opposite_flows[i - 1]
        first = neighbour(1, flow1, opposite1)
        if i == 1:
            return first, Neighbour.absent(first)
        flow2 = flow1 + flow_warp(flows[i - 2], flow1)  # O_{t -> t-2}
        # The geometric composition would swap the roles; the released weights know this one.
        opposite2 = opposite1 + flow_warp(opposite_flows[i - 2], opposite1)
        return first, neighbour(2, flow2, opposite2)
