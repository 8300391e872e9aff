"""Train a model from a config.

python tools/train.py configs/bsstnet_demo.py
mim train bsst_plugin bsstnet_demo.py
"""

import argparse

from bsst_plugin.checkpoints.keep import newest_checkpoint
from bsst_plugin.cli import run
from bsst_plugin.engine import add_common_arguments, check_datasets, load_config, run_training
from bsst_plugin.errors import UserError


def parse_args() -> argparse.Namespace:
    """Command line."""
    parser = argparse.ArgumentParser(description='Train a model from a config.')
    parser.add_argument('config', help='config file')
    parser.add_argument(
        '--resume',
        action='store_true',
        help='go on from the last checkpoint in the work folder, if there is one',
    )
    parser.add_argument('--amp', action='store_true', help='train in mixed precision')
    parser.add_argument(
        '--auto-scale-lr',
        action='store_true',
        help='scale the learning rate to the real batch size',
    )
    add_common_arguments(parser)
    return parser.parse_args()


def main() -> None:
    """Train."""
    args = parse_args()
    cfg = load_config(args.config, args.cfg_options, args.work_dir, args.launcher, args.amp)
    for key in ('train_dataloader', 'train_cfg', 'optim_wrapper', 'model'):
        if key not in cfg:
            raise UserError(f'{args.config}: has no {key}, so there is nothing to train')
    check_datasets(cfg, 'train', 'val')
    if args.auto_scale_lr:
        if 'auto_scale_lr' not in cfg:
            raise UserError(f'{args.config}: --auto-scale-lr needs auto_scale_lr.base_batch_size')
        if cfg.optim_wrapper.get('accumulative_counts', 1) > 1:
            raise UserError(
                f'{args.config}: --auto-scale-lr does not know of accumulative_counts, which keeps '
                f'the batch size as it is; leave one of them out'
            )
        cfg.auto_scale_lr.enable = True
    latest = newest_checkpoint(cfg.work_dir) if args.resume else None
    if latest is not None:
        cfg.resume, cfg.load_from = True, str(latest)
    run_training(cfg)


if __name__ == '__main__':
    run(main)
