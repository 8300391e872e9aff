"""Frame decoder of the released network: grouped spatio-temporal shifts."""

from collections.abc import Sequence
from functools import partial

import torch
import torch.nn.functional as F
from mmagic.registry import MODELS
from mmengine.model import BaseModule
from torch import Tensor, nn

from bsst_plugin.models.layers import CAB, GatedCAB, conv3x3, in_chunks, leaky_relu, zeroed

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

    Clips are flattened to t*c channels and rolled by c/2, forward and back in turn: half of a
    frame's channels come from the frame before or after; the clip wraps around.

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
        x = x.contiguous(memory_format=torch.channels_last)  # LayerNorm and 1 x 1 convolutions
        frames = torch.arange(len(x), device=x.device).view(-1, t)  # clip and frame
        for index in range(len(self.merge)):
            neighbours = frames.roll(1 if index % 2 == 0 else -1, dims=1).flatten()
            x = in_chunks(partial(self._round, index, x), x, neighbours)
        return x

    def _round(self, index: int, clips: Tensor, x: Tensor, neighbours: Tensor) -> Tensor:
        """One round; what arrives is half of the channels of the frame before or after."""
        neighbour = clips[neighbours]
        own, passed_on = x[:, : self.exchanged], x[:, self.exchanged :]
        if index % 2 == 0:
            arrived = neighbour[:, self.exchanged :]
            x = torch.cat((arrived, own), dim=1)
        else:
            arrived = neighbour[:, : self.exchanged]
            x = torch.cat((passed_on, arrived), dim=1)
        # Rows of one channel are shifted at once.
        shifted = spatial_shift(arrived.contiguous()).contiguous(memory_format=torch.channels_last)
        return self.refine[index](self.merge[index](x, shifted))


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
        x = in_chunks(self._to_half, feature, half)
        for block in self.shift_blocks:
            x = block(x, t)
        return in_chunks(self._to_frame, full, x)

    def _to_half(self, feature: Tensor, half: Tensor) -> Tensor:
        # The 1 x 1 convolution and the interpolation commute; this order is four times cheaper.
        x = F.interpolate(self.up_half(feature), scale_factor=2, mode='bilinear')
        return x + self.skip_half(half)

    def _to_frame(self, full: Tensor, x: Tensor) -> Tensor:
        x = self.conv_full(self.act(F.pixel_shuffle(self.up_full(x), 2)))
        return self.to_frame(self.refine_full(x + self.skip_full(full)))
