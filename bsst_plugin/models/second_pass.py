"""Mixing a second time, with what the first time made of a frame and its neighbours.

The first time a small network judges each candidate by what the blurry frames show. Once all
frames are restored it can be seen how well that went: whether the restored neighbours show the
same, whether the restored frame, blurred again, is the blurry one, and which candidates agree with
those.
"""

import torch
from torch import Tensor

from bsst_plugin.models.correction import Correction
from bsst_plugin.models.layers import in_chunks
from bsst_plugin.models.mixture import strength
from bsst_plugin.models.motion_path import neighbour_differences, path_corrections

#: Blur for which a restored frame is corrected, ``(gamma, part)`` of the path that the blur shows
#: and ``(gamma, exposure)`` of the flow.
PATH_CORRECTIONS = ((2.2, 1.0), (1.0, 1.0))
FLOW_CORRECTIONS = ((2.2, 0.65), (1.0, 1.0))
# Corrections, what the first mixture changed and what both neighbours show.
_NEW = len(PATH_CORRECTIONS) + len(FLOW_CORRECTIONS) + 3


class SecondPass(Correction):
    """Corrects a first mixture.

    Args:
        candidates: Number of the candidates of the first mixture.
        channels: Channels of the feature, C of the paper.
        num_blocks: Number of channel attention blocks.
    """

    def __init__(self, candidates: int, channels: int, num_blocks: int) -> None:
        super().__init__(candidates + _NEW, 1 + channels, channels, num_blocks)

    def forward(
        self,
        frames: Tensor,
        first: Tensor,
        feature: Tensor,
        candidates: Tensor,
        ways: tuple[Tensor, Tensor],
        flows: tuple[Tensor, Tensor],
    ) -> Tensor:
        """Mix again, in the clips of a batch.

        Args:
            frames: ``(n*t, 3, h, w)``, blurry frames in [0, 1].
            first: ``(n*t, 3, h, w)``, what the first mixture adds to them.
            feature: ``(n*t, c, h/4, w/4)``, what the first weights were chosen from.
            candidates: ``(n*t, 3, k, h, w)``, of the first mixture.
            ways: Velocity, and path that the blur shows, of each frame: ``(n*t, 2, h/4, w/4)`` in
                pixels of that size.
            flows: ``flows_forward`` and ``flows_backward``, ``(n, t-1, 2, h/4, w/4)``.

        Returns:
            ``(n*t, 3, h, w)``, to be added to the frames.
        """
        clips = (frames + first).unflatten(0, (len(flows[0]), -1))
        neighbours = neighbour_differences(clips, *flows, camera=False)
        return in_chunks(self._again, frames, first, feature, candidates, neighbours, *ways)

    def _again(
        self,
        frames: Tensor,
        first: Tensor,
        feature: Tensor,
        candidates: Tensor,
        neighbours: Tensor,
        velocity: Tensor,
        path: Tensor,
    ) -> Tensor:
        corrections = [
            path_corrections(frames, frames + first, way, assumed)
            for way, assumed in ((path, PATH_CORRECTIONS), (velocity, FLOW_CORRECTIONS))
        ]
        changed = first[:, :, None]
        candidates = torch.cat((candidates, *corrections, changed, neighbours), dim=2)
        gap = candidates[:, :, -2:-1] - candidates[:, :, -1:]  # how the neighbours disagree
        return self.corrected(frames, first, candidates, strength(gap), feature)
