"""What the commands in ``tools/dataset_converters`` for published datasets have in common."""

import argparse
import sys

from bsst_plugin.errors import UserError

from .conversion import check, convert
from .official_layouts import Layout

_MAX_LINES = 50  # of a kind; thousands of them help nobody


def converter_parser(description: str | None) -> argparse.ArgumentParser:
    """A parser of the arguments that all converters share."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('src', metavar='SRC', nargs='?', help='unpacked folder, or .zip archive')
    parser.add_argument(
        'dst', metavar='DST', nargs='?', help='folder to make; nothing in it is overwritten'
    )
    parser.add_argument(
        '--copy',
        action='store_true',
        help='copy frames, as PNG, where the default is links to those in SRC',
    )
    parser.add_argument('--check', metavar='DST', help='only check this converted folder')
    return parser


def run_converter(args: argparse.Namespace, layout: Layout) -> int:
    """Convert or check as the arguments say, and tell what came of it.

    Returns:
        The exit code: 1 if a frame cannot be used.

    Raises:
        UserError: See :func:`convert`, or an argument is missing.
    """
    if args.check is not None:
        if args.src is not None:
            raise UserError('--check takes one folder and goes alone: leave out SRC and DST')
        report, dst = check(args.check, layout), args.check
    elif args.dst is None:
        raise UserError('name SRC and DST, or a folder to --check')
    else:
        report, dst = convert(args.src, args.dst, layout, args.copy), args.dst
    for kind, lines in (('error', report.problems), ('warning', report.warnings)):
        for line in lines[:_MAX_LINES]:
            print(f'{kind}: {line}', file=sys.stderr)
        if len(lines) > _MAX_LINES:
            print(f'{kind}: and {len(lines) - _MAX_LINES} more like these', file=sys.stderr)
    width = max(8, len(report.title))
    print(f'{report.title:{width}}{"videos":>12}{"pairs":>16}')
    for split, known in layout.known.items():
        cells = [f'{n} of {k}' for n, k in zip(report.counts[split], known, strict=True)]
        print(f'{split:{width}}{cells[0]:>12}{cells[1]:>16}')
    if report.problems:
        left_out = '' if args.check else '; their videos were left out'
        print(f'{dst}: {len(report.problems)} problems{left_out}. Mend them and run this again.')
    elif args.check:
        print(f'{dst}: every pair is in order')
    else:
        print(f'{dst}: ' + ('converted' if report.changed else 'already there, nothing to do'))
    return 1 if report.problems else 0
