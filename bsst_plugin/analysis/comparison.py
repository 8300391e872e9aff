"""The files of a comparison: table, numbers, plot and pictures."""

import json
import platform
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter
from mmagic.evaluation.metrics.psnr import psnr

from bsst_plugin.analysis.published import PUBLISHED
from bsst_plugin.analysis.runs import Frame, Measured, Run
from bsst_plugin.analysis.tables import Column, Row, rank, to_markdown
from bsst_plugin.errors import UserError
from bsst_plugin.evaluation.deblurring_metrics import INPUT_NAMES, MEASURES
from bsst_plugin.visualization import most_changed, save_details

COLUMNS = (
    Column('method', 'method'),
    Column('PSNR', 'PSNR (dB)', '{:.2f}'.format, max),
    Column('GaussianSSIM', "SSIM (the paper's)", '{:.4f}'.format, max),
    Column('SSIM', "SSIM (MMagic's)", '{:.4f}'.format, max),
    Column('parameters', 'parameters (M)', lambda number: f'{number / 1e6:.2f}', min),
    Column('gmac', 'GMAC / frame', '{:.1f}'.format, min),
    Column('seconds', 'ms / frame', lambda seconds: f'{1000 * seconds:.0f}', min),
    Column('memory', 'memory (MB)', lambda number: f'{number / 1e6:.0f}', min),
    *(Column(name, f'published, {name} (PSNR / SSIM)') for name in PUBLISHED),
)


@contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """A folder to fill that gets its name when it is complete.

    Args:
        path: What must not exist yet, or be an empty folder.

    Yields:
        The folder to write into.

    Raises:
        UserError: It exists, or cannot be written.
    """
    check_new(path)
    partial = path.with_name(f'.{path.name}.partial')
    shutil.rmtree(partial, ignore_errors=True)  # of a run that was killed
    try:
        partial.mkdir(parents=True)
        yield partial
        partial.rename(path)
    except OSError as error:
        raise UserError(f'{path}: cannot be written ({error.strerror})') from error


def check_new(path: Path) -> None:
    """Check that nothing is lost by making a folder.

    Raises:
        UserError: There is something.
    """
    if path.exists() and not (path.is_dir() and not any(path.iterdir())):
        raise UserError(f'{path}: exists already; give a new folder as --out')


def write_comparison(
    folder: Path, setting: Mapping[str, object], results: Sequence[tuple[Run, Measured]]
) -> str:
    """Write ``comparison.json``, ``table.md``, ``plot.png`` and a picture of each kept frame.

    Args:
        folder: Where to; exists.
        setting: What all have in common, for ``comparison.json``.
        results: The networks and what was measured of them.

    Returns:
        The table, as markdown.
    """
    rows = [_row(run, measured) for run, measured in results]
    blurry: dict[str, float | str] = {'method': 'blurry input'}
    blurry.update({name: results[0][1].scores[INPUT_NAMES[name]] for name in MEASURES})
    columns = [
        column
        for column in COLUMNS
        if column.key not in PUBLISHED or any(column.key in row for row in rows)
    ]
    table = to_markdown(rows, columns, head=[blurry])
    (folder / 'table.md').write_text(table + '\n', 'utf-8')
    content = {
        **setting,
        'machine': describe_machine(),
        'counted_size': results[0][1].counted_size,
        'input': {name: blurry[name] for name in MEASURES},
        'runs': _to_json(rows, columns, results),
    }
    (folder / 'comparison.json').write_text(json.dumps(content, indent=1) + '\n', 'utf-8')
    _plot(folder / 'plot.png', rows, float(blurry['PSNR']))
    for number, frame in enumerate(results[0][1].frames):
        name = f'frame_{number}_{frame[0]}_{frame[1]:05d}.jpg'
        _picture(folder / name, frame, results)
    return table


def describe_machine() -> dict[str, object]:
    """What times and memory depend on."""
    cpu = platform.processor() or platform.machine()
    info = Path('/proc/cpuinfo')
    if info.is_file():
        names = [line for line in info.read_text().splitlines() if line.startswith('model name')]
        cpu = names[0].partition(':')[2].strip() if names else cpu
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    threads = torch.get_num_threads()
    return {'cpu': cpu, 'threads': threads, 'gpu': gpu, 'torch': torch.__version__}


def _row(run: Run, measured: Measured) -> dict[str, float | str]:
    row: dict[str, float | str] = {'method': run.name}
    row.update({name: measured.scores[name] for name in MEASURES})
    row.update(parameters=measured.parameters, gmac=measured.gmac)
    row.update(seconds=measured.seconds, memory=measured.memory)
    for dataset, methods in PUBLISHED.items():
        if run.method in methods:
            row[dataset] = '{:.2f} / {:.4f}'.format(*methods[run.method])
    return row


def _to_json(
    rows: Sequence[Row], columns: Sequence[Column], results: Sequence[tuple[Run, Measured]]
) -> list[dict]:
    places = {column.key: rank(rows, column) for column in columns}
    runs = []
    for index, (row, (run, measured)) in enumerate(zip(rows, results, strict=True)):
        runs.append(
            {
                **{key: value for key, value in row.items() if key not in PUBLISHED},
                'config': str(run.config),
                'checkpoint': None if run.checkpoint is None else str(run.checkpoint),
                'best': [key for key, place in places.items() if place[index] == 1],
                'second': [key for key, place in places.items() if place[index] == 2],
                'published': {
                    dataset: dict(zip(('PSNR', 'SSIM'), methods[run.method], strict=True))
                    for dataset, methods in PUBLISHED.items()
                    if run.method in methods
                },
                'scores': measured.scores,
            }
        )
    return runs


def _plot(path: Path, rows: Sequence[Row], blurry: float) -> None:
    """PSNR against GMAC and time."""
    figure = Figure(figsize=(9, 3.5), layout='constrained')
    axes = figure.subplots(1, 2, sharey=True)
    for axis, key, label in zip(
        axes, ('gmac', 'seconds'), ('GMAC per frame', 'seconds per frame'), strict=True
    ):
        for number, row in enumerate(rows):
            # Several in one place are told apart by their shapes.
            style = dict(marker='os^Dv<>p'[number % 8], color=f'C{number % 10}', alpha=0.8)
            axis.plot(float(row[key]), float(row['PSNR']), label=row['method'], ls='', **style)
        axis.axhline(blurry, color='grey', linestyle=':', label='blurry input')
        axis.set_xscale('log')
        # Numbers of a log scale as they are spoken, few enough to stay apart.
        axis.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.xaxis.set_major_formatter('{x:g}')
        axis.xaxis.set_minor_formatter(NullFormatter())
        axis.set_xlabel(label)
        axis.margins(0.2)
        axis.grid(alpha=0.3)
    axes[0].set_ylabel('PSNR (dB)')
    figure.legend(*axes[0].get_legend_handles_labels(), loc='outside right center')
    figure.savefig(path, dpi=100)


def _picture(path: Path, frame: Frame, results: Sequence[tuple[Run, Measured]]) -> None:
    blurry, _, sharp = results[0][1].frames[frame]
    outputs = {run.name: measured.frames[frame][1] for run, measured in results}
    pictures = {'blurry': blurry, **outputs}
    named = {f'{name}, {psnr(sharp, image):.2f} dB': image for name, image in pictures.items()}
    detail = most_changed(blurry, sharp)
    save_details(path, f'{frame[0]}, frame {frame[1]}', {**named, 'sharp': sharp}, detail)
