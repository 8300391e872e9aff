"""Render blurry and sharp clips from photographs, in GoPro's layout.

python tools/dataset_converters/render_blur.py data/rendered
python tools/dataset_converters/render_blur.py data/mine --photos ~/Pictures --train-clips 100
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from bsst_plugin.cli import run
from bsst_plugin.datasets import DEFAULT_CLIPS, BlurSettings, render_dataset
from bsst_plugin.errors import UserError


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command.

    Args:
        argv: Arguments without the program's name; those of the process if None.

    Raises:
        UserError: A mistake to put right.
    """
    args = _parse(argv)
    try:
        settings = BlurSettings(
            num_frames=args.frames,
            size=args.size,
            exposure=args.exposure,
            blur=tuple(args.blur),
            pieces=tuple(args.pieces),
        )
    except ValueError as error:
        raise UserError(str(error)) from error
    clips = {'train': args.train_clips, 'test': args.test_clips}
    rendered = render_dataset(args.dst, args.photos, clips, settings, args.seed)
    print(f'{args.dst}: ' + ('rendered' if rendered else 'already there, nothing to do'))


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    default = BlurSettings()
    parser = argparse.ArgumentParser(
        description='Render blurry and sharp clips from photographs, in the layout of GoPro: '
        'DST/{train,test}/{blur,GT}/VIDEO/00000.png. The same arguments give the same bytes.',
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument('dst', metavar='DST', help='folder to make; never overwritten')
    parser.add_argument(
        '--photos',
        metavar='FOLDER',
        help='photographs (one in five is for testing; images with transparency are foreground '
        'pieces); those inside scikit-image if left out',
    )
    for split, count in DEFAULT_CLIPS.items():
        parser.add_argument(
            f'--{split}-clips', type=int, default=count, metavar='N', help=f'clips to {split} on'
        )
    parser.add_argument(
        '--frames', type=int, default=default.num_frames, metavar='N', help='frames per clip'
    )
    parser.add_argument(
        '--size', type=int, default=default.size, metavar='N', help='height and width, pixels'
    )
    parser.add_argument('--seed', type=int, default=0, help='other seed, other clips')
    parser.add_argument(
        '--exposure',
        type=float,
        default=default.exposure,
        help='part of the time between two frames that the shutter is open, at most 1',
    )
    parser.add_argument(
        '--blur',
        type=float,
        nargs=2,
        default=default.blur,
        metavar=('MIN', 'MAX'),
        help='longest blur of a clip is drawn from this range, pixels',
    )
    parser.add_argument(
        '--pieces',
        type=int,
        nargs=2,
        default=default.pieces,
        metavar=('MIN', 'MAX'),
        help='number of moving foreground pieces is drawn from this range',
    )
    return parser.parse_args(argv)


if __name__ == '__main__':
    run(main)
