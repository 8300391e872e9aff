"""Plot what a training gained over its input on validation clips.

python tools/analysis/training_curve.py work_dirs/bsstnet_small work_dirs/bsstnet_small_cooldown \
    --out curve.png
python tools/analysis/training_curve.py work_dirs/frames.jsonl work_dirs/small.jsonl --out curve.png

Several runs are parts of one training, in their order: folders of tools/train.py, logs of
tools/fit_small.py.
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure

from bsst_plugin.cli import run
from bsst_plugin.errors import UserError

#: Iterations and the PSNR of output and input there.
Point = tuple[int, float, float]


def main(argv: Sequence[str] | None = None) -> None:
    """Read the logs and plot."""
    parser = argparse.ArgumentParser(description='Plot the validations of a training.')
    parser.add_argument('runs', nargs='+', metavar='RUN', help='folder or log of a run')
    parser.add_argument('--out', type=Path, required=True, metavar='FILE', help='new picture')
    args = parser.parse_args(argv)
    if args.out.exists():
        raise UserError(f'{args.out}: exists already; give a new file as --out')
    if args.out.suffix not in ('.png', '.pdf', '.svg'):
        raise UserError(f'{args.out}: end it with .png, .pdf or .svg')
    points: list[Point] = []
    for path in args.runs:
        start = points[-1][0] if points else 0
        found = read_validations(Path(path))
        points += [(start + step, output, given) for step, output, given in found]
    figure = Figure(figsize=(6, 3.5), layout='constrained')
    axes = figure.subplots()
    steps, outputs, inputs = zip(*points, strict=True)
    axes.plot(steps, [a - b for a, b in zip(outputs, inputs, strict=True)], 'o-')
    axes.axhline(0, color='grey', linestyle=':')
    axes.set_xlabel('iterations')
    axes.set_ylabel('PSNR, gain over the input (dB)')
    args.out.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(args.out, dpi=120)
    print(f'{args.out}: {len(points)} validations, last gain {outputs[-1] - inputs[-1]:+.2f} dB')


def read_validations(path: Path) -> list[Point]:
    """Validations of a run, those of a resumed run once.

    Args:
        path: Folder or log of the run.

    Returns:
        Points in the order of the iterations.

    Raises:
        UserError: There are none.
    """
    found: dict[int, Point] = {}
    logs = [path] if path.is_file() else sorted(path.glob('*/vis_data/scalars.json'))
    for log in logs:
        for line in log.read_text().splitlines():
            try:
                entry = json.loads(line)
            except ValueError:  # the last line of a run that was killed
                continue
            if 'input/PSNR' in entry:
                found[entry['step']] = (entry['step'], entry['PSNR'], entry['input/PSNR'])
    if not found:
        raise UserError(f'{path}: no validations with PSNR and input/PSNR in its logs')
    return [found[step] for step in sorted(found)]


if __name__ == '__main__':
    run(main)
