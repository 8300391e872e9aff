"""Convert the authors' released BSSTNet checkpoint.

python tools/model_converters/released.py BSST_gopro.pth bsstnet_gopro_released.pth
python tools/test.py configs/bsstnet_gopro_released.py bsstnet_gopro_released.pth
"""

import argparse
import os
from pathlib import Path

import torch
from mmagic.registry import MODELS
from mmengine.config import Config

from bsst_plugin.checkpoints.check import read_state_dict
from bsst_plugin.checkpoints.raft import to_torchvision
from bsst_plugin.checkpoints.released import convert_released
from bsst_plugin.cli import run
from bsst_plugin.errors import UserError

CONFIG = Path(__file__).resolve().parents[2] / 'configs' / 'bsstnet_gopro_released.py'


def main() -> None:
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
    args = parser.parse_args()
    dst = Path(args.dst)
    if dst.exists():
        raise UserError(f'{dst}: exists already; remove it or give another name')
    cfg = Config.fromfile(CONFIG)
    network = MODELS.build(cfg.model.generator)
    state = convert_released(read_state_dict(args.src))
    wanted = {k: v for k, v in network.state_dict().items() if 'flow_estimator.' not in k}
    fitting = sum(k in state and state[k].shape == v.shape for k, v in wanted.items())
    if fitting < len(wanted) or len(state) > len(wanted):
        raise UserError(
            f'{args.src}: not a released BSSTNet; expected {len(wanted)} tensors that it uses, '
            f'found {fitting} of them and {len(state) - fitting} others'
        )
    if args.raft:
        own = set(network.flow_estimator.raft.state_dict())
        raft = to_torchvision(read_state_dict(args.raft))
        if set(raft) != own:
            raise UserError(
                f'{args.raft}: not the weights of RAFT (large); expected {len(own)} tensors, '
                f'found {len(own & set(raft))} of them and {len(set(raft) - own)} others'
            )
        state.update({f'flow_estimator.raft.{k}': v for k, v in raft.items()})
    network.load_state_dict(state, strict=bool(args.raft))
    partial = dst.with_name(dst.name + '.partial')
    dst.parent.mkdir(parents=True, exist_ok=True)
    content = {
        'meta': {'cfg': cfg.pretty_text},
        'state_dict': {f'generator.{k}': v for k, v in state.items()},
    }
    torch.save(content, partial)
    os.replace(partial, dst)
    print(f'{dst}: {len(state)} tensors, for configs/bsstnet_gopro_released.py and its DVD twin')
    if not args.raft:
        print('flow_estimator.* is missing: torchvision downloads it on first use, or give --raft')


if __name__ == '__main__':
    run(main)
