"""Convert BSD to the layout of this package, DST/{train,valid,test}/{blur,GT}/VIDEO/NNNNN.png.

python tools/dataset_converters/bsd.py BSD.zip data/bsd_3ms24ms --exposure 3ms24ms
python tools/dataset_converters/bsd.py --check data/bsd_3ms24ms

The blur is real: a beam splitter shows the same view to two cameras. The set has three parts, named
after the exposure times of the sharp and the blurry camera; they are trained on and reported
separately. The 8-bit RGB frames are converted, the raw ones are not.
"""

from collections.abc import Sequence

from bsst_plugin.cli import run
from bsst_plugin.datasets.converter_cli import converter_parser, run_converter
from bsst_plugin.datasets.official_layouts import EXPOSURES, bsd
from bsst_plugin.errors import UserError


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command.

    Args:
        argv: Arguments without the program's name; those of the process if None.

    Returns:
        The exit code.

    Raises:
        UserError: A mistake to put right.
    """
    parser = converter_parser(__doc__)
    parser.add_argument('--exposure', choices=EXPOSURES, help='which part; needed to convert')
    args = parser.parse_intermixed_args(argv)
    if args.check is None and args.exposure is None:
        raise UserError(f'choose a part of the set with --exposure: {", ".join(EXPOSURES)}')
    return run_converter(args, bsd(args.exposure or ''))


if __name__ == '__main__':
    run(main)
