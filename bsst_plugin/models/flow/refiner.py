"""Learned correction of optical flow, part of the released network and absent from the paper."""

import torch
import torch.nn.functional as F
from einops import rearrange
from mmagic.registry import MODELS
from mmengine.model import BaseModule
from torch import Tensor, nn

from bsst_plugin.models.layers import GuidedDeformConv, conv3x3, leaky_relu, zeroed

CHANNELS = 64


def _act() -> nn.LeakyReLU:
    return nn.LeakyReLU(0.2, inplace=True)


class P3D(nn.Sequential):
    """Pseudo-3D convolution: over space, LReLU, over time with dilation 2.

    Args:
        in_channels: Channels of the input.
        out_channels: Channels of the output.
        stride: Step over space.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int = 1) -> None:
        super().__init__(
            nn.Conv3d(in_channels, out_channels, (1, 3, 3), (1, stride, stride), (0, 1, 1)),
            _act(),
            nn.Conv3d(out_channels, out_channels, (3, 1, 1), padding=(2, 0, 0), dilation=(2, 1, 1)),
        )


class _UpConv(nn.Conv2d):
    """Bilinear x2 with aligned corners, then a 3 x 3 convolution."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__(in_channels, out_channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(
            F.interpolate(x, scale_factor=2, mode='bilinear', align_corners=True)
        )


class _Propagation(nn.Module):
    """One direction of second-order deformable propagation without flow.

    Args:
        in_features: Features that the update sees beside the propagated one.
    """

    def __init__(self, in_features: int) -> None:
        super().__init__()
        c = CHANNELS
        self.deform = GuidedDeformConv(c, 3 * c)
        self.update = nn.Sequential(conv3x3((in_features + 1) * c, c), leaky_relu(), conv3x3(c, c))

    def forward(self, inputs: list[Tensor], others: list[list[Tensor]]) -> list[Tensor]:
        """Propagate along ``inputs``, each ``(n, c, h, w)``; ``others`` join each update."""
        done: list[Tensor] = []
        for i, current in enumerate(inputs):
            prop = torch.zeros_like(current)
            if i > 0:
                first, second = done[i - 1], done[i - 2] if i > 1 else prop
                prop = self.deform(first, second, torch.cat((first, current, second), dim=1))
            extra = [other[i] for other in others]
            done.append(prop + self.update(torch.cat([current, *extra, prop], dim=1)))
        return done


@MODELS.register_module()
class FlowRefiner(BaseModule):
    """Correct the flows of a clip, guided by the blur map that the raw flows give.

    A small recurrent network over each direction's flows and the blur maps of the frames they
    point from; one network serves both directions.
    """

    def __init__(self) -> None:
        super().__init__()
        c = CHANNELS
        self.downsample = nn.Sequential(
            nn.Conv3d(3, c // 2, (1, 5, 5), (1, 2, 2), (0, 2, 2), padding_mode='replicate'), _act()
        )
        self.encode = nn.Sequential(P3D(c // 2, c // 2), _act(), P3D(c // 2, c, stride=2), _act())
        self.dilated = nn.Sequential(
            *(
                layer
                for d in (3, 2, 1)
                for layer in (
                    nn.Conv3d(c, c, (1, 3, 3), padding=(0, d, d), dilation=(1, d, d)),
                    _act(),
                )
            )
        )
        self.backward_prop = _Propagation(in_features=1)
        self.forward_prop = _Propagation(in_features=2)
        self.fuse = nn.Conv2d(2 * c, c, 1)
        self.decode = nn.Sequential(
            conv3x3(c, c),
            _act(),
            _UpConv(c, c // 2),
            _act(),
            conv3x3(c // 2, c // 2),
            _act(),
            zeroed(_UpConv(c // 2, 2)),
        )

    def forward(
        self, blur_map: Tensor, flows_forward: Tensor, flows_backward: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Refine the flows of both directions.

        Args:
            blur_map: ``(n, t, 1, h, w)`` from the raw flows, h and w multiples of 4.
            flows_forward: ``(n, t-1, 2, h, w)`` in pixels, frame i+1 to frame i.
            flows_backward: ``(n, t-1, 2, h, w)`` in pixels, frame i to frame i+1.

        Returns:
            Forward and backward flows of the same shapes, float32.
        """
        forward = self._refine(blur_map[:, :-1].flip(1), flows_forward.flip(1)).flip(1)
        return forward, self._refine(blur_map[:, 1:], flows_backward)

    def _refine(self, blur_map: Tensor, flows: Tensor) -> Tensor:
        n, steps = flows.shape[:2]
        x = torch.cat((blur_map, flows), dim=2)  # (n, t-1, 3, h, w)
        encoded = self.encode(self.downsample(rearrange(x, 'n t c h w -> n c t h w')))
        inputs = list(self.dilated(encoded).unbind(2))  # t-1 times (n, c, h/4, w/4)
        backward = self.backward_prop(inputs[::-1], [])[::-1]
        forward = self.forward_prop(inputs, [backward])
        fused = [
            self.fuse(torch.cat(pair, dim=1)) + x
            for *pair, x in zip(backward, forward, inputs, strict=True)
        ]
        feature = torch.stack(fused, dim=2) + encoded  # (n, c, t-1, h/4, w/4)
        correction = self.decode(rearrange(feature, 'n c t h w -> (n t) c h w'))
        return flows.float() + correction.float().unflatten(0, (n, steps))
