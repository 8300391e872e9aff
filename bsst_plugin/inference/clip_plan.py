"""The clips and tiles of a video that fit into a limit of memory."""

import itertools
import math
from dataclasses import dataclass

import torch
from torch import nn

from bsst_plugin.errors import UserError
from bsst_plugin.inference.clips import OVERLAP
from bsst_plugin.inference.memory import (
    PROBES,
    MemoryModel,
    available_memory,
    measure,
    resident_memory,
)
from bsst_plugin.inference.spans import plan_spans
from bsst_plugin.inference.tiling import FLOW_FRAMES, Tiling

CLIP_LENGTHS = (24, 20, 16, 12, 10, 8, 6, 5)
TILES = (512, 384, 320, 256, 192, 128, 64)
# Less than this shows the network too little around a pixel; taken only if nothing else fits.
GOOD_LENGTH, GOOD_TILE = 8, 192
# What the estimate may fall short by: memory that is freed is not at once usable again.
MARGIN_OF_ERROR = 1.2
# Frames inside the decoder, in bytes for each pixel of a frame, and what an encoder holds for each
# pixel that it was given.
CODEC_BYTES, ENCODER_BYTES = 32, 6
# Of what is available, if no limit is given: others need some too.
SHARE_OF_AVAILABLE = 0.7


@dataclass
class ClipPlan:
    """How a video is cut.

    Args:
        num_frames: Frames of a clip.
        tiling: Tiles of a frame.
        flow_pixels: Largest frame whose flow is estimated at full size; None leaves the
            estimator's own limit.
        expected: Memory that this takes, in bytes.
    """

    num_frames: int
    tiling: Tiling
    flow_pixels: int | None = None
    expected: int = 0


def choose_plan(
    network: nn.Module,
    device: torch.device,
    amp: torch.dtype | None,
    total: int,
    size: tuple[int, int],
    pixel_bytes: int,
    limit: int | None,
) -> ClipPlan:
    """Measure a network and choose clips and tiles for a video.

    Args:
        network: See :func:`measure`.
        device: See :func:`measure`.
        amp: See :func:`measure`.
        total: See :func:`plan_clips`.
        size: See :func:`plan_clips`.
        pixel_bytes: See :func:`plan_clips`.
        limit: Bytes that may be used; None for most of what is available.

    Returns:
        The plan.

    Raises:
        UserError: Nothing fits.
    """
    probed = sum(frames * side**2 for frames, side in PROBES)
    if limit is None and total * _padded(size[0]) * _padded(size[1]) <= probed:
        return ClipPlan(total, Tiling(TILES[0], 64, 'smooth'))  # less than it takes to measure
    estimator = getattr(network, 'flow_estimator', None)
    flow_limit = getattr(estimator, 'max_pixels', None)
    base = torch.cuda.memory_allocated(device) if device.type == 'cuda' else resident_memory()
    if limit is None:
        available = available_memory(device)
        limit = base + int(SHARE_OF_AVAILABLE * max(available - base, 0))
    model = measure(network, device, amp)
    if device.type != 'cuda':
        base = resident_memory()  # the first use of anything leaves something behind
    return plan_clips(model, limit, base, total, size, pixel_bytes, device, flow_limit)


