"""How long a network takes, by component, and how much memory it needs."""

import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial

import torch
from torch import Tensor, nn

from bsst_plugin.inference.memory import measure_peak, release_memory, resident_memory

#: Side of the matrices whose product tells how fast the machine multiplies.
MATRIX_SIDE = {'cpu': 2048, 'cuda': 8192}


@dataclass
class Timing:
    """What was measured of a network.

    Attributes:
        seconds: Of each run.
        parts: Of each run, the seconds inside each component while going forward.
        peak: Bytes that the memory rose by, at most, while it ran.
    """

    seconds: list[float] = field(default_factory=list)
    parts: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    peak: int = 0


@dataclass(frozen=True)
class Workload:
    """A network and what is done with it.

    Args:
        network: The network, on its device.
        inputs: What it is called with.
        amp: Type of autocast, None for none.
        train: Whether gradients are computed, too.
    """

    network: nn.Module
    inputs: Sequence[object]
    amp: torch.dtype | None = None
    train: bool = False

    @property
    def device(self) -> torch.device:
        """Where it runs."""
        return next(self.network.parameters()).device

    def __call__(self) -> None:
        """Run once, until the result is there."""
        self.network.train(self.train)
        with (
            torch.set_grad_enabled(self.train),
            torch.autocast(self.device.type, self.amp, enabled=self.amp is not None),
        ):
            out: Tensor = self.network(*self.inputs)
            if self.train:
                out.float().square().mean().backward()
        self.network.zero_grad(set_to_none=True)
        _synchronize(self.device)


def measure_in_turn(
    workloads: Sequence[Workload], runs: int, on_run: Callable[[], None] = lambda: None
) -> list[Timing]:
    """Measure networks in turn, A B A B ..., so that a machine whose speed drifts is fair.

    Args:
        workloads: What to run.
        runs: Counted runs of each, after one that is not.
        on_run: Called after each run.

    Returns:
        What was measured of each.
    """
    timings = [Timing() for _ in workloads]
    for workload, timing in zip(workloads, timings, strict=True):
        release_memory()
        base = torch.cuda.memory_allocated() if workload.device.type == 'cuda' else None
        base = resident_memory() if base is None else base
        timing.peak = measure_peak(workload, workload.device, base)
        on_run()
    for _ in range(runs):
        for workload, timing in zip(workloads, timings, strict=True):
            with _timed_parts(workload.network, workload.device) as parts:
                start = time.perf_counter()
                workload()
                timing.seconds.append(time.perf_counter() - start)
            for name, seconds in parts.items():
                timing.parts[name].append(seconds)
            on_run()
    return timings


def matrix_product_peak(device: torch.device, dtype: torch.dtype, runs: int = 10) -> float:
    """GMAC/s of a large matrix product: what the machine can do at best, in this library."""
    side = MATRIX_SIDE[device.type]
    a, b = torch.rand((2, side, side), device=device).to(dtype)
    times = []
    for _ in range(runs + 1):
        start = time.perf_counter()
        torch.mm(a, b)
        _synchronize(device)
        times.append(time.perf_counter() - start)
    return side**3 / min(times) / 1e9


@contextmanager
def _timed_parts(network: nn.Module, device: torch.device) -> Iterator[dict[str, float]]:
    """Seconds inside each child of the network, going forward."""
    parts: dict[str, float] = defaultdict(float)
    starts: dict[str, float] = {}

    def enter(name: str, *_: object) -> None:
        _synchronize(device)
        starts[name] = time.perf_counter()

    def leave(name: str, *_: object) -> None:
        _synchronize(device)
        parts[name] += time.perf_counter() - starts[name]

    hooks = []
    for name, child in network.named_children():
        hooks.append(child.register_forward_pre_hook(partial(enter, name)))
        hooks.append(child.register_forward_hook(partial(leave, name)))
    try:
        yield parts
    finally:
        for hook in hooks:
            hook.remove()


def _synchronize(device: torch.device) -> None:
    if device.type == 'cuda':
        torch.cuda.synchronize(device)
