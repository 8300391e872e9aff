"""VRT with the flow of another estimator."""

import torch.nn.functional as F
from mmagic.registry import MODELS
from torch import Tensor, nn

from bsst_plugin.models.vrt.vrt import VRT


@MODELS.register_module()
class FlowVRT(VRT):
    """VRT without its SPyNet, 1.4 M parameters that have to be trained before.

    Its last convolution starts at zero: the first output is the blurry frame, where VRT's own is
    far from it, which costs a short training much of its time.

    Args:
        flow_estimator: Config of the flow estimator; it sees frames that are padded already.
        **kwargs: Of :class:`VRT`.
    """

    def __init__(self, flow_estimator: dict, **kwargs: object) -> None:
        super().__init__(**kwargs)  # type: ignore[arg-type]
        del self.spynet
        for parameter in self.to_frame.parameters():
            nn.init.zeros_(parameter)
        # Not `flow_estimator`: that name says that `forward` takes flows of frames as they are.
        self.motion_estimator = MODELS.build(flow_estimator)

    def flows(self, frames: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """Flows between neighbouring frames, see :meth:`VRT.flows`."""
        to_previous, to_next = self.motion_estimator(frames)
        return _at_four_scales(to_previous), _at_four_scales(to_next)


def _at_four_scales(flow: Tensor) -> list[Tensor]:
    """Flow ``(n, t-1, 2, h/4, w/4)`` in pixels of that size, at 1, 1/2, 1/4 and 1/8 of (h, w)."""
    pairs = flow.flatten(0, 1)
    resized = [
        pairs if scale == 1 else scale * F.interpolate(pairs, scale_factor=scale, mode='bilinear')
        for scale in (4, 2, 1, 0.5)
    ]
    return [level.unflatten(0, flow.shape[:2]) for level in resized]
