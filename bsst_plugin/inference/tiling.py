"""Frames of any size in bounded memory: the network sees one tile after the other."""

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, get_args

import torch
from mmengine.logging import print_log
from torch import Tensor, nn

from bsst_plugin.errors import UserError
from bsst_plugin.inference.spans import Merge, merge_weight, plan_spans

Flows = tuple[Tensor, Tensor]
SMALLEST_TILE = 32
#: Frames whose flow is estimated at a time: enough to keep a GPU busy, few enough to fit it.
FLOW_FRAMES = 8


@dataclass
class Tiling:
    """How frames are cut into tiles and put together again.

    It changes when the memory of the GPU turns out too small, so that the next clip starts with
    the tile that fitted the last one.

    Args:
        tile: Height and width of a tile in pixels, a multiple of 4; smaller frames are one tile.
        overlap: Pixels that neighbouring tiles share at least, a multiple of 4.
        merge: ``'cut'`` as in the paper's evaluation, or ``'smooth'`` for video.

    Raises:
        UserError: A setting is out of range.
    """

    tile: int = 256
    overlap: int = 64
    merge: Merge = 'cut'

    def __post_init__(self) -> None:
        if self.tile < SMALLEST_TILE or self.tile % 4:  # the flow lies on a grid of 4 pixels
            raise UserError(f'tile={self.tile}: give a multiple of 4, at least {SMALLEST_TILE}')
        if not 0 <= self.overlap < self.tile or self.overlap % 4:
            raise UserError(
                f'overlap={self.overlap}: give a multiple of 4 from 0 to {self.tile - 4}, less '
                f'than the tile'
            )
        if self.merge not in get_args(Merge):
            raise UserError(f"merge={self.merge!r}: give 'cut' or 'smooth'")

    def halve(self, h: int, w: int) -> None:
        """Make tiles of half the side that frames of ``h`` x ``w`` were cut into.

        Raises:
            UserError: They are as small as they can be.
        """
        half = min(self.tile, max(h, w)) // 8 * 4
        if half < SMALLEST_TILE:
            raise UserError(
                f'out of GPU memory even with tiles of {self.tile}: give fewer frames at a time '
                f'(--max-memory of bsst-deblur, num_frames of test_cfg)'
            )
        self.tile, self.overlap = half, min(self.overlap, half // 8 * 4)


@torch.no_grad()
def deblur_clip(
    network: nn.Module, lqs: Tensor, flows: Flows | None = None, tiling: Tiling | None = None
) -> Tensor:
    """Run a network on clips tile by tile.

    The flow is estimated once, on whole frames, and cut for each tile; that of smaller frames,
    which networks with ``scales`` use too, is estimated in each tile. When CUDA runs out of memory,
    the tiles are halved, in ``tiling`` too, and the clips are started again.

    Args:
        network: Maps ``(n, t, 3, h, w)`` to the same shape. If it has a ``flow_estimator``, it is
            given ``flows`` as a second argument.
        lqs: ``(n, t, 3, h, w)``, blurry frames in [0, 1], on any device; only the tile at hand is
            moved to that of the network.
        flows: ``flows_forward`` and ``flows_backward``, each ``(n, t-1, 2, ceil(h/4),
            ceil(w/4))``, or None to estimate them. Networks without flow ignore them.
        tiling: How to cut and join, by default as in the paper's evaluation.

    Returns:
        ``(n, t, 3, h, w)`` float32 on the device of ``lqs``.

    Raises:
        UserError: Out of memory with the smallest tiles.
    """
    tiling = Tiling() if tiling is None else tiling
    if not hasattr(network, 'flow_estimator'):
        flows = None
    elif flows is None:
        flows = estimate_flows(network, lqs)
    while True:
        try:
            return _deblur_tiles(network, lqs, flows, tiling)
        except torch.cuda.OutOfMemoryError:
            tiling.halve(*lqs.shape[-2:])
        # Out here nothing refers to the failed tile any more, so its memory can be freed.
        torch.cuda.empty_cache()
        _warn(f'going on with tiles of {tiling.tile}, overlap {tiling.overlap}')


def _warn(way_out: str) -> None:
    print_log(f'Out of GPU memory: {way_out}', logger='current', level=logging.WARNING)


@torch.no_grad()
def estimate_flows(network: nn.Module, lqs: Tensor) -> Flows:
    """Flows of whole frames, a few frames at a time.

    Args:
        network: Has a ``flow_estimator``, see ``FlowEstimator``.
        lqs: See :func:`deblur_clip`.

    Returns:
        ``flows_forward`` and ``flows_backward``, each ``(n, t-1, 2, ceil(h/4), ceil(w/4))``
        float32 on the device of ``lqs``.

    Raises:
        UserError: Out of memory even where the flow is that of small frames.
    """
    estimator: Any = network.get_submodule('flow_estimator')
    device = next(network.parameters(), lqs).device
    starts = range(0, max(lqs.shape[1] - 1, 1), FLOW_FRAMES - 1)
    while True:
        try:
            parts = [estimator(lqs[:, start : start + FLOW_FRAMES].to(device)) for start in starts]
            break
        except torch.cuda.OutOfMemoryError:
            halved = lqs.shape[-2] * lqs.shape[-1] // 4  # the estimator's frames
            pixels = min(estimator.max_pixels, halved) // 4
        if pixels < SMALLEST_TILE**2:
            raise UserError('out of GPU memory: give smaller frames, or another device')
        estimator.max_pixels = pixels
        torch.cuda.empty_cache()
        _warn(f'flow is estimated on frames of {pixels} pixels')
    flows_forward, flows_backward = (
        torch.cat(flows, dim=1).to(lqs.device) for flows in zip(*parts, strict=True)
    )
    return flows_forward, flows_backward


def plan_tiles(
    h: int, w: int, tiling: Tiling, align: int = 1
) -> Iterator[tuple[slice, slice, Tensor]]:
    """Tiles that cover a frame.

    Args:
        h: Height of the frame.
        w: Width of the frame.
        tiling: Size, overlap and merging.
        align: Tiles start at multiples of it, see :func:`plan_spans`.

    Yields:
        Rows, columns and the weight ``(rows, columns)`` of each pixel.
    """
    for rows in plan_spans(h, tiling.tile, tiling.overlap, align):
        row_weight = merge_weight(rows, h, tiling.overlap, tiling.merge)
        for columns in plan_spans(w, tiling.tile, tiling.overlap, align):
            column_weight = merge_weight(columns, w, tiling.overlap, tiling.merge)
            yield rows, columns, row_weight[:, None] * column_weight


def _deblur_tiles(network: nn.Module, lqs: Tensor, flows: Flows | None, tiling: Tiling) -> Tensor:
    h, w = lqs.shape[-2:]
    device = next(network.parameters(), lqs).device
    total = torch.zeros_like(lqs, dtype=torch.float32)
    weights = total.new_zeros(h, w)
    # A tile that started between two vectors of the flow would get vectors of other pixels. The
    # last one starts up to 3 pixels later instead and is that much smaller.
    for rows, columns, weight in plan_tiles(h, w, tiling, align=1 if flows is None else 4):
        inputs = lqs[..., rows, columns].to(device).contiguous()
        if flows is None:
            output = network(inputs)
        else:
            output = network(inputs, tuple(_cut(f, rows, columns).to(device) for f in flows))
        weight = weight.to(lqs.device)
        total[..., rows, columns] += weight * output.to(total)
        weights[rows, columns] += weight
        del inputs, output  # before the next tile needs the memory
    return total.div_(weights)


def _cut(flow: Tensor, rows: slice, columns: slice) -> Tensor:
    """The part of a quarter-resolution flow that belongs to a tile; partial pixels count."""
    return flow[
        ..., rows.start // 4 : -(-rows.stop // 4), columns.start // 4 : -(-columns.stop // 4)
    ]
