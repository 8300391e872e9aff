"""Encoder and decoder for small networks: features at quarter resolution, motion made explicit.

A large network learns by itself that blur follows motion. A small one learns far sooner if it is
shown what lies along the path of each pixel (``path_differences``), and if it may answer with a
filter along that path: in coordinates of the motion all blurs are alike, whatever their direction
and length.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from mmagic.registry import MODELS
from mmengine.model import BaseModule
from torch import Tensor, nn

from bsst_plugin.models.layers import CAB, conv3x3, in_chunks, leaky_relu, zeroed
from bsst_plugin.models.motion_path import path_differences

SCALE = 4
#: Times around the middle of the exposure at which a pixel's path is looked at, in frames. A
#: shutter is open for at most one frame, half of it before the middle.
_AFTER = (0.08, 0.16, 0.24, 0.32, 0.4, 0.5, 0.7, 1.0)
PATH_TIMES = (*_AFTER, *(-time for time in _AFTER))
_PATH_CHANNELS = 8  # that the encoder makes of the differences of a pixel


@MODELS.register_module()
class CompactEncoder(BaseModule):
    """Features of single frames at quarter resolution, of their pixels and what moved over them.

    Each 4 x 4 block of pixels becomes the channels of one position. Many channels at full
    resolution, as ``FrameEncoder`` has them, keep a CPU waiting for memory; the same number of
    multiplications at quarter resolution takes a fraction of the time.

    Args:
        channels: Channels of the feature, C of the paper.
        num_blocks: Number of channel attention blocks.
    """

    uses_velocity = True

    def __init__(self, channels: int = 48, num_blocks: int = 2) -> None:
        super().__init__()
        self.along_path = nn.Sequential(
            nn.Conv2d(3 * len(PATH_TIMES), _PATH_CHANNELS, 1), leaky_relu()
        )
        # Pixels, what lies along their paths, velocity and speed.
        inputs = (3 + _PATH_CHANNELS) * SCALE**2 + 3
        self.to_quarter = nn.Sequential(conv3x3(inputs, channels), leaky_relu())
        self.blocks = nn.Sequential(*(CAB(channels) for _ in range(num_blocks)))

    def forward(self, frames: Tensor, velocity: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Encode each frame on its own.

        Args:
            frames: ``(b, 3, h, w)`` in [0, 1], h and w multiples of 4.
            velocity: ``(b, 2, h/4, w/4)`` in pixels of that size a frame, see ``frame_velocity``.

        Returns:
            What the decoder takes up again: ``frames``, ``velocity`` and a shallow feature; and
            the feature. Both features are ``(b, c, h/4, w/4)``.
        """
        shallow = in_chunks(self._shallow, frames, velocity)
        return frames, velocity, shallow, in_chunks(self.blocks, shallow)

    def _shallow(self, frames: Tensor, velocity: Tensor) -> Tensor:
        differences = path_differences(frames, velocity, PATH_TIMES).flatten(1, 2)
        # Scaled to about the size of the pixels' values: differences are small.
        path = F.pixel_unshuffle(self.along_path(SCALE * differences), SCALE)
        # A velocity of one is a blur that fills a block.
        motion = torch.cat((velocity, velocity.norm(dim=1, keepdim=True)), dim=1) / SCALE
        pixels = F.pixel_unshuffle(frames, SCALE)
        return self.to_quarter(torch.cat((pixels, motion.to(path.dtype), path), dim=1))


@MODELS.register_module()
class CompactDecoder(BaseModule):
    """From refined features to the residual of each frame, the counterpart of ``CompactEncoder``.

    The residual is a filter along the path of each pixel, whose weights the network chooses
    there, and what it paints on top: ``sum_s W_s(x) D_s(x) + R(x)``.

    Args:
        channels: Channels of the input, C of the paper.
        num_blocks: Number of channel attention blocks.
    """

    def __init__(self, channels: int = 48, num_blocks: int = 4) -> None:
        super().__init__()
        self.merge = nn.Sequential(conv3x3(channels, channels), leaky_relu())
        self.blocks = nn.Sequential(*(CAB(channels) for _ in range(num_blocks)))
        # A fresh network leaves the frames as they are.
        self.to_filter = zeroed(conv3x3(channels, len(PATH_TIMES) * SCALE**2))
        self.to_frame = zeroed(conv3x3(channels, 3 * SCALE**2))

    def forward(self, feature: Tensor, skips: Sequence[Tensor], t: int) -> Tensor:
        """Decode the clips of a batch.

        Args:
            feature: ``(n*t, c, h/4, w/4)``, refined features.
            skips: What the encoder returned: frames, velocity and shallow feature.
            t: Frames of a clip; each frame is decoded on its own.

        Returns:
            ``(n*t, 3, h, w)``, to be added to the frames.
        """
        return in_chunks(self._decode, *skips, feature)

    def _decode(self, frames: Tensor, velocity: Tensor, shallow: Tensor, feature: Tensor) -> Tensor:
        x = self.blocks(self.merge(feature + shallow))
        weights = F.pixel_shuffle(self.to_filter(x), SCALE)  # (b, times, h, w)
        # Computed again: kept for all frames since the encoder, they would take more memory than
        # all features.
        differences = path_differences(frames, velocity, PATH_TIMES)
        filtered = (differences * weights[:, None]).sum(2)
        return filtered + F.pixel_shuffle(self.to_frame(x), SCALE)
