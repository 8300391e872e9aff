"""How much memory a network needs, measured, and the clips and tiles that fit into a limit."""

import itertools
import math
import re
import resource
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.optimize import nnls
from torch import nn

from bsst_plugin.errors import UserError
from bsst_plugin.inference.clips import MARGIN
from bsst_plugin.inference.spans import plan_spans
from bsst_plugin.inference.tiling import FLOW_FRAMES, Tiling

# Frames and side of the tiles that are measured.
PROBES = ((2, 128), (6, 128), (2, 256))
# Sides of the frames whose flow is measured; the estimator sees half of them.
FLOW_PROBES = (256, 384, 512)
CLIP_LENGTHS = (24, 20, 16, 12, 10, 8, 6, 5)
TILES = (512, 384, 320, 256, 192, 128, 64)
# Less than this shows the network too little around a pixel; taken only if nothing else fits.
GOOD_LENGTH, GOOD_TILE = 8, 192
# What the measurement may fall short by: memory that is freed is not at once usable again.
MARGIN_OF_ERROR = 1.2
# Frames inside decoder and encoder, in bytes for each pixel of a frame.
CODEC_BYTES = 32
# Of what is available, if no limit is given: others need some too.
SHARE_OF_AVAILABLE = 0.7
# Where the system does not say how much there is.
UNKNOWN_MEMORY = 4 * 10**9

Terms = tuple[float, float, float]


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


