"""Command line of ``bsst-deblur``."""

import argparse
from collections.abc import Sequence
from fractions import Fraction

from bsst_plugin.visualization.views import view_blur, view_flow, view_windows

VIEWS = {'blur': view_blur, 'windows': view_windows, 'flow': view_flow}


def parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line.

    Args:
        argv: Arguments without the program's name; those of the process if None.

    Returns:
        The arguments.
    """
    parser = argparse.ArgumentParser(
        prog='bsst-deblur', description='Deblur a video or a folder of frames.'
    )
    parser.add_argument('input', metavar='INPUT', help='a video or a folder of frames')
    parser.add_argument(
        'output',
        metavar='OUTPUT',
        nargs='?',
        help='a video, or a folder for frames (default: NAME_deblurred beside INPUT)',
    )
    parser.add_argument(
        '--checkpoint',
        metavar='FILE',
        help="weights: of a training, or the authors' released file (default: those that ship)",
    )
    parser.add_argument(
        '--config', metavar='FILE', help='config to use instead of the one in the checkpoint'
    )
    parser.add_argument('--device', choices=['auto', 'cpu', 'cuda', 'mps'], default='auto')
    parser.add_argument('--amp', action='store_true', help='mixed precision')
    parser.add_argument(
        '--max-memory',
        metavar='SIZE',
        help='use no more than this, as 4GB; of the GPU if one is used (default: most of what is '
        'free)',
    )
    parser.add_argument('--codec', help='video encoder of FFmpeg, as libx265 (default: libx264)')
    parser.add_argument(
        '--crf',
        type=_quality,
        metavar='N',
        help='quality of the video, 0 to 63, less is better (default: 18)',
    )
    parser.add_argument(
        '--fps',
        type=_rate,
        default=Fraction(25),
        metavar='RATE',
        help='frames per second of a video made from a folder, as 30000/1001 (default: 25)',
    )
    parser.add_argument('--overwrite', action='store_true', help='replace an existing output')
    parser.add_argument('--resume', action='store_true', help='go on with an interrupted run')
    parser.add_argument(
        '--preview',
        type=_count,
        default=0,
        metavar='N',
        help='first deblur N frames and write a picture of them',
    )
    parser.add_argument(
        '--show',
        action='append',
        default=[],
        choices=[*VIEWS, 'compare'],
        help='also write a video of the blur map, the selected windows, the flow, or input and '
        'output side by side; can be given several times',
    )
    parser.add_argument('--report', metavar='DIR', help='write a web page about the result there')
    # OUTPUT may be left out, and may come after options.
    args = parser.parse_intermixed_args(argv)
    args.show = list(dict.fromkeys(args.show))
    return args


def _quality(text: str) -> int:
    if not text.isdecimal() or int(text) > 63:
        raise argparse.ArgumentTypeError(f'{text}: give a number from 0 to 63')
    return int(text)


def _count(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f'{text}: not a number of frames')
    return int(text)


def _rate(text: str) -> Fraction:
    try:
        rate = Fraction(text)
    except (ValueError, ZeroDivisionError):
        rate = Fraction(0)
    if rate <= 0:
        raise argparse.ArgumentTypeError(f'{text}: not a rate; write it like 25 or 30000/1001')
    return rate
