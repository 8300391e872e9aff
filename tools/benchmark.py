"""Measure a network: time of each component, speed against the machine's own, memory.

    python tools/benchmark.py configs/bsstnet_gopro_released.py --frames 8 24
    python tools/benchmark.py configs/bsstnet_gopro.py --vs configs/baselines/sst_gopro.py
    python tools/benchmark.py configs/bsstnet_gopro.py --train --cfg-options \
        model.generator.with_cp=True

Weights are random; a BSSTNet gets flows that make half of its window places blurry, or what
--blurry says, and its flow estimator is left out. The clip does not change the time otherwise.
"""

import argparse
import json
import statistics
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from mmagic.registry import MODELS
from mmengine.config import DictAction
from rich.console import Console
from rich.progress import Progress
from rich.table import Table
from torch import Tensor, nn

from bsst_plugin.analysis.complexity import ALL, count_macs
from bsst_plugin.analysis.timing import Timing, Workload, matrix_product_peak, measure_in_turn
from bsst_plugin.cli import run
from bsst_plugin.engine import read_config
from bsst_plugin.errors import UserError
from bsst_plugin.models import BSSTNet

DTYPES = {'fp32': None, 'bf16': torch.bfloat16, 'fp16': torch.float16}


def main(argv: list[str] | None = None) -> None:
    """Measure and print the tables."""
    args = _parse_args(argv)
    device = torch.device(args.device)
    configs = [args.config, *([args.vs] if args.vs else [])]
    networks = {config: build_generator(config, args.cfg_options).to(device) for config in configs}
    results = []
    for dtype in args.dtype:
        for frames in args.frames:
            results.append(benchmark(networks, frames, dtype, args))
            print_result(results[-1], Console())
            # Each time anew: long clips take long, and a run may be stopped.
            for path, write in ((args.json, write_json), (args.plot, plot_lengths)):
                if path:
                    path.parent.mkdir(parents=True, exist_ok=True)
                    write(path, results)


def benchmark(
    networks: dict[str, nn.Module], frames: int, dtype: str, args: argparse.Namespace
) -> dict:
    """Measure the networks in turn.

    Args:
        networks: One or two, by the name of their config, on their device.
        frames: Frames of the clip.
        dtype: A key of ``DTYPES``.
        args: The command line.

    Returns:
        The numbers.
    """
    device, amp = torch.device(args.device), DTYPES[dtype]
    workloads = [
        Workload(net, make_inputs(net, frames, args.size, args.blurry, device), amp, args.train)
        for net in networks.values()
    ]
    peak = matrix_product_peak(device, amp or torch.float32)
    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task('measuring', total=len(workloads) * (args.runs + 1))
        timings = measure_in_turn(workloads, args.runs, partial(bar.advance, task))
    peak = max(peak, matrix_product_peak(device, amp or torch.float32))
    kind = 'a training step' if args.train else 'inference'
    result: dict[str, Any] = {
        'setting': f'{frames} frames of {args.size} x {args.size}, {dtype}, {kind}',
        'frames': frames,
        'dtype': dtype,
        'work': f'{args.size} x {args.size}, {kind}',
        'matrix_product_gmacs': peak,
        'networks': {
            name: summarise(workload, timing, frames, peak)
            for name, workload, timing in zip(networks, workloads, timings, strict=True)
        },
    }
    if len(timings) == 2:
        result['ratio'] = compare(*timings)
    return result


def print_result(result: dict, console: Console) -> None:
    """Print the tables of a measurement."""
    for name, row in result['networks'].items():
        title = f'{Path(name).stem}: {result["setting"]}'
        console.print(part_table(title, row, result['matrix_product_gmacs']))
    if 'ratio' in result:
        ratio, names = result['ratio'], ' / '.join(result['networks'])
        console.print(
            f'time of {names}: {ratio["median"]:.3f} (pair by pair {ratio["min"]:.3f} to '
            f'{ratio["max"]:.3f})',
            soft_wrap=True,
        )


def build_generator(path: str, changes: dict | None = None) -> nn.Module:
    """The network of a config.

    Args:
        path: The config.
        changes: Settings by their dotted names.

    Raises:
        UserError: There is no such config, or it has no network.
    """
    cfg = read_config(path)
    cfg.merge_from_dict(changes or {})
    generator = (cfg.get('model') or {}).get('generator')
    if generator is None:
        raise UserError(f'{path}: no model.generator in this config')
    torch.manual_seed(0)
    return MODELS.build(generator)