@dataclass(frozen=True)
class MemoryModel:
    """Peak memory of a network, fitted to measurements.

    Args:
        network: Bytes as a combination of 1, pixels of a tile, and frames times pixels.
        flow: Bytes as a combination of 1, p and p squared, p being the pixels of the half-size
            frame whose flow is estimated.
    """

    network: Terms
    flow: Terms

    def of_tile(self, frames: int, height: int, width: int) -> float:
        """Bytes for a tile of ``frames`` frames of ``height`` x ``width``."""
        pixels = height * width
        return float(np.dot(self.network, (1, pixels, frames * pixels)))

    def of_flow(self, frames: int, height: int, width: int, limit: int) -> float:
        """Bytes for the flow of frames of ``height`` x ``width``, reduced to ``limit`` pixels."""
        half = height * width / 4
        pixels = min(half, limit)
        at_once = min(max(1, limit // math.ceil(pixels)), max(frames, 1))
        constant, *rest = self.flow
        return constant + at_once * float(np.dot(rest, (pixels, pixels**2)))


def parse_size(text: str) -> int:
    """Bytes from ``4GB``, ``1.5 GB``, ``800MB`` or a plain number of bytes.

    Raises:
        UserError: It is none of these.
    """
    match = re.fullmatch(r'\s*(\d+(?:\.\d+)?)\s*([kmgt]?)i?b?\s*', text.lower())
    if match is None or float(match[1]) <= 0:
        raise UserError(f'{text}: not an amount of memory; write it like 4GB or 800MB')
    return int(float(match[1]) * 1000 ** ' kmgt'.index(match[2] or ' '))


def peak_memory(device: torch.device) -> int:
    """Most memory in bytes that this process held so far, on the GPU if it used one."""
    if device.type == 'cuda':
        return torch.cuda.max_memory_reserved(device)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == 'darwin' else 1024 * peak


def available_memory(device: torch.device) -> int:
    """Memory in bytes that this process may still take, what it holds included."""
    if device.type == 'cuda':
        free = torch.cuda.mem_get_info(device)[0]
        return free + torch.cuda.memory_reserved(device)
    left = _proc('/proc/meminfo', 'MemAvailable')
    # In a container there may be less.
    for limit, used in (
        ('/sys/fs/cgroup/memory.max', '/sys/fs/cgroup/memory.current'),
        (
            '/sys/fs/cgroup/memory/memory.limit_in_bytes',
            '/sys/fs/cgroup/memory/memory.usage_in_bytes',
        ),
    ):
        if Path(limit).exists() and Path(limit).read_text().strip().isdigit():
            inside = int(Path(limit).read_text()) - int(Path(used).read_text())
            left = inside if left is None else min(left, inside)
    return resident_memory() + (UNKNOWN_MEMORY if left is None else left)


def resident_memory() -> int:
    """Memory in bytes that this process holds now."""
    return _proc('/proc/self/status', 'VmRSS') or peak_memory(torch.device('cpu'))


def measure_peak(function: Callable[[], object], device: torch.device, base: int) -> int:
    """Run a function and measure how far memory rises above ``base`` bytes.

    Where the system cannot reset its own record of the peak (other than Linux), this is the peak
    of the process so far.
    """
    if device.type == 'cuda':
        torch.cuda.reset_peak_memory_stats(device)
        function()
        return torch.cuda.max_memory_allocated(device) - base
    try:
        Path('/proc/self/clear_refs').write_text('5')
    except OSError:
        pass
    function()
    peak = _proc('/proc/self/status', 'VmHWM') or peak_memory(device)
    return max(peak - base, 0)


@torch.no_grad()
def measure(network: nn.Module, device: torch.device, amp: torch.dtype | None) -> MemoryModel:
    """Measure a network on a few small clips.

    The motion is random, so that blur is everywhere and all windows take part in the attention:
    no video needs more.

    Args:
        network: See ``deblur_clip``; on ``device``.
        device: Whose memory is measured.
        amp: Type of autocast, None for none.

    Returns:
        The fitted model.
    """
    base = torch.cuda.memory_allocated(device) if device.type == 'cuda' else resident_memory()
    estimator: Any = getattr(network, 'flow_estimator', None)
    generator = torch.Generator().manual_seed(0)

    def clip(frames: int, side: int) -> torch.Tensor:
        return torch.rand((1, frames, 3, side, side), generator=generator)

    def run(frames: int, side: int) -> None:
        inputs: list[Any] = [clip(frames, side).to(device)]
        if estimator is not None:
            shape = (2, 1, frames - 1, 2, side // 4, side // 4)
            inputs.append(tuple(8 * torch.rand(shape, generator=generator).to(device)))
        with torch.autocast(device.type, amp, enabled=amp is not None):
            network(*inputs)

    peaks = [measure_peak(partial(run, *probe), device, base) for probe in PROBES]
    terms: list[Terms] = [(1, side**2, frames * side**2) for frames, side in PROBES]
    flow: Terms = (0.0, 0.0, 0.0)
    if estimator is not None:
        pairs = [clip(2, side).to(device) for side in FLOW_PROBES]
        flow_peaks = [measure_peak(partial(estimator, pair), device, base) for pair in pairs]
        halves = [(side // 2) ** 2 for side in FLOW_PROBES]
        flow = _fit([(1, pixels, pixels**2) for pixels in halves], flow_peaks)
    return MemoryModel(_fit(terms, peaks), flow)


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
    network = model.of_tile(num_frames, *(_padded(min(tile, side)) for side in size))
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
    frames = pixels * (num_frames * (12 + pixel_bytes) + CODEC_BYTES)
    # Input and output are float32; the output exists while the network runs.
    stages = (
        MARGIN_OF_ERROR * flow + 15 * pixels * min(num_frames, FLOW_FRAMES),
        MARGIN_OF_ERROR * network + 12 * pixels * num_frames,
    )
    return ClipPlan(num_frames, tiling, flow_limit, int(base + frames + max(stages)))


def _work(plan: ClipPlan, total: int, size: tuple[int, int]) -> float:
    """Pixels that the network computes for each pixel of the video."""
    tiling = plan.tiling
    clips = plan_spans(total, plan.num_frames, min(2 * MARGIN, plan.num_frames - 1))
    work = sum(clip.stop - clip.start for clip in clips) / total
    for side in size:
        tiles = plan_spans(side, tiling.tile, tiling.overlap)
        work *= sum(_padded(tile.stop - tile.start) for tile in tiles) / side
    return work


def _padded(side: int) -> int:
    """Networks pad to whole windows."""
    return side + -side % 64


def _fit(terms: list[Terms], peaks: list[int]) -> Terms:
    """Non-negative coefficients that fit the measurements with the least relative error."""
    weights = 1 / np.maximum(np.asarray(peaks, float), 1)
    scale = np.max(terms, axis=0)
    matrix = np.asarray(terms) / scale * weights[:, None]
    constant, linear, last = nnls(matrix, np.asarray(peaks) * weights)[0] / scale
    return float(constant), float(linear), float(last)


def _proc(path: str, key: str) -> int | None:
    """A figure in kilobytes from a file of Linux, in bytes."""
    if not Path(path).exists():
        return None
    match = re.search(rf'^{key}:\s+(\d+) kB', Path(path).read_text(), re.MULTILINE)
    return int(match[1]) * 1024 if match else None
