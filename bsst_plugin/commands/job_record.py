"""What is noted of a run: so that it can go on later, and for its report."""

import argparse
import hashlib
from typing import Any

import torch

from bsst_plugin import __version__
from bsst_plugin.checkpoints.load import LoadedNetwork
from bsst_plugin.inference.clip_plan import ClipPlan
from bsst_plugin.inference.memory import peak_memory
from bsst_plugin.inference.tiling import Tiling


def job_settings(
    args: argparse.Namespace, loaded: LoadedNetwork, device: torch.device
) -> dict[str, Any]:
    """What has to be the same when a run is resumed."""
    return {
        'version': __version__,
        'checkpoint': hashlib.sha256(loaded.checkpoint.read_bytes()).hexdigest()[:16],
        'config': hashlib.sha256(loaded.config.encode()).hexdigest()[:16],
        'device': device.type,
        'amp': args.amp,
        'max-memory': args.max_memory,
        'codec': args.codec,
        'crf': args.crf,
        'fps': str(args.fps),
        'show': sorted(args.show),
        'report': args.report is not None,
    }


def describe(
    args: argparse.Namespace,
    loaded: LoadedNetwork,
    plan: ClipPlan,
    device: torch.device,
    seconds: float,
) -> dict[str, object]:
    """The settings for the report."""
    parameters = sum(parameter.numel() for parameter in loaded.network.parameters())
    return {
        'output': args.output or 'beside the input',
        'checkpoint': loaded.checkpoint,
        'network': f'{type(loaded.network).__name__}, {parameters / 1e6:.2f} M parameters',
        'device': f'{device}{", mixed precision" if args.amp else ""}',
        'frames at a time': plan.num_frames,
        'tiles': f'at most {plan.tiling.tile} x {plan.tiling.tile}, {plan.tiling.overlap} shared',
        'memory': f'{peak_memory(device) / 1e9:.2f} GB (limit: {args.max_memory or "none given"})',
        'time': f'{seconds:.1f} s',
        'version': __version__,
    }


def read_plan(state: dict[str, Any]) -> ClipPlan:
    """The plan that ``dataclasses.asdict`` made a dictionary of."""
    return ClipPlan(**{**state, 'tiling': Tiling(**state['tiling'])})
