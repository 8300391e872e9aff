"""Convert DVD to the layout of this package, DST/{train,test}/{blur,GT}/VIDEO/NNNNN.png.

python tools/dataset_converters/dvd.py DeepVideoDeblurring_Dataset.zip data/dvd
python tools/dataset_converters/dvd.py --check data/dvd

The set is published without folders for training and testing; the 10 test videos are those that its
authors named. Its frames are JPEG files: links to them, and frames from the archive, are JPEG files
under names that end in .png, which the readers used here decode by their content. --copy writes PNG
files with the same pixels instead, several times as large.
"""

from collections.abc import Sequence

from bsst_plugin.cli import run
from bsst_plugin.datasets.converter_cli import converter_parser, run_converter
from bsst_plugin.datasets.official_layouts import dvd


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
    return run_converter(parser.parse_intermixed_args(argv), dvd())


if __name__ == '__main__':
    run(main)
