"""Backward warping and the forward-backward check of optical flow."""

import torch
import torch.nn.functional as F
from torch import Tensor

from bsst_plugin.ops.precision import no_autocast


def flow_warp(x: Tensor, flow: Tensor) -> Tensor:
    """Sample ``x`` at the positions that ``flow`` points to: W of Eq. 3.

    Bilinear, zero outside the image. Positions are computed in float32 whatever the dtype of
    ``x``: half precision cannot even count the columns of a frame.

    Args:
        x: ``(n, c, h, w)``, image or feature.
        flow: ``(n, 2, h, w)`` in pixels, channel 0 is x; it maps the output's frame to the
            frame of ``x``.

    Returns:
        ``(n, c, h, w)``, dtype of ``x``.
    """
    h, w = x.shape[-2:]
    flow = flow.float()
    columns = torch.arange(w, dtype=flow.dtype, device=flow.device)
    rows = torch.arange(h, dtype=flow.dtype, device=flow.device)[:, None]
    # grid_sample wants -1 and 1 at the centres of the first and the last pixel.
    grid_x = (columns + flow[:, 0]) * (2.0 / max(w - 1, 1)) - 1.0
    grid_y = (rows + flow[:, 1]) * (2.0 / max(h - 1, 1)) - 1.0
    grid = torch.stack((grid_x, grid_y), dim=-1)  # (n, h, w, 2)
    with no_autocast(x):
        warped = F.grid_sample(x.float(), grid, padding_mode='zeros', align_corners=True)
    return warped.to(x.dtype)


def flow_consistency(flow: Tensor, opposite: Tensor) -> Tensor:
    """Forward-backward check: 1 where following a flow there and back returns to the start.

    ``|f + W(b, f)|^2 < 0.01 (|f|^2 + |W(b, f)|^2) + 0.5``

    Args:
        flow: ``(n, 2, h, w)``, f.
        opposite: ``(n, 2, h, w)``, b, the flow in the other direction.

    Returns:
        ``(n, 1, h, w)``, 1 where consistent and 0 elsewhere; carries no gradient.
    """
    with torch.no_grad():
        returning = flow_warp(opposite, flow)
        gap = (flow + returning).square().sum(1, keepdim=True)
        length = flow.square().sum(1, keepdim=True) + returning.square().sum(1, keepdim=True)
        return (gap < 0.01 * length + 0.5).to(flow.dtype)
