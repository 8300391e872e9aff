"""How much memory there is, and how much a network needs: measured."""

import contextlib
import ctypes
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

# Frames and side of the tiles that are measured.
PROBES = ((2, 128), (6, 128), (2, 256))
# Sides of the frames whose flow is measured; the estimator sees half of them.
FLOW_PROBES = (256, 384, 512)
# Where the system does not say how much there is.
UNKNOWN_MEMORY = 4 * 10**9
CGROUP = Path('/sys/fs/cgroup')

# The largest peak before the system's record of it was last reset.
_forgotten_peaks = [0]
Terms = tuple[float, float, float]


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
    return max(_forgotten_peaks[0], peak if sys.platform == 'darwin' else 1024 * peak)


def available_memory(device: torch.device) -> int:
    """Memory in bytes that this process may still take, what it holds included."""
    if device.type == 'cuda':
        free = torch.cuda.mem_get_info(device)[0]
        return free + torch.cuda.memory_reserved(device)
    left = _proc('/proc/meminfo', 'MemAvailable')
    # In a container there may be less.
    for folder, limit, used, cached in (
        (CGROUP, 'memory.max', 'memory.current', 'inactive_file'),
        (
            CGROUP / 'memory',
            'memory.limit_in_bytes',
            'memory.usage_in_bytes',
            'total_inactive_file',
        ),
    ):
        with contextlib.suppress(OSError, ValueError):  # no container, or one without a limit
            inside = int((folder / limit).read_text()) - int((folder / used).read_text())
            # Files that were read are kept until the memory is wanted.
            statistics = dict(line.split() for line in (folder / 'memory.stat').open())
            inside += int(statistics.get(cached, 0))
            left = inside if left is None else min(left, inside)
    return resident_memory() + (UNKNOWN_MEMORY if left is None else left)


def resident_memory() -> int:
    """Memory in bytes that this process holds now."""
    return _proc('/proc/self/status', 'VmRSS') or peak_memory(torch.device('cpu'))


def release_memory() -> None:
    """Give memory that was freed back to the system: glibc keeps it, more with every clip."""
    with contextlib.suppress(OSError, AttributeError):  # other systems do not
        ctypes.CDLL(None).malloc_trim(0)


def measure_peak(function: Callable[[], object], device: torch.device, base: int) -> int:
    """Run a function and measure how far memory rises above ``base`` bytes.

    What earlier work freed is given back before, or it would hide what the function takes. Where
    the system cannot reset its own record of the peak (other than Linux), this is the peak of the
    process so far.
    """
    if device.type == 'cuda':
        torch.cuda.reset_peak_memory_stats(device)
        function()
        return torch.cuda.max_memory_allocated(device) - base
    _forgotten_peaks[0] = peak_memory(device)
    release_memory()
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
    release_memory()
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
    release_memory()
    return MemoryModel(_fit(terms, peaks), flow)


def _fit(terms: list[Terms], peaks: list[int]) -> Terms:
    """Non-negative coefficients that fit the largest measurements best and fall short of none."""
    scale = np.max(terms, axis=0)
    matrix, target = np.asarray(terms) / scale, np.asarray(peaks, float)
    fitted = nnls(matrix, target)[0]
    fitted *= max(1.0, np.max(target / np.maximum(matrix @ fitted, 1)))
    constant, linear, last = fitted / scale
    return float(constant), float(linear), float(last)


def _proc(path: str, key: str) -> int | None:
    """A figure in kilobytes from a file of Linux, in bytes."""
    if not Path(path).exists():
        return None
    match = re.search(rf'^{key}:\s+(\d+) kB', Path(path).read_text(), re.MULTILINE)
    return int(match[1]) * 1024 if match else None