def make_inputs(
    network: nn.Module, frames: int, size: int, blurry: float, device: torch.device
) -> list[object]:
    """What to call the network with.

    Args:
        network: A BSSTNet is given flows, too.
        frames: Frames of the clip.
        size: Height and width.
        blurry: Share of the window places that move: the upper part of every frame.
        device: Where to put it.

    Returns:
        The clip ``(1, t, 3, h, w)`` and, maybe, its flows.
    """
    rng = torch.Generator().manual_seed(0)
    coarse = torch.rand((frames, 3, size // 8, size // 8), generator=rng)
    clip = F.interpolate(coarse, (size, size), mode='bilinear')[None].to(device)
    if not isinstance(network, BSSTNet):
        return [clip]
    rows = -(-size // 4)
    flow = torch.rand((2, 1, frames - 1, 2, rows, rows), generator=rng) + 2
    flow[..., round(blurry * rows) :, :] = 0
    flows: tuple[Tensor, Tensor] = (flow[0].to(device), flow[1].to(device))
    return [clip, flows]


def summarise(workload: Workload, timing: Timing, frames: int, peak: float) -> dict:
    """Medians of a measurement, for a frame.

    Args:
        workload: What was measured.
        timing: The measurement.
        frames: Frames of the clip.
        peak: GMAC/s of a matrix product.

    Returns:
        Seconds, multiply-accumulates and share of the peak of each component, going forward, and of
        all, and the memory. All of a training step is more: its multiply-accumulates are not
        counted.
    """
    counts = count_macs(workload.network, *workload.inputs)
    root = type(workload.network).__name__
    rows = {}
    for name, seconds in {**timing.parts, 'all': timing.seconds}.items():
        rows[name] = {'seconds': statistics.median(seconds) / frames}
        if name == 'all' and workload.train:
            continue
        gmac = sum(counts.get(ALL if name == 'all' else f'{root}.{name}', {}).values()) / frames
        rows[name] |= dict(gmac=gmac, share_of_peak=gmac / rows[name]['seconds'] / peak)
    ordered = sorted(timing.seconds)
    spread = [ordered[0] / frames, ordered[-1] / frames]
    return dict(parts=rows, seconds_min_max=spread, peak_memory=timing.peak)


def compare(first: Timing, second: Timing) -> dict[str, float]:
    """Ratio of the times, pair by pair."""
    ratios = [a / b for a, b in zip(first.seconds, second.seconds, strict=True)]
    return dict(median=statistics.median(ratios), min=min(ratios), max=max(ratios))


def part_table(title: str, summary: dict, peak: float) -> Table:
    """The table of one measurement."""
    low, high = summary['seconds_min_max']
    table = Table(
        title=title,
        title_justify='left',
        caption=f'all: {low:.3f} to {high:.3f} s a frame; memory rose by '
        f'{summary["peak_memory"] / 1e9:.2f} GB; a matrix product runs at {peak:.1f} GMAC/s',
        caption_justify='left',
    )
    for column in ('component', 's a frame', 'share', 'GMAC', 'GMAC/s', 'of the peak'):
        table.add_column(column, justify='left' if column == 'component' else 'right')
    total = summary['parts']['all']['seconds']
    for name, row in summary['parts'].items():
        seconds, gmac = row['seconds'], row.get('gmac')
        counted = ('', '', '')
        if gmac is not None:
            counted = (f'{gmac:.1f}', f'{gmac / seconds:.1f}', f'{row["share_of_peak"]:.0%}')
        table.add_row(name, f'{seconds:.3f}', f'{seconds / total:.0%}', *counted)
    return table


def write_json(path: Path, results: list[dict]) -> None:
    """Write the numbers."""
    path.write_text(json.dumps(results, indent=1))


def plot_lengths(path: Path, results: list[dict]) -> None:
    """Plot seconds a frame of each component, and the memory, against the length of the clip."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 4), layout='constrained')
    left, right = figure.subplots(1, 2)
    styles = ('o-', 'x--')
    for dtype in dict.fromkeys(result['dtype'] for result in results):
        chosen = [result for result in results if result['dtype'] == dtype]
        frames = [result['frames'] for result in chosen]
        for name, style in zip(chosen[0]['networks'], styles, strict=False):
            rows = [result['networks'][name] for result in chosen]
            label = f'{Path(name).stem}, {dtype}'
            for index, part in enumerate(rows[0]['parts']):
                seconds = [row['parts'][part]['seconds'] for row in rows]
                left.plot(frames, seconds, style, color=f'C{index}', label=f'{label}: {part}')
            right.plot(frames, [row['peak_memory'] / 1e9 for row in rows], style, label=label)
    left.set_ylabel('seconds a frame')
    right.set_ylabel('rise of the memory, GB')
    for axes in (left, right):
        axes.set_xlabel('frames in a clip')
        axes.set_ylim(bottom=0)
    handles, labels = left.get_legend_handles_labels()
    figure.legend(handles, labels, loc='outside right center', fontsize='x-small')
    right.legend(fontsize='small')
    figure.suptitle(results[0]['work'], fontsize='medium')
    figure.savefig(path, dpi=120)


def _parse_args(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description='Measure time and memory of a network.')
    parser.add_argument('config', help='config whose model.generator is measured')
    parser.add_argument('--vs', metavar='CONFIG', help='a second one, measured in turn')
    parser.add_argument('--frames', type=int, nargs='+', default=[8], metavar='T')
    parser.add_argument('--size', type=int, default=256, help='height and width of the frames')
    parser.add_argument('--dtype', nargs='+', choices=list(DTYPES), default=['fp32'])
    parser.add_argument('--device', default='cpu', help='cpu or cuda')
    parser.add_argument('--runs', type=int, default=5, help='counted runs, after one that is not')
    parser.add_argument('--blurry', type=float, default=0.5, help='share of blurry window places')
    parser.add_argument('--train', action='store_true', help='forward and backward')
    parser.add_argument('--json', type=Path, metavar='FILE', help='write the numbers, too')
    parser.add_argument('--plot', type=Path, metavar='FILE', help='plot against --frames')
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=DictAction,
        default={},
        metavar='KEY=VALUE',
        help='settings that replace those of the configs',
    )
    args = parser.parse_args(argv)
    for name, least in (('frames', 1), ('size', 16), ('runs', 1)):
        value = getattr(args, name)
        if min(value if isinstance(value, list) else [value]) < least:
            raise UserError(f'--{name} must be at least {least}')
    if not 0 <= args.blurry <= 1:
        raise UserError(f'--blurry must be a share between 0 and 1, not {args.blurry}')
    for name in ('json', 'plot'):
        path = getattr(args, name)
        if path and path.exists():
            raise UserError(f'{path}: exists already; give a new file as --{name}')
    if args.device != 'cpu' and not torch.cuda.is_available():
        raise UserError(f'--device {args.device}: there is no such GPU here; use cpu')
    return args


if __name__ == '__main__':
    run(main)
