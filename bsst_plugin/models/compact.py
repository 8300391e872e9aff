"""Encoder and decoder for small networks: everything at quarter resolution."""

from collections.abc import Sequence

import torch.nn.functional as F
from mmagic.models.archs import ResidualBlockNoBN
from mmagic.registry import MODELS
from mmengine.model import BaseModule
from torch import Tensor, nn

from bsst_plugin.models.layers import conv3x3, leaky_relu, zeroed

SCALE = 4


@MODELS.register_module()
class CompactEncoder(BaseModule):
    """Features of single frames, computed at quarter resolution from the start.

    Each 4 x 4 block of pixels becomes the 48 channels of one position. Few channels at full
    resolution, as a small ``FrameEncoder`` has them, keep a CPU waiting for memory; the same
    number of multiplications at quarter resolution takes a fraction of the time.

    Args:
        channels: Channels of the feature, C of the paper.
        num_blocks: Number of residual blocks.
    """

    def __init__(self, channels: int = 48, num_blocks: int = 2) -> None:
        super().__init__()
        self.to_quarter = nn.Sequential(conv3x3(3 * SCALE**2, channels), leaky_relu())
        self.blocks = nn.Sequential(*(ResidualBlockNoBN(channels) for _ in range(num_blocks)))

    def forward(self, frames: Tensor) -> tuple[Tensor, Tensor]:
        """Encode each frame on its own.

        Args:
            frames: ``(b, 3, h, w)`` in [0, 1], h and w multiples of 4.

        Returns:
            What the decoder takes up again and the feature, both ``(b, c, h/4, w/4)``.
        """
        shallow = self.to_quarter(F.pixel_unshuffle(frames, SCALE))
        return shallow, self.blocks(shallow)


@MODELS.register_module()
class CompactDecoder(BaseModule):
    """From refined features to the residual of each frame, the counterpart of ``CompactEncoder``.

    Args:
        channels: Channels of the input, C of the paper.
        num_blocks: Number of residual blocks.
    """

    def __init__(self, channels: int = 48, num_blocks: int = 4) -> None:
        super().__init__()
        self.merge = nn.Sequential(conv3x3(channels, channels), leaky_relu())
        self.blocks = nn.Sequential(*(ResidualBlockNoBN(channels) for _ in range(num_blocks)))
        # A fresh network leaves the frames as they are.
        self.to_frame = zeroed(conv3x3(channels, 3 * SCALE**2))

    def forward(self, feature: Tensor, skips: Sequence[Tensor], t: int) -> Tensor:
        """Decode the clips of a batch.

        Args:
            feature: ``(n*t, c, h/4, w/4)``, refined features.
            skips: The encoder's shallow feature, ``(n*t, c, h/4, w/4)``.
            t: Frames of a clip; each frame is decoded on its own.

        Returns:
            ``(n*t, 3, h, w)``, to be added to the frames.
        """
        (shallow,) = skips
        return F.pixel_shuffle(self.to_frame(self.blocks(self.merge(feature + shallow))), SCALE)
