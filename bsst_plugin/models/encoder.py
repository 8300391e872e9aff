"""Frame encoder of the released network."""

from mmagic.registry import MODELS
from mmengine.model import BaseModule
from torch import Tensor, nn

from bsst_plugin.models.layers import CAB, conv3x3, in_chunks, leaky_relu


@MODELS.register_module()
class FrameEncoder(BaseModule):
    """Features of single frames at full, half and quarter resolution.

    Args:
        shallow_channels: Channels at full and half resolution.
        channels: Channels at quarter resolution, C of the paper.
    """

    def __init__(self, shallow_channels: int = 64, channels: int = 192) -> None:
        super().__init__()
        s = shallow_channels
        self.to_full = nn.Sequential(conv3x3(3, s, bias=False), leaky_relu(), CAB(s))
        self.to_half = nn.Sequential(conv3x3(s, s, 2, bias=False), leaky_relu(), CAB(s), CAB(s))
        self.to_quarter = nn.Sequential(
            conv3x3(s, channels, 2, bias=False), leaky_relu(), CAB(channels), CAB(channels)
        )

    def forward(self, frames: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Encode each frame on its own.

        Args:
            frames: ``(b, 3, h, w)`` in [0, 1], h and w multiples of 4.

        Returns:
            ``(b, s, h, w)``, ``(b, s, h/2, w/2)`` and ``(b, c, h/4, w/4)``.
        """
        full = in_chunks(self.to_full, frames)
        half = in_chunks(self.to_half, full)
        return full, half, in_chunks(self.to_quarter, half)
