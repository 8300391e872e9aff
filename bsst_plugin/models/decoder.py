"""Frame decoder of the released network: grouped spatio-temporal shifts."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from einops import rearrange
from mmagic.registry import MODELS
from mmengine.model import BaseModule
from torch import Tensor, nn

from bsst_plugin.models.layers import CAB, GatedCAB, conv3x3, leaky_relu, zeroed

# (dy, dx) in pixels: the 16 positions around a square of side 16, the 8 around one of side 8.
FAR_SHIFTS = (
    (8, 8),
    (8, 4),
    (8, 0),
    (8, -4),
    (8, -8),
    (-8, 8),
    (-8, 4),
    (-8, 0),
    (-8, -4),
    (-8, -8),
    (4, 8),
    (4, -8),
    (0, 8),
    (0, -8),
    (-4, 8),
    (-4, -8),
)
NEAR_SHIFTS = ((4, 4), (4, 0), (4, -4), (0, 4), (0, -4), (-4, 4), (-4, 0), (-4, -4))
REACH = 8


def spatial_shift(x: Tensor) -> Tensor:
    """Shift groups of channels in different directions, zeros coming in from outside.

    ``out[y, x] = in[y - dy, x - dx]``. The far shifts come first; of 32 channels each of them
    gets one and each near shift two.

    Args:
        x: ``(b, c, h, w)``, c a multiple of 8.

    Returns:
        Same shape.
    """
    c, h, w = x.shape[1:]
    share = c // 8
    far = (share - 1) // 2
    sizes = [far] * len(FAR_SHIFTS) + [share - 2 * far] * len(NEAR_SHIFTS)
    padded = F.pad(x, (REACH,) * 4)
    out = []
    for (dy, dx), part in zip(FAR_SHIFTS + NEAR_SHIFTS, padded.split(sizes, dim=1), strict=True):
        out.append(part[..., REACH - dy : REACH - dy + h, REACH - dx : REACH - dx + w])
    return torch.cat(out, dim=1)


class ShiftBlock(nn.Module):
    """Four rounds of: exchange half of the channels with a neighbouring frame, shift, refine.

    The clip is flattened to t*c channels and rolled by c/2, forward and back in turn, so that
    half of a frame's channels come from its neighbour; the clip wraps around.

    Args:
        channels: c, a multiple of 16.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.exchanged = channels // 2
        self.merge = nn.ModuleList(
            GatedCAB(channels, extra_channels=self.exchanged) for _ in range(4)
        )
        self.refine = nn.ModuleList(GatedCAB(channels) for _ in range(4))

    def forward(self, x: Tensor, t: int) -> Tensor:
        """Refine ``(n*t, c, h, w)``, clips of ``t`` frames; same shape."""
        for index, (merge, refine) in enumerate(zip(self.merge, self.refine, strict=True)):
            forward = index % 2 == 0
            clip = rearrange(x, '(n t) c h w -> n (t c) h w', t=t)
            clip = clip.roll(self.exchanged if forward else -self.exchanged, dims=1)
            x = rearrange(clip, 'n (t c) h w -> (n t) c h w', t=t)
            arrived = x[:, : self.exchanged] if forward else x[:, -self.exchanged :]
            x = refine(merge(x, spatial_shift(arrived)))
        return x


@MODELS.register_module()
class FrameDecoder(BaseModule):
    """From refined features to the residual of each frame.

    Args:
        channels: Channels of the input at quarter resolution, C of the paper.
        shallow_channels: Channels at half and full resolution, as in the encoder.
        num_blocks: Number of shift blocks.
    """

    def __init__(
        self, channels: int = 192, shallow_channels: int = 64, num_blocks: int = 2
    ) -> None:
        super().__init__()
        s = shallow_channels
        self.up_half = nn.Conv2d(channels, s, 1, bias=False)
        self.skip_half = CAB(s)
        self.shift_blocks = nn.ModuleList(ShiftBlock(s) for _ in range(num_blocks))
        self.up_full = conv3x3(s, 4 * s)
        self.act = leaky_relu()
        self.conv_full = conv3x3(s, s, bias=False)
        self.skip_full = CAB(s)
        self.refine_full = CAB(s)
        # A fresh network leaves the frames as they are.
        self.to_frame = zeroed(conv3x3(s, 3, bias=False))

    def forward(self, feature: Tensor, skips: Sequence[Tensor], t: int) -> Tensor:
        """Decode the clips of a batch.

        Args:
            feature: ``(n*t, c, h/4, w/4)``, refined features.
            skips: The encoder's features at full and half resolution, ``(n*t, s, h, w)`` and
                ``(n*t, s, h/2, w/2)``.
            t: Frames of a clip.

        Returns:
            ``(n*t, 3, h, w)``, to be added to the frames.
        """
        full, half = skips
        # The 1 x 1 convolution and the interpolation commute; this order is four times cheaper.
        x = F.interpolate(self.up_half(feature), scale_factor=2, mode='bilinear')
        x = x + self.skip_half(half)
        for block in self.shift_blocks:
            x = block(x, t)
        x = self.conv_full(self.act(F.pixel_shuffle(self.up_full(x), 2)))
        x = self.refine_full(x + self.skip_full(full))
        return self.to_frame(x)
