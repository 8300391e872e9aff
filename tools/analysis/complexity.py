"""Count parameters and multiply-accumulates by component.

python tools/analysis/complexity.py configs/bsstnet_gopro.py --frames 12 24 36 48 60

Shapes go through the network, numbers do not: the operators that would run are counted on tensors
without memory, the attention for a given share of blurry window places. The flow estimator is not
counted, as in the paper.
"""

import argparse
import json
import time
from pathlib import Path

import torch
from mmagic.registry import MODELS
from mmengine.config import ConfigDict
from rich.console import Console
from rich.progress import track
from rich.table import Table
from torch import Tensor, nn

from bsst_plugin.analysis.comparison import check_new, new_folder
from bsst_plugin.analysis.complexity import ALL, count_macs
from bsst_plugin.cli import run
from bsst_plugin.engine import read_config
from bsst_plugin.errors import UserError
from bsst_plugin.models import BSSTNet, WindowSelection
from bsst_plugin.models.window_selection import Size2

PARTS = (
    'encoder',
    'flow_refiner',
    'backbone',
    'fusion',
    'neck',
    'decoder',
    'scales',
    'mid_exposure',
)
WITHOUT = 'without deformable convolution'
# GFLOPs of a frame in Table 4 of the paper, which are multiply-accumulates, by clip length; SST is
# out of memory at 60 frames.
PAPER = {
    'BSST': {12: 122, 24: 127, 36: 130, 48: 133, 60: 137},
    'SST': {12: 171, 24: 251, 36: 277, 48: 329},
}


class FixedShare(nn.Module):
    """A window selection that sees a given share of blurry places, whatever the blur map.

    Args:
        selection: The selection that chooses among the blurs made up here.
        share: Share of the places that are blurry.
    """

    def __init__(self, selection: object, share: float) -> None:
        super().__init__()
        self.selection, self.share = selection, share

    def forward(self, token_blur: Tensor, window: Size2, block_index: int) -> WindowSelection:
        """Choose windows; the blur's shape counts, its values (there are none) do not."""
        n, t, rows, columns = token_blur.shape
        m, n_windows = rows // window[0], columns // window[1]
        blurry = torch.zeros(m * n_windows)
        blurry[: round(self.share * m * n_windows)] = 1
        blur = blurry.view(m, n_windows).repeat_interleave(window[0], 0)
        blur = blur.repeat_interleave(window[1], 1).expand(n, t, rows, columns)
        return self.selection(blur.contiguous(), window, block_index)  # type: ignore[operator]


def count_parameters(network: BSSTNet) -> dict[str, int]:
    """Number of parameters of each component, the flow estimator last."""
    parts = {name: getattr(network, name) for name in (*PARTS, 'flow_estimator')}
    return {
        name: sum(p.numel() for p in part.parameters())
        for name, part in parts.items()
        if part is not None
    }