def plan_clips(
    model: MemoryModel,
    limit: int,
    base: int,
    total: int,
    size: tuple[int, int],
    pixel_bytes: int,
    device: torch.device,
    flow_limit: int | None,
) -> ClipPlan:
    """The clips and tiles that compute the least twice, among those that fit.

    Args:
        model: Memory of the network.
        limit: Bytes that may be used, on the GPU if there is one.
        base: Bytes that are used already.
        total: Frames of the video.
        size: Height and width of a frame.
        pixel_bytes: Bytes that a pixel of a frame takes beside those of the network's input and
            output.
        device: Where the network runs.
        flow_limit: The flow estimator's own ``max_pixels``, None if there is no estimator.

    Returns:
        The plan.

    Raises:
        UserError: Nothing fits.
    """
    plans = [
        _plan(model, base, total, size, pixel_bytes, device, flow, num_frames, tile)
        for num_frames, tile in itertools.product(_lengths(total), TILES)
        for flow in _flow_limits(flow_limit)
    ]
    fitting = [plan for plan in plans if plan.expected <= limit]
    if not fitting:
        least = min(plan.expected for plan in plans)
        raise UserError(
            f'{limit / 1e9:.2g} GB are too little memory: frames of {size[1]} x {size[0]} need '
            f'about {math.ceil(least / 1e8) / 10:.1f} GB; give more as --max-memory or reduce the '
            f'frames'
        )
    return min(
        fitting,
        key=lambda plan: (
            plan.tiling.tile < GOOD_TILE or plan.num_frames < min(GOOD_LENGTH, total),
            _work(plan, total, size),
            -(plan.flow_pixels or 0),
        ),
    )


def _lengths(total: int) -> list[int]:
    """Lengths of clips for a video; a short one may be a single clip."""
    lengths = [length for length in CLIP_LENGTHS if length < total]
    return [total, *lengths] if total <= CLIP_LENGTHS[0] else lengths


def _flow_limits(flow_limit: int | None) -> list[int | None]:
    return [None] if flow_limit is None else [flow_limit // 4**step for step in range(5)]


def _plan(
    model: MemoryModel,
    base: int,
    total: int,
    size: tuple[int, int],
    pixel_bytes: int,
    device: torch.device,
    flow_limit: int | None,
    num_frames: int,
    tile: int,
) -> ClipPlan:
    """One way to cut the video, and the memory that it takes."""
    tiling = Tiling(tile, 64 if tile >= 192 else tile // 4, 'smooth')
    height, width = size
    sides = [_padded(min(tile, side)) for side in size]
    network = model.of_tile(num_frames, *sides) + 12 * num_frames * sides[0] * sides[1]  # its input
    pixels = height * width
    flow = 0.0
    if flow_limit is not None and num_frames > 1:
        # The estimator is given a few frames at a time and makes a copy of them and one of half
        # their size.
        flow = model.of_flow(min(num_frames, FLOW_FRAMES) - 1, height, width, flow_limit)
    if device.type == 'cuda':
        flow += 15 * pixels * min(num_frames, FLOW_FRAMES)
        return ClipPlan(
            num_frames, tiling, flow_limit, int(base + MARGIN_OF_ERROR * max(network, flow))
        )
    # Float32: 12 bytes for each pixel of a frame. Of the clip before, only what it adds to the next
    # one is left by then.
    clip = 12 * pixels * num_frames
    clips = _clips(total, num_frames)
    shared = clips[-2].stop - clips[-1].start if len(clips) > 1 else 0  # at the end it is most
    before = 12 * pixels * shared
    stages = (
        before + clip + 21 * pixels * min(num_frames, FLOW_FRAMES) + flow,
        before + 2 * clip + network,  # input and output
        2 * before + clip + ENCODER_BYTES * pixels * num_frames,  # joined and written
    )
    frames = pixels * (num_frames * pixel_bytes + CODEC_BYTES)
    expected = base + MARGIN_OF_ERROR * (frames + max(stages))
    return ClipPlan(num_frames, tiling, flow_limit, int(expected))


def _work(plan: ClipPlan, total: int, size: tuple[int, int]) -> float:
    """Pixels that the network computes for each pixel of the video."""
    tiling = plan.tiling
    work = sum(clip.stop - clip.start for clip in _clips(total, plan.num_frames)) / total
    for side in size:
        tiles = plan_spans(side, tiling.tile, tiling.overlap)
        work *= sum(_padded(tile.stop - tile.start) for tile in tiles) / side
    return work


def _clips(total: int, num_frames: int) -> list[slice]:
    return plan_spans(total, num_frames, min(OVERLAP, num_frames - 1))


def _padded(side: int) -> int:
    """Networks pad to whole windows."""
    return side + -side % 64
