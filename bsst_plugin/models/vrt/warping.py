"""Parallel warping: neighbouring frames brought to each frame, all frames at once."""

import itertools

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bsst_plugin.models.layers import conv3x3, leaky_relu, zeroed
from bsst_plugin.models.vrt.attention import GatedMLP
from bsst_plugin.ops import deform_conv2d, flow_warp
from bsst_plugin.ops.warp import sampling_grid


def warp_corners(frames: Tensor, flow: Tensor) -> Tensor:
    """The four pixels around the position that a flow points to, not interpolated.

    Args:
        frames: ``(n, c, h, w)``.
        flow: ``(n, 2, h, w)`` float32 in pixels, channel 0 is x.

    Returns:
        ``(n, 4c, h, w)``: upper left, lower left, upper right, lower right; zero outside.
    """
    h, w = frames.shape[-2:]
    x = torch.arange(w, dtype=flow.dtype, device=flow.device) + flow[:, 0]
    y = torch.arange(h, dtype=flow.dtype, device=flow.device)[:, None] + flow[:, 1]
    corners = itertools.product((x.floor(), x.ceil()), (y.floor(), y.ceil()))
    return torch.cat(
        [
            F.grid_sample(frames, sampling_grid(*corner, h, w), 'nearest', align_corners=False)
            for corner in corners
        ],
        dim=1,
    )


def with_neighbours(frames: Tensor, flows_forward: Tensor, flows_backward: Tensor) -> Tensor:
    """Each frame with the next and the previous one warped to it by :func:`warp_corners`.

    Args:
        frames: ``(n, t, c, h, w)``.
        flows_forward: ``(n, t-1, 2, h, w)``, from each frame but the first to the one before.
        flows_backward: Same shape, from each frame but the last to the next.

    Returns:
        ``(n, t, 9c, h, w)``; zero where there is no such frame.
    """
    n, t = frames.shape[:2]
    following = warp_corners(frames[:, 1:].flatten(0, 1), flows_backward.flatten(0, 1))
    previous = warp_corners(frames[:, :-1].flatten(0, 1), flows_forward.flatten(0, 1))
    following = F.pad(following.unflatten(0, (n, t - 1)), (0, 0, 0, 0, 0, 0, 0, 1))
    previous = F.pad(previous.unflatten(0, (n, t - 1)), (0, 0, 0, 0, 0, 0, 1, 0))
    return torch.cat((frames, following, previous), dim=2)


class FlowGuidedDeformConv(nn.Module):
    """Deformable convolution of one frame's feature around where the flow points to.

    Args:
        channels: Channels of input and output.
        deform_groups: Groups of offsets and masks.
        max_residue_magnitude: Largest learned offset in pixels.
    """

    def __init__(self, channels: int, deform_groups: int, max_residue_magnitude: float) -> None:
        super().__init__()
        c = channels
        self.max_residue_magnitude = max_residue_magnitude
        self.conv = conv3x3(c, c)  # holds the weights, is not called
        self.conv_offset = nn.Sequential(
            conv3x3(2 * c + 2, c),
            leaky_relu(),
            conv3x3(c, c),
            leaky_relu(),
            conv3x3(c, c),
            leaky_relu(),
            zeroed(conv3x3(c, 27 * deform_groups)),
        )

    def forward(self, source: Tensor, current: Tensor, flow: Tensor) -> Tensor:
        """Bring ``source`` to ``current``.

        Args:
            source: ``(n, c, h, w)``, feature of the neighbour.
            current: Same shape, feature of the frame itself.
            flow: ``(n, 2, h, w)`` float32 in pixels, from the frame to the neighbour.

        Returns:
            ``(n, c, h, w)``.
        """
        condition = torch.cat((flow_warp(source, flow), current, flow), dim=1)
        *residues, logits = self.conv_offset(condition).float().chunk(3, dim=1)
        offset = self.max_residue_magnitude * torch.tanh(torch.cat(residues, dim=1))
        offset = offset + flow.flip(1).repeat(1, offset.shape[1] // 2, 1, 1)  # y comes before x
        weight, bias = self.conv.parameters()
        return deform_conv2d(source, offset, torch.sigmoid(logits), weight, bias)


class ParallelWarping(nn.Module):
    """Fuse each frame's feature with those of its two neighbours, brought to it.

    Args:
        channels: Channels of input and output.
        deform_groups: See :class:`FlowGuidedDeformConv`.
        max_residue_magnitude: See :class:`FlowGuidedDeformConv`.
    """

    def __init__(self, channels: int, deform_groups: int, max_residue_magnitude: float) -> None:
        super().__init__()
        self.deform = FlowGuidedDeformConv(channels, deform_groups, max_residue_magnitude)
        self.fuse = GatedMLP(3 * channels, 3 * channels, channels)

    def forward(self, x: Tensor, flows_forward: Tensor, flows_backward: Tensor) -> Tensor:
        """Fuse.

        Args:
            x: ``(n, t, h, w, c)``.
            flows_forward: ``(n, t-1, 2, h, w)``, from each frame but the first to the one before.
            flows_backward: Same shape, from each frame but the last to the next.

        Returns:
            ``(n, t, h, w, c)``.
        """
        frames = x.permute(0, 1, 4, 2, 3).unbind(1)
        none = torch.zeros_like(frames[0])
        out = []
        # Frame by frame, though none waits for another: the samples of all would not fit.
        for i, current in enumerate(frames):
            following = previous = none
            if i + 1 < len(frames):
                following = self.deform(frames[i + 1], current, flows_backward[:, i])
            if i > 0:
                previous = self.deform(frames[i - 1], current, flows_forward[:, i - 1])
            merged = torch.cat((current, following, previous), dim=1)
            out.append(self.fuse(merged.permute(0, 2, 3, 1)))
        return torch.stack(out, dim=1)
