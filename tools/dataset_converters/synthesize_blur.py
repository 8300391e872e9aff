"""Make blurry and sharp pairs from sharp videos, as GoPro and REDS were made.

python tools/dataset_converters/synthesize_blur.py street.mp4 park.mp4 data/mine
python tools/dataset_converters/synthesize_blur.py yard.mp4 data/mine --split test
python tools/dataset_converters/synthesize_blur.py street.mp4 data/mine --frames 5 --interpolate 16

A blurry frame is the average of successive frames, in light, and its sharp frame is the one in the
middle. Film at a high frame rate (120 or 240 Hz) with a short exposure: --frames 11 at 240 Hz, as
in most of GoPro, stands for an exposure of 1/22 s. The last command averages as REDS does, which
was filmed at 120 Hz. Keep videos of one place in one split.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

import cv2
import numpy as np
from rich.progress import Progress, TaskID

from bsst_plugin.cli import run
from bsst_plugin.datasets.frame_average import AverageSettings, average_frames
from bsst_plugin.errors import UserError
from bsst_plugin.video import FrameSource, open_source, to_8_bits, upright

RECORD = 'synthesis.json'
PARTIAL = '.partial'


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command.

    Args:
        argv: Arguments without the program's name; those of the process if None.

    Raises:
        UserError: A mistake to put right.
    """
    args = _parse(argv)
    try:
        settings = AverageSettings(args.frames, args.gamma, args.interpolate)
    except ValueError as error:
        raise UserError(f'--{error}') from error
    out = Path(args.out)
    names = [_video_name(path) for path in args.videos]
    twins = sorted({name for name in names if names.count(name) > 1})
    if twins:
        raise UserError(f'{twins[0]}: the name of several videos; rename one of them')
    try:
        for path, name in zip(args.videos, names, strict=True):
            _synthesize(Path(path), out, f'{args.split}/{name}', settings)
    except OSError as error:
        raise UserError(f'{error.filename or out}: {error.strerror or error}') from error
    finally:
        shutil.rmtree(out / PARTIAL, ignore_errors=True)


def _synthesize(path: Path, out: Path, place: str, settings: AverageSettings) -> None:
    """Write the pairs of one video; their folders appear when all frames are in them."""
    record = {'source': str(path.absolute()), **asdict(settings)}
    split, name = place.split('/')
    folders = {kind: out / split / kind / name for kind in ('blur', 'GT')}
    made = _read_record(out).get(place)
    if all(folder.exists() for folder in folders.values()) and made == record:
        print(f'{place}: already there, nothing to do')
        return
    for folder in folders.values():
        if folder.exists() and made != record:
            how = f'made with {made}' if made else 'not made by this tool'
            raise UserError(f'{folder}: exists, {how}; choose another OUT or delete this folder')
    source = open_source(path)
    steps = np.diff(source.times)
    gaps = source.broken + int((steps > 1.5 * np.median(steps)).sum()) if len(steps) else 0
    if gaps:
        print(f'warning: {path}: frames are missing in {gaps} places', file=sys.stderr)
    pairs = len(source.times) // settings.frames
    if not pairs:
        raise UserError(
            f'{path}: {len(source.times)} frames, too few for one pair; --frames is '
            f'{settings.frames}'
        )
    shutil.rmtree(out / PARTIAL, ignore_errors=True)  # of a run that was cut off
    partial = {kind: out / PARTIAL / split / kind / name for kind in folders}
    for folder in partial.values():
        folder.mkdir(parents=True)
    with Progress() as bar:
        task = bar.add_task(place, total=len(source.times))
        frames = _read(source, bar, task)
        for index, pair in enumerate(average_frames(frames, settings)):
            for kind, picture in zip(partial, pair, strict=True):
                png = cv2.imencode('.png', picture[..., ::-1])[1]
                (partial[kind] / f'{index:05d}.png').write_bytes(png.tobytes())
    _write_record(out, {**_read_record(out), place: record})
    for kind, folder in folders.items():
        if not folder.exists():
            folder.parent.mkdir(parents=True, exist_ok=True)
            partial[kind].rename(folder)
    print(f'{place}: {pairs} pairs')


def _read(source: FrameSource, bar: Progress, task: TaskID) -> Iterator[np.ndarray]:
    """Frames ``(h, w, 3)`` uint8 RGB, the right way up."""
    for frame in source.frames():
        yield upright(to_8_bits(frame.pixels), source.look.matrix)
        bar.advance(task)


def _video_name(path: str) -> str:
    """Name of the video's folders; MMagic takes what follows a dot for a file extension."""
    return re.sub(r'[^A-Za-z0-9_-]', '_', Path(os.path.abspath(path)).stem)


def _read_record(out: Path) -> dict[str, dict[str, object]]:
    """What was made, and how, by split and name."""
    note = out / RECORD
    try:
        return json.loads(note.read_text(encoding='utf-8')) if note.exists() else {}
    except ValueError as error:
        raise UserError(f'{note}: damaged ({error}); choose another OUT or delete it') from error


def _write_record(out: Path, record: dict[str, dict[str, object]]) -> None:
    partial = out / PARTIAL / RECORD
    partial.write_text(json.dumps(record, indent=1) + '\n', encoding='utf-8')
    os.replace(partial, out / RECORD)


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    default = AverageSettings()
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        'videos', metavar='VIDEO', nargs='+', help='sharp videos, or folders of their frames'
    )
    parser.add_argument(
        'out', metavar='OUT', help='folder to write OUT/SPLIT/{blur,GT}/VIDEO/00000.png to'
    )
    parser.add_argument(
        '--split', choices=('train', 'test'), default='train', help='default: train'
    )
    parser.add_argument(
        '--frames',
        type=int,
        default=default.frames,
        metavar='K',
        help=f'frames to average, odd; the next pair takes the K after them ({default.frames})',
    )
    parser.add_argument(
        '--gamma',
        type=float,
        default=default.gamma,
        help=f'stored values are light to the power 1/GAMMA ({default.gamma}, as blur_gamma of '
        f'GoPro); 1 averages stored values, as its blur',
    )
    parser.add_argument(
        '--interpolate',
        type=int,
        default=default.interpolate,
        metavar='N',
        help='raise the frame rate N-fold by optical flow and average all frames, (K-1)*N+1 of '
        'them: for fast motion or a low frame rate (1: off)',
    )
    return parser.parse_args(argv)


if __name__ == '__main__':
    run(main)
