"""Reduce a checkpoint of a training to what inference needs: the weights and the config.

python tools/model_converters/publish.py work_dirs/bsstnet_small/iter_9000.pth small.pth

Where the training averaged its weights (EMAHook), the averages are what is kept.
"""

import argparse
import hashlib
from pathlib import Path

from bsst_plugin.checkpoints.load import load_network
from bsst_plugin.checkpoints.write import check_is_new, write_checkpoint
from bsst_plugin.cli import run


def main(argv: list[str] | None = None) -> None:
    """Reduce."""
    parser = argparse.ArgumentParser(description='Keep weights and config of a checkpoint.')
    parser.add_argument('src', metavar='SRC', help='a checkpoint of tools/train.py')
    parser.add_argument('dst', metavar='DST', help='the checkpoint to write; must not exist')
    args = parser.parse_args(argv)
    dst = Path(args.dst)
    check_is_new(dst)
    loaded = load_network(args.src)
    write_checkpoint(dst, loaded.network.state_dict(), loaded.config)
    content = dst.read_bytes()
    print(f'{dst}: {len(content) / 1e6:.1f} MB, SHA-256 {hashlib.sha256(content).hexdigest()}')


if __name__ == '__main__':
    run(main)
