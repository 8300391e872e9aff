"""OpenCV's DIS flow: no weights, fast on a CPU."""

import cv2
import numpy as np
import torch
from mmagic.registry import MODELS
from torch import Tensor

from bsst_plugin.errors import UserError
from bsst_plugin.models.flow.base import FlowEstimator

PRESETS = {
    'ultrafast': cv2.DISOPTICAL_FLOW_PRESET_ULTRAFAST,
    'fast': cv2.DISOPTICAL_FLOW_PRESET_FAST,
    'medium': cv2.DISOPTICAL_FLOW_PRESET_MEDIUM,
}
MIN_SIZE = 32  # DIS refuses frames that its pyramid reduces to nothing


@MODELS.register_module()
class DISFlow(FlowEstimator):
    """Dense inverse search, computed by OpenCV on the CPU whatever the device of the frames.

    Args:
        preset: ``'ultrafast'``, ``'fast'`` or ``'medium'``, in order of quality.
        max_pixels: See :class:`FlowEstimator`.

    Raises:
        UserError: No such preset.
    """

    def __init__(self, preset: str = 'medium', max_pixels: int = 1920 * 1080) -> None:
        super().__init__(max_pixels)
        if preset not in PRESETS:
            raise UserError(f'DISFlow: preset must be one of {", ".join(PRESETS)}, not {preset!r}')
        self.preset = preset

    def estimate(self, first: Tensor, second: Tensor) -> Tensor:
        """See :meth:`FlowEstimator.estimate`."""
        if first.is_meta:  # where only shapes go through the network
            return first.new_empty((len(first), 2, *first.shape[-2:]))
        # Made anew for each call: it cannot be copied or pickled, which models must be.
        dis = cv2.DISOpticalFlow_create(PRESETS[self.preset])
        grey = [_to_grey(frames) for frames in (first, second)]
        h, w = first.shape[-2:]
        flows = [dis.calc(a, b, None)[:h, :w] for a, b in zip(*grey, strict=True)]
        return torch.from_numpy(np.stack(flows)).permute(0, 3, 1, 2).contiguous().to(first.device)


def _to_grey(frames: Tensor) -> list[np.ndarray]:
    """8-bit luma of ``(b, 3, h, w)`` in [0, 1], each frame at least ``MIN_SIZE`` large."""
    luma = frames.new_tensor([0.299, 0.587, 0.114])
    grey = torch.einsum('bchw,c->bhw', frames.clamp(0, 1), luma)
    images = (grey * 255).round().to(torch.uint8).cpu().numpy()
    h, w = images.shape[1:]
    border = (0, max(MIN_SIZE - h, 0), 0, max(MIN_SIZE - w, 0))
    return [cv2.copyMakeBorder(image, *border, cv2.BORDER_REPLICATE) for image in images]
