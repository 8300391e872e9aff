"""Count parameters and multiply-accumulates by component.

    python tools/analysis/complexity.py configs/bsstnet_gopro.py --frames 12 24 36 48 60

Shapes go through the network, numbers do not: the operators that would run are counted on tensors
without memory, the attention for a given share of blurry window places.
"""

import argparse
import json
from collections import defaultdict
from pathlib import Path

import torch
from mmagic.registry import MODELS
from mmengine.config import Config
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from bsst_plugin.cli import run
from bsst_plugin.errors import UserError
from bsst_plugin.models import BSSTNet, WindowSelection
from bsst_plugin.models.window_selection import Size2

DEFORM = torch.ops.torchvision.deform_conv2d
WITHOUT = 'without deformable convolution'
# GFLOPs of a frame in Table 4 of the paper, which are multiply-accumulates, by clip length.
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
    counter = FlopCounterMode(display=False, custom_mapping={DEFORM: _deform_flops})
    with torch.no_grad(), counter:
        network(clip, (flow, flow))
    counts: dict[str, dict[str, float]] = defaultdict(dict)
    for module, operators in counter.get_flop_counts().items():
        for operator, flops in operators.items():
            kind = 'deform' if operator == DEFORM else 'rest'
            gmac = flops / 2e9 / frames
            counts[module][kind] = counts[module].get(kind, 0.0) + gmac
    return counts


def _deform_flops(
    x_shape: tuple, weight_shape: tuple, *_: object, out_shape: tuple, **__: object
) -> int:
    """Twice the multiply-accumulates of the product of samples and weights."""
    n, c_out, h, w = out_shape
    return 2 * n * h * w * c_out * weight_shape[1] * weight_shape[2] * weight_shape[3]


def main() -> None:
    """Print and save the tables."""
    parser = argparse.ArgumentParser(
        description='Count parameters and multiply-accumulates by component.'
    )
    parser.add_argument('config', help='config of a BSSTNet')
    parser.add_argument('--frames', type=int, nargs='+', default=[12, 24, 36, 48, 60], metavar='T')
    parser.add_argument('--size', type=int, default=256, help='height and width of the frames')
    parser.add_argument(
        '--blurry', type=float, default=0.5, help='share of the window places that are blurry'
    )
    parser.add_argument('--out', metavar='DIR', help='write complexity.json and complexity.png')
    args = parser.parse_args()
    if not Path(args.config).is_file():
        raise UserError(f'{args.config}: no such config file')
    if not 0 <= args.blurry <= 1:
        raise UserError(f'--blurry must be a share between 0 and 1, not {args.blurry}')
    generator = Config.fromfile(args.config).model.generator
    if generator.type != 'BSSTNet':
        raise UserError(f'{args.config}: its generator is a {generator.type}, not a BSSTNet')

    console = Console()
    parts = ['encoder', 'flow_refiner', 'backbone', 'fusion', 'neck', 'decoder']
    network = MODELS.build(generator)
    parameters = {
        name: sum(p.numel() for p in getattr(network, name).parameters())
        for name in [*parts, 'flow_estimator']
        if getattr(network, name) is not None
    }
    table = Table(title=f'{args.config}: parameters')
    for name in ('component', 'M'):
        table.add_column(name, justify='right' if name == 'M' else 'left')
    for name, number in parameters.items():
        table.add_row(name, f'{number / 1e6:.2f}')
    trained = sum(parameters.values()) - parameters['flow_estimator']
    table.add_row('all but flow_estimator', f'{trained / 1e6:.2f}')
    console.print(table)

    names = [name for name in parts if name in parameters]
    result: dict[int, dict[str, float]] = {}
    for frames in args.frames:
        counts = count(MODELS.build(generator), frames, args.size, args.blurry)
        result[frames] = {
            **{name: sum(counts.get(f'BSSTNet.{name}', {}).values()) for name in names},
            'all': sum(counts['Global'].values()),
            WITHOUT: counts['Global']['rest'],
        }
    table = Table(
        title=f'GMAC a frame, {args.size} x {args.size}, {args.blurry:.0%} of the places blurry'
    )
    table.add_column('frames')
    for frames in args.frames:
        table.add_column(str(frames), justify='right')
    for name in (*names, 'all', WITHOUT):
        table.add_row(name, *(f'{row[name]:.1f}' for row in result.values()))
    for name, points in PAPER.items():
        table.add_row(f'{name}, Table 4', *(str(points.get(frames, '-')) for frames in result))
    console.print(table)
    console.print(
        "The paper's GFLOPs are multiply-accumulates and leave out the product of the deformable "
        f'convolutions: compare them with the row "{WITHOUT}".'
    )
    if args.out:
        out = Path(args.out)
        out.mkdir(parents=True, exist_ok=True)
        (out / 'complexity.json').write_text(json.dumps(result, indent=1))
        _plot(out / 'complexity.png', result, args.config)
        console.print(f'written: {out / "complexity.json"}, {out / "complexity.png"}')


def _plot(path: Path, result: dict[int, dict[str, float]], config: str) -> None:
    """GMAC against the length of the clip, beside Table 4."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 4), layout='constrained')
    axes = figure.subplots()
    axes.plot(
        list(result),
        [row[WITHOUT] for row in result.values()],
        'o-',
        label=f'{Path(config).stem}, counted as the paper does',
    )
    axes.plot(
        list(result),
        [row['all'] for row in result.values()],
        'o--',
        label=f'{Path(config).stem}, deformable convolution included',
    )
    for name, points in PAPER.items():
        axes.plot(list(points), list(points.values()), 'x:', label=f'{name}, Table 4 (published)')
    axes.set_xlabel('frames in a clip')
    axes.set_ylabel('GMAC a frame')
    axes.set_ylim(bottom=0)
    axes.legend()
    figure.savefig(path, dpi=120)


if __name__ == '__main__':
    run(main)
