"""Encoder and decoder for small networks: quarter resolution, and candidates to mix.

A large network learns by itself that blur follows motion, and how to undo that. A small one learns
far sooner to judge: it is shown what Richardson and Lucy's method makes of each frame for several
exposures (``path_deconvolutions``), along the flow and along the path that the blur shows
(``BlurPath``), what the neighbouring frames show there (``neighbour_differences``) and what tells
the exposure (``path_contrast``), and says for each place how much of which to take. The method
alone does harm where the exposure is another, at edges of moving things and to noise. What that
makes of all frames tells more, so that it chooses twice (``SecondPass``).
"""

from collections.abc import Sequence
from functools import partial

import torch
import torch.nn.functional as F
from mmagic.registry import MODELS
from mmengine.model import BaseModule
from torch import Tensor, nn

from bsst_plugin.models.blur_path import BlurPath, likeliest_path, path_evidence
from bsst_plugin.models.layers import CAB, conv3x3, in_chunks, leaky_relu, zeroed
from bsst_plugin.models.mixture import SCALE, mixture, seen, strength
from bsst_plugin.models.motion_path import (
    frame_velocity,
    in_blocks,
    neighbour_differences,
    path_contrast,
    path_deconvolutions,
)
from bsst_plugin.models.second_pass import SecondPass

#: What is tried: blur of light as in cameras and of pixel values as in many averages of video,
#: exposures in frames, lengths in parts of the path that the blur shows, and numbers of steps, few
#: where it is noisy, many where it is not.
GAMMAS = (2.2, 1.0)
EXPOSURES = (0.3, 0.65, 1.0)
PATH_PARTS = (1.0, 1.5)
ITERATIONS = (2, 5)
RESTORATIONS = len(GAMMAS) * (len(EXPOSURES) + len(PATH_PARTS)) * len(ITERATIONS)
CANDIDATES = RESTORATIONS + 4  # and what the neighbours show
#: Times between the places whose contrast is measured, in frames.
SPANS = (0.1, 0.2, 0.3, 0.4, 0.55, 0.7, 0.85, 1.0)
_SEEN_CHANNELS = 8  # that the encoder makes of the candidates of a pixel
# Velocity, speed, contrasts, strength of each candidate, how neighbours disagree, path, its length
# and how likely it and none is.
_PATH_HINT = 3 + 4 * len(SPANS) + CANDIDATES + 2
HINTS = _PATH_HINT + 5


