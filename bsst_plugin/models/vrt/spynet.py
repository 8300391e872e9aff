"""SPyNet with the flows of four scales."""

import torch
import torch.nn.functional as F
from mmagic.models.editors.basicvsr.basicvsr_net import SPyNet
from torch import Tensor

from bsst_plugin.ops.precision import no_autocast


class PyramidSPyNet(SPyNet):
    """MMagic's SPyNet, except that it hands out the flows of its last four levels.

    It is trained with the network that uses it, in float32.
    """

    def __init__(self) -> None:
        super().__init__(pretrained=None)

    def forward(self, first: Tensor, second: Tensor) -> list[Tensor]:
        """Flow from ``first`` to ``second``, such that ``second`` warped by it gives ``first``.

        Args:
            first: ``(b, 3, h, w)`` in [0, 1]; h and w are multiples of 8.
            second: Same shape.

        Returns:
            Flows ``(b, 2, h/s, w/s)`` float32 in pixels of that size, for s = 1, 2, 4, 8.
        """
        h, w = first.shape[-2:]
        with no_autocast(first):
            pyramids = zip(self._pyramid(first), self._pyramid(second), strict=True)
            flow, flows = None, []
            for module, (near, far) in zip(self.basic_module, pyramids, strict=True):
                if flow is None:
                    flow = torch.zeros_like(near[:, :2])
                else:
                    flow = 2 * F.interpolate(
                        flow, scale_factor=2, mode='bilinear', align_corners=True
                    )
                warped = _warp(far, flow)
                flow = flow + module(torch.cat((near, warped, flow), dim=1))
                flows.append(flow)
            return [
                _resize_flow(flow, (h // scale, w // scale))
                for flow, scale in zip(flows[:1:-1], (1, 2, 4, 8), strict=True)
            ]

    def _pyramid(self, frames: Tensor) -> list[Tensor]:
        """Normalised frames, from 1/32 of their size to multiples of 32 near their size."""
        size = [side + -side % 32 for side in frames.shape[-2:]]
        frames = F.interpolate(frames.float(), size, mode='bilinear', align_corners=False)
        levels = [(frames - self.mean) / self.std]
        while len(levels) < len(self.basic_module):
            levels.insert(0, F.avg_pool2d(levels[0], 2))
        return levels


def _warp(x: Tensor, flow: Tensor) -> Tensor:
    """Bilinear, the border repeated outside.

    What MMagic's ``flow_warp`` gives to the last bit, on tensors without memory too: the corners
    that frames are warped to depend on the flow's floor, where a bit can make a pixel.
    """
    h, w = x.shape[-2:]
    columns = torch.arange(w, dtype=x.dtype, device=x.device) + flow[:, 0]
    rows = torch.arange(h, dtype=x.dtype, device=x.device)[:, None] + flow[:, 1]
    grid = torch.stack((2 * columns / max(w - 1, 1) - 1, 2 * rows / max(h - 1, 1) - 1), dim=-1)
    return F.grid_sample(x, grid, padding_mode='border', align_corners=True)


def _resize_flow(flow: Tensor, size: tuple[int, int]) -> Tensor:
    """Bring ``(b, 2, h, w)`` to another size, its values to pixels of that size."""
    scale = flow.new_tensor([size[1] / flow.shape[-1], size[0] / flow.shape[-2]])
    return F.interpolate(flow, size, mode='bilinear', align_corners=False) * scale.view(2, 1, 1)