def count(network: BSSTNet, frames: int, size: int, share: float) -> dict[str, dict[str, float]]:
    """Multiply-accumulates of a frame.

    Args:
        network: The network, on any device.
        frames: Length of the clip.
        size: Height and width of the frames.
        share: Share of the window places that are blurry.

    Returns:
        GMAC of a frame by component; of the deformable convolutions' own product apart.
    """
    network = network.to('meta').eval()
    if network.neck is not None:
        network.neck.selection = FixedShare(network.neck.selection, share)
    clip = torch.empty(1, frames, 3, size, size, device='meta')
    flow = torch.empty(1, frames - 1, 2, -(-size // 4), -(-size // 4), device='meta')
    counts = count_macs(network, clip, (flow, flow))
    return {
        module: {kind: gmac / frames for kind, gmac in kinds.items()}
        for module, kinds in counts.items()
    }


def main(argv: list[str] | None = None) -> None:
    """Print and save the tables."""
    args = _parse_args(argv)
    generator = _read_generator(args.config)
    name = Path(args.config).stem
    out = Path(args.out or f'work_dirs/complexity/{name}_{time.strftime("%Y%m%d_%H%M%S")}')
    check_new(out)

    console = Console()
    parameters = count_parameters(MODELS.build(generator))
    console.print(f'{args.config}: parameters')
    console.print(_parameter_table(parameters))
    result: dict[int, dict[str, float]] = {}
    bar = Console(stderr=True)
    for frames in track(args.frames, 'counting', console=bar, transient=True):
        counts = count(MODELS.build(generator), frames, args.size, args.blurry)
        result[frames] = {
            **{p: sum(counts[f'BSSTNet.{p}'].values()) for p in PARTS if p in parameters},
            'all': sum(counts[ALL].values()),
            WITHOUT: counts[ALL]['rest'],
        }
    setting = f'{args.size} x {args.size}, {args.blurry:.0%} of the window places blurry'
    console.print(f'GMAC a frame, {setting}')
    console.print(_gmac_table(result))
    console.print(
        "The paper's GFLOPs are multiply-accumulates and leave out the product of the deformable "
        f'convolutions: compare them with the row "{WITHOUT}".'
    )
    _write(out, parameters, result, name, setting)
    console.print(f'written: {out / "complexity.json"}, {out / "complexity.png"}', soft_wrap=True)


def _parse_args(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description='Count parameters and multiply-accumulates by component.'
    )
    parser.add_argument('config', help='config of a BSSTNet')
    parser.add_argument('--frames', type=int, nargs='+', default=[12, 24, 36, 48, 60], metavar='T')
    parser.add_argument('--size', type=int, default=256, help='height and width of the frames')
    parser.add_argument(
        '--blurry', type=float, default=0.5, help='share of the window places that are blurry'
    )
    parser.add_argument(
        '--out',
        metavar='DIR',
        help='new folder for complexity.json and complexity.png (default: in work_dirs/complexity)',
    )
    args = parser.parse_args(argv)
    if min(args.frames) < 1:
        raise UserError(f'--frames must be at least 1, not {min(args.frames)}')
    if args.size < 16:
        raise UserError(f'--size must be at least 16, not {args.size}')
    if not 0 <= args.blurry <= 1:
        raise UserError(f'--blurry must be a share between 0 and 1, not {args.blurry}')
    return args


def _read_generator(path: str) -> ConfigDict:
    generator = (read_config(path).get('model') or {}).get('generator') or {}
    if generator.get('type') != 'BSSTNet':
        raise UserError(f'{path}: not the config of a BSSTNet (model.generator.type)')
    return generator


def _parameter_table(parameters: dict[str, int]) -> Table:
    table = Table('component')
    table.add_column('M', justify='right')
    for name, number in parameters.items():
        table.add_row(name, f'{number / 1e6:.2f}')
    trained = sum(parameters.values()) - parameters['flow_estimator']
    table.add_row('all but flow_estimator', f'{trained / 1e6:.2f}')
    return table


def _gmac_table(result: dict[int, dict[str, float]]) -> Table:
    table = Table('frames')
    for frames in result:
        table.add_column(str(frames), justify='right')
    for name in next(iter(result.values())):
        table.add_row(name, *(f'{row[name]:.1f}' for row in result.values()))
    for name, points in PAPER.items():
        table.add_row(f'{name}, Table 4', *(str(points.get(frames, '-')) for frames in result))
    return table


def _write(
    out: Path,
    parameters: dict[str, int],
    result: dict[int, dict[str, float]],
    name: str,
    setting: str,
) -> None:
    """Write the numbers and the plot into a new folder, both or none."""
    with new_folder(out) as folder:
        content = {'setting': setting, 'parameters': parameters, 'gmac_per_frame': result}
        (folder / 'complexity.json').write_text(json.dumps(content, indent=1))
        _plot(folder / 'complexity.png', result, name, setting)


def _plot(path: Path, result: dict[int, dict[str, float]], name: str, setting: str) -> None:
    """GMAC against the length of the clip, beside Table 4."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4.5), layout='constrained')
    axes = figure.subplots()
    for row, style, label in (
        ('all', 'o--', 'deformable convolution included'),
        (WITHOUT, 'o-', 'counted as the paper does'),
    ):
        points = sorted((frames, counts[row]) for frames, counts in result.items())
        axes.plot(*zip(*points, strict=True), style, label=f'{name}, {label}')
    for kind, published in PAPER.items():
        axes.plot(*zip(*published.items(), strict=True), 'x:', label=f'{kind}, Table 4 (256 x 256)')
    axes.set_xticks(sorted({*result, *PAPER['BSST']}))
    axes.set_xlabel('frames in a clip')
    axes.set_ylabel('GMAC a frame (the paper: GFLOPs)')
    axes.set_ylim(bottom=0)
    axes.set_title(setting, fontsize='medium')
    axes.legend(fontsize='small')
    figure.savefig(path, dpi=120)


if __name__ == '__main__':
    run(main)