@MODELS.register_module()
class CompactEncoder(BaseModule):
    """Features of single frames at quarter resolution, of their pixels and candidates.

    Each 4 x 4 block of pixels becomes the channels of one position. Many channels at full
    resolution, as ``FrameEncoder`` has them, keep a CPU waiting for memory; the same number of
    multiplications at quarter resolution takes a fraction of the time.

    Args:
        channels: Channels of the feature, C of the paper.
        num_blocks: Number of channel attention blocks.
    """

    uses_flows = True

    def __init__(self, channels: int = 48, num_blocks: int = 2) -> None:
        super().__init__()
        # Trained before the rest, with tools/fit_path.py: what it says is not differentiable.
        self.blur_path = BlurPath().requires_grad_(False)
        self.see = nn.Sequential(nn.Conv2d(3 * CANDIDATES, _SEEN_CHANNELS, 1), leaky_relu())
        inputs = (3 + _SEEN_CHANNELS) * SCALE**2 + HINTS
        self.to_quarter = nn.Sequential(conv3x3(inputs, channels), leaky_relu())
        self.blocks = nn.Sequential(*(CAB(channels) for _ in range(num_blocks)))

    def forward(
        self, frames: Tensor, flows_forward: Tensor, flows_backward: Tensor
    ) -> tuple[Tensor, ...]:
        """Encode the clips of a batch.

        Args:
            frames: ``(n*t, 3, h, w)`` in [0, 1], h and w multiples of 4.
            flows_forward: ``(n, t-1, 2, h/4, w/4)`` in pixels of that size, frame i+1 to frame i.
            flows_backward: ``(n, t-1, 2, h/4, w/4)``, frame i to frame i+1.

        Returns:
            What the decoder takes up again: all it was given, candidates ``(n*t, 3, k, h, w)``,
            see ``evidence``, hints ``(n*t, d, h/4, w/4)`` and the feature; and the feature,
            ``(n*t, c, h/4, w/4)``.
        """
        candidates, hints = self.evidence(frames, flows_forward, flows_backward)
        feature = in_chunks(self.encode, frames, candidates, hints)
        return frames, flows_forward, flows_backward, candidates, hints, feature, feature

    @torch.no_grad()
    def evidence(
        self, frames: Tensor, flows_forward: Tensor, flows_backward: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Candidates and hints, see :meth:`forward`; they carry no gradient.

        Candidates are what may be added to a frame: each restoration as what it adds to those
        before it, and ``neighbour_differences``.
        """
        flows = (flows_forward, flows_backward)
        n, t = len(flows_forward), flows_forward.shape[1] + 1
        velocity = frame_velocity(*flows)
        clips = frames.unflatten(0, (n, t))
        contrast = path_contrast(clips, velocity, SPANS).flatten(0, 1)
        velocity = velocity.flatten(0, 1)
        logits = in_chunks(self.blur_path, path_evidence(clips, *flows))
        path, likely = likeliest_path(logits, velocity)
        restored = [
            in_chunks(partial(_restorations, exposures=exposures), frames, way)
            for exposures, way in ((EXPOSURES, velocity), (PATH_PARTS, path))
        ]
        candidates = torch.cat((*restored, neighbour_differences(clips, *flows)), dim=2)
        return candidates, in_chunks(_hints, candidates, velocity, contrast, path, likely)

    def encode(self, frames: Tensor, candidates: Tensor, hints: Tensor) -> Tensor:
        """The feature ``(b, c, h/4, w/4)`` of frames whose candidates and hints are known."""
        changes = F.pixel_unshuffle(seen(candidates, self.see), SCALE)
        pixels = F.pixel_unshuffle(frames, SCALE)
        x = torch.cat((pixels, hints.to(changes.dtype), changes), dim=1)
        return self.blocks(self.to_quarter(x))


def _restorations(frames: Tensor, velocity: Tensor, exposures: Sequence[float]) -> Tensor:
    """What each exposure adds to the next shorter one, more steps to fewer, pixel values to light.

    The restorations themselves are so alike that a mixture of them is hard to learn.
    """
    results = path_deconvolutions(frames, velocity, GAMMAS, exposures, ITERATIONS)
    results = results.unflatten(2, (len(GAMMAS), len(exposures), len(ITERATIONS)))
    for dim in (2, 3, 4):
        parts = results.unbind(dim)  # in place, the last first: torch.diff takes five times as long
        for before, own in zip(parts[-2::-1], parts[:0:-1], strict=True):
            own.sub_(before)
    return results.flatten(2, 4)


def _hints(
    candidates: Tensor, velocity: Tensor, contrast: Tensor, path: Tensor, likely: Tensor
) -> Tensor:
    """What is known of each 4 x 4 block, all of it about as large as one."""
    # A velocity of one is a blur that fills a block.
    motion, seen_motion = (in_blocks(way, SCALE) for way in (velocity, path))
    gaps = candidates[:, :, RESTORATIONS::2] - candidates[:, :, RESTORATIONS + 1 :: 2]
    exposure = contrast[:, :, None, None].expand(-1, -1, *velocity.shape[-2:])
    changes = (strength(candidates), strength(gaps))
    return torch.cat((motion, exposure, *changes, seen_motion, likely), dim=1)


@MODELS.register_module()
class CompactDecoder(BaseModule):
    """From refined features to the residual of each frame, the counterpart of ``CompactEncoder``.

    The residual is a mixture of the candidates, whose weights the network chooses for each
    4 x 4 block, and what it paints on top: ``sum_k W_k(p) D_k(p) + R(p)``. W is a guess from the
    hints, which is learned in minutes, corrected by what the features tell; it is interpolated.

    Args:
        channels: Channels of the input, C of the paper.
        num_blocks: Number of channel attention blocks.
        second_blocks: Number of those of a ``SecondPass``; none if 0.
    """

    def __init__(self, channels: int = 48, num_blocks: int = 4, second_blocks: int = 0) -> None:
        super().__init__()
        # A network whose single frames were trained first begins with what these give.
        self.merge = zeroed(conv3x3(channels, channels))
        self.blocks = nn.Sequential(*(CAB(channels) for _ in range(num_blocks)))
        # A fresh network leaves the frames as they are.
        self.to_guess = nn.Sequential(
            conv3x3(HINTS, channels),
            leaky_relu(),
            conv3x3(channels, channels),
            leaky_relu(),
            zeroed(conv3x3(channels, CANDIDATES)),
        )
        self.to_weights = zeroed(conv3x3(channels, CANDIDATES))
        self.to_frame = zeroed(conv3x3(channels, 3 * SCALE**2))
        self.second_pass = (
            SecondPass(CANDIDATES, channels, second_blocks) if second_blocks else None
        )

    def forward(self, feature: Tensor, skips: Sequence[Tensor], t: int) -> Tensor:
        """Decode the clips of a batch.

        Args:
            feature: ``(n*t, c, h/4, w/4)``, refined features.
            skips: What the encoder returned: frames, flows, candidates, hints and feature.
            t: Frames of a clip; the flows tell it, too.

        Returns:
            ``(n*t, 3, h, w)``, to be added to the frames.
        """
        frames, flows_forward, flows_backward, candidates, hints, encoded = skips
        x, first = self.first_pass(candidates, hints, encoded, feature)
        if self.second_pass is None:
            return first
        velocity, path = (SCALE * hints[:, i : i + 2] for i in (0, _PATH_HINT))
        ways, flows = (velocity, path), (flows_forward, flows_backward)
        return self.second_pass(frames, first, x, candidates, ways, flows)

    def first_pass(
        self, candidates: Tensor, hints: Tensor, encoded: Tensor, feature: Tensor
    ) -> tuple[Tensor, Tensor]:
        """What the weights are chosen from, ``(b, c, h/4, w/4)``, and the first residual."""
        x = in_chunks(self._merged, encoded, feature)
        return x, in_chunks(self._mix, candidates, hints, x)

    def _merged(self, encoded: Tensor, feature: Tensor) -> Tensor:
        return self.blocks(encoded + self.merge(feature))

    def _mix(self, candidates: Tensor, hints: Tensor, x: Tensor) -> Tensor:
        weights = self.to_guess(hints.to(x.dtype)) + self.to_weights(x)
        return mixture(candidates, weights) + F.pixel_shuffle(self.to_frame(x), SCALE)
