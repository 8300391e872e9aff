"""Moving what was restored to the middle of the exposure.

Blur shows where things were on average while the shutter was open, and there restorations leave
them. A sharp frame shows where they were in the middle of that time. Those are the same only where
motion is even: for a way ``v u + a u^2 / 2`` the average over u in [-1/2, 1/2] lies at a / 24.
"""

import torch
from mmagic.registry import MODELS
from torch import Tensor

from bsst_plugin.models.correction import Correction
from bsst_plugin.models.layers import in_chunks
from bsst_plugin.models.mixture import SCALE
from bsst_plugin.models.motion_path import (
    frame_acceleration,
    frame_velocity,
    in_blocks,
    neighbour_differences,
    of_camera,
    of_pixels,
    path_corrections,
)
from bsst_plugin.models.scale_mixture import detail
from bsst_plugin.ops.warp import flow_warp

#: Blur of light and of pixel values, over the whole time of a frame, see ``path_corrections``.
BLUR = ((2.2, 1.0), (1.0, 1.0))
#: How uneven the motion may be, see there.
SKEWS = (-0.5, 0.0, 0.5)
_MEAN = 2 / 9  # of the three places of a path lies there, in parts of skew and velocity
_INSTANT = 0.06  # of a frame: how far along their motion things are moved to see what changes
# Of the residual, its detail, three ways, blur and what both neighbours show.
_CANDIDATES = 2 + 3 + len(SKEWS) * len(BLUR) + 2


@MODELS.register_module()
class MidExposure(Correction):
    """Corrects restored frames where their motion is uneven.

    Candidates are the residual, its detail, the restored frames moved by the acceleration of the
    pixels, by that of the camera and along the motion, each less themselves, what blur along even
    and uneven motion would still change (``path_corrections``), and what the restored neighbours
    show.

    Args:
        known_channels: Channels of the encoder's features.
        channels: Channels of its own features.
    """

    def __init__(self, known_channels: int, channels: int = 24) -> None:
        super().__init__(_CANDIDATES, known_channels + 6, channels, num_blocks=1)

    def forward(
        self, frames: Tensor, residual: Tensor, features: Tensor, flows: tuple[Tensor, Tensor]
    ) -> Tensor:
        """Correct the residual.

        Args:
            frames: ``(n*t, 3, h, w)``, blurry frames in [0, 1], h and w multiples of 4.
            residual: ``(n*t, 3, h, w)``, what has been added to them.
            features: ``(n*t, c, h/4, w/4)``, of the encoder.
            flows: ``flows_forward`` and ``flows_backward``, ``(n, t-1, 2, h/4, w/4)``.

        Returns:
            ``(n*t, 3, h, w)``.
        """
        clips = (frames + residual).unflatten(0, (len(flows[0]), -1))
        neighbours = neighbour_differences(clips, *flows, camera=False)
        motion = (frame_velocity(*flows), frame_acceleration(*flows))
        return in_chunks(
            self._corrected,
            frames,
            residual,
            features,
            neighbours,
            *(part.flatten(0, 1) for part in motion),
        )

    def _corrected(
        self,
        frames: Tensor,
        residual: Tensor,
        features: Tensor,
        neighbours: Tensor,
        velocity: Tensor,
        acceleration: Tensor,
    ) -> Tensor:
        restored = frames + residual
        way = of_pixels(velocity)
        moved = _moved(restored, way, acceleration)
        candidates = [torch.stack((residual, detail(residual), *moved), dim=2)]
        for skew in SKEWS:
            middle = flow_warp(restored, skew * _MEAN * way, 'border') if skew else restored
            candidates.append(path_corrections(frames, middle, velocity, BLUR, skew))
        candidates.append(neighbours)
        # A velocity of one is a blur that fills a block.
        motion = (in_blocks(velocity, SCALE), in_blocks(acceleration, SCALE))
        return self.corrected(frames, residual, torch.cat(candidates, dim=2), features, *motion)


def _moved(restored: Tensor, way: Tensor, acceleration: Tensor) -> list[Tensor]:
    """What moving restored frames changes, see ``MidExposure``.

    Args:
        restored: ``(b, 3, h, w)``.
        way: ``(b, 2, h, w)``, velocity in pixels a frame.
        acceleration: ``(b, 2, h/4, w/4)`` in pixels of that size.

    Returns:
        Three, each ``(b, 3, h, w)``.
    """
    shifts = (of_pixels(one) / 24 for one in (acceleration, of_camera(acceleration)))
    moved = [flow_warp(restored, shift, 'border') - restored for shift in shifts]
    later, earlier = (flow_warp(restored, s * _INSTANT * way, 'border') for s in (1, -1))
    return [*moved, (later - earlier) / 2]
