"""Convert the authors' released BSSTNet checkpoint.

python tools/model_converters/released.py BSST_gopro.pth bsstnet_gopro_released.pth
python tools/test.py configs/bsstnet_gopro_released.py bsstnet_gopro_released.pth
"""

import argparse
from pathlib import Path

from mmagic.registry import MODELS
from mmengine.config import Config

from bsst_plugin.checkpoints.check import check_is, own_tensors, read_state_dict
from bsst_plugin.checkpoints.raft import to_torchvision
from bsst_plugin.checkpoints.released import convert_released
from bsst_plugin.checkpoints.write import check_is_new, write_checkpoint
from bsst_plugin.cli import run

CONFIG = Path(__file__).resolve().parents[2] / 'configs' / 'bsstnet_gopro_released.py'


def main(argv: list[str] | None = None) -> None:
    """Convert."""
    parser = argparse.ArgumentParser(description="Convert the authors' released checkpoint.")
    parser.add_argument('src', metavar='SRC', help="the authors' file")
    parser.add_argument('dst', metavar='DST', help='the checkpoint to write; must not exist')
    parser.add_argument(
        '--raft',
        metavar='FILE',
        help='also put in these weights of RAFT (official, torchvision or mmflow); without them '
        'torchvision has them downloaded on first use',
    )
    args = parser.parse_args(argv)
    dst = Path(args.dst)
    check_is_new(dst)
    state = convert_released(read_state_dict(args.src, "give the authors' released BSSTNet"))
    cfg = Config.fromfile(CONFIG)
    network = MODELS.build(cfg.model.generator)
    check_is(args.src, state, own_tensors(network), 'a released BSSTNet')
    if args.raft:
        raft = to_torchvision(read_state_dict(args.raft, "give RAFT's weights, raft-things.pth"))
        check_is(args.raft, raft, network.flow_estimator.raft.state_dict(), 'RAFT (large)')
        state.update({f'flow_estimator.raft.{name}': tensor for name, tensor in raft.items()})
    write_checkpoint(dst, state, cfg.pretty_text)
    print(f'{dst}: {len(state)} tensors, for configs/bsstnet_gopro_released.py and its DVD twin')
    if not args.raft:
        print('flow_estimator.* is missing: torchvision downloads it on first use, or give --raft')


if __name__ == '__main__':
    run(main)
