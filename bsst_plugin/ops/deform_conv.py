"""Modulated deformable convolution with one dispatch between two kernels."""

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.ops import deform_conv2d as torchvision_deform_conv2d

from bsst_plugin.ops.precision import no_autocast
from bsst_plugin.ops.warp import sampling_grid

# Values that are sampled at a time.
_CACHED = 2**22


def deform_conv2d(x: Tensor, offset: Tensor, mask: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Modulated deformable convolution, 3 x 3, stride 1, padding 1.

    torchvision's kernel on CUDA; on a CPU, where that kernel runs on one thread, sampling
    followed by one matrix product.

    Args:
        x: ``(n, c_in, h, w)``.
        offset: ``(n, 2 * groups * 9, h, w)`` in pixels; for each group and tap y before x.
        mask: ``(n, groups * 9, h, w)``, weight of each sample, usually in [0, 1].
        weight: ``(c_out, c_in, 3, 3)``.
        bias: ``(c_out,)``.

    Returns:
        ``(n, c_out, h, w)``.
    """
    # Autocast knows neither kernel; sampling positions need float32 in any case.
    with no_autocast(x):
        if x.device.type == 'cpu':
            return _sample_and_multiply(x, offset.float(), mask, weight, bias).to(x.dtype)
        return torchvision_deform_conv2d(
            x.float(), offset.float(), weight, bias, padding=1, mask=mask.float()
        ).to(x.dtype)


def _sample_and_multiply(
    x: Tensor, offset: Tensor, mask: Tensor, weight: Tensor, bias: Tensor
) -> Tensor:
    n, c_in, h, w = x.shape
    groups = mask.shape[1] // 9
    tap = torch.arange(-1.0, 2.0, device=x.device)
    offset = offset.view(n * groups, 3, 3, 2, h, w)
    rows = torch.arange(h, dtype=offset.dtype, device=x.device)[:, None]
    columns = torch.arange(w, dtype=offset.dtype, device=x.device)
    y = offset[:, :, :, 0] + tap.view(3, 1, 1, 1) + rows  # (n*groups, 3, 3, h, w)
    x_position = offset[:, :, :, 1] + tap.view(1, 3, 1, 1) + columns
    grid = sampling_grid(x_position, y, h, w).view(n, groups, 9 * h, w, 2)
    x = x.view(n, groups, c_in // groups, h, w)
    mask = mask.view(n, groups, 1, 9, h * w)
    weight = weight.to(x.dtype).view(-1, groups, 9 * c_in // groups)
    out = bias.to(x.dtype).expand(n, h * w, -1)
    # The samples are nine times the input; a few groups at a time they stay in the cache.
    step = max(1, _CACHED * groups // (9 * x.numel()))
    for start in range(0, groups, step):
        part = slice(start, start + step)
        samples = F.grid_sample(
            x[:, part].float().flatten(0, 1),
            grid[:, part].flatten(0, 1),
            padding_mode='zeros',
            align_corners=False,
        )
        samples = samples.view(n, -1, c_in // groups, 9, h * w).mul_(mask[:, part])
        columns_matrix = samples.view(n, -1, h * w).to(x.dtype)
        # (n, h*w, c_out): the next convolution wants the channels last.
        part_weight = weight[:, part].flatten(1).t().expand(n, -1, -1)
        out = torch.baddbmm(out, columns_matrix.transpose(1, 2), part_weight)
    return out.unflatten(1, (h, w)).permute(0, 3, 1, 2)
