"""Backward warping and the forward-backward check of optical flow."""

import torch
import torch.nn.functional as F
from torch import Tensor

from bsst_plugin.ops.precision import no_autocast


def flow_warp(x: Tensor, flow: Tensor, padding_mode: str = 'zeros') -> Tensor:
    """Sample ``x`` at the positions that ``flow`` points to: W of Eq. 3.

    Bilinear. Positions are computed in float32 whatever the dtype of
    ``x``: half precision cannot even count the columns of a frame.

    Args:
        x: ``(n, c, h, w)``, image or feature.
        flow: ``(n, 2, h, w)`` in pixels, channel 0 is x; it maps the output's frame to the
            frame of ``x``.
        padding_mode: What is outside the image, as in ``grid_sample``.

    Returns:
        ``(n, c, h, w)``, dtype of ``x``.
    """
    h, w = x.shape[-2:]
    flow = flow.float()
    columns = torch.arange(w, dtype=flow.dtype, device=flow.device)
    rows = torch.arange(h, dtype=flow.dtype, device=flow.device)[:, None]
    grid = sampling_grid(columns + flow[:, 0], rows + flow[:, 1], h, w)  # (n, h, w, 2)
    with no_autocast(x):
        warped = F.grid_sample(x.float(), grid, padding_mode=padding_mode, align_corners=False)
    return warped.to(x.dtype)


def sampling_grid(x: Tensor, y: Tensor, h: int, w: int) -> Tensor:
    """Positions as ``grid_sample`` wants them with ``align_corners=False``.

    That setting, with which -1 and 1 are the outer edges of the image, also serves images of one
    row or column; aligned corners have no place for positions there.

    Args:
        x: Columns in pixels, any shape.
        y: Rows in pixels, same shape.
        h: Height of the image.
        w: Width of the image.

    Returns:
        The shape of ``x`` with 2 appended.
    """
    return torch.stack(((2 * x + 1) / w - 1, (2 * y + 1) / h - 1), dim=-1)


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
