"""Convert GoPro to the layout of this package, DST/{train,test}/{blur,GT}/VIDEO/NNNNN.png.

python tools/dataset_converters/gopro.py GOPRO_Large.zip data/gopro
python tools/dataset_converters/gopro.py --check data/gopro

GoPro comes with two blurry versions of every frame. `blur` is the average of successive sharp
frames as they are stored. `blur_gamma` is the average of their light: stored values are taken to
the power 2.2 before and back afterwards, as if the camera had a gamma of 2.2. The authors of GoPro
trained on `blur_gamma`; most papers since use `blur`. Train and test on the same one, and compare
only numbers on the same one. Nothing but the folder's name tells them apart.
"""

from collections.abc import Sequence

from bsst_plugin.cli import run
from bsst_plugin.datasets.converter_cli import converter_parser, run_converter
from bsst_plugin.datasets.official_layouts import gopro


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
    parser.add_argument(
        '--source',
        choices=('blur', 'blur_gamma'),
        default='blur',
        help='which blurry version, see above (default: blur)',
    )
    args = parser.parse_intermixed_args(argv)
    return run_converter(args, gopro(args.source))


if __name__ == '__main__':
    run(main)
