"""Convert a released VRT checkpoint for deblurring (005 for DVD, 006 for GoPro).

python tools/model_converters/vrt.py 006_VRT_videodeblurring_GoPro.pth vrt_gopro.pth
python tools/test.py configs/baselines/vrt_gopro.py vrt_gopro.pth
"""

import argparse
from pathlib import Path

from mmagic.registry import MODELS
from mmengine.config import Config

from bsst_plugin.checkpoints.check import check_is, read_state_dict
from bsst_plugin.checkpoints.vrt import convert_vrt
from bsst_plugin.checkpoints.write import check_is_new, write_checkpoint
from bsst_plugin.cli import run

CONFIG = Path(__file__).resolve().parents[2] / 'configs' / 'baselines' / 'vrt_gopro.py'


def main(argv: list[str] | None = None) -> None:
    """Convert."""
    parser = argparse.ArgumentParser(
        description='Convert a released VRT checkpoint for deblurring.'
    )
    parser.add_argument('src', metavar='SRC', help="the authors' file")
    parser.add_argument('dst', metavar='DST', help='the checkpoint to write; must not exist')
    args = parser.parse_args(argv)
    dst = Path(args.dst)
    check_is_new(dst)
    state = convert_vrt(read_state_dict(args.src, "give the authors' released VRT, 005 or 006"))
    cfg = Config.fromfile(CONFIG)
    network = MODELS.build(cfg.model.generator)
    check_is(args.src, state, network.state_dict(), 'a released VRT for deblurring (005 or 006)')
    network.load_state_dict(state, strict=True)
    write_checkpoint(dst, state, cfg.pretty_text)
    print(f'{dst}: {len(state)} tensors, for configs/baselines/vrt_gopro.py and its DVD twin')


if __name__ == '__main__':
    run(main)
