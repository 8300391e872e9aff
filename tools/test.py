"""Test a checkpoint on the test set of a config.

python tools/test.py configs/bsstnet_demo.py work_dirs/bsstnet_demo/iter_100.pth
mim test bsst_plugin bsstnet_demo.py --checkpoint work_dirs/bsstnet_demo/iter_100.pth
"""

import argparse
from pathlib import Path

import mmengine
from mmengine.runner import Runner

from bsst_plugin.checkpoints.check import check_fits
from bsst_plugin.cli import run
from bsst_plugin.engine import (
    add_common_arguments,
    check_datasets,
    disk_errors,
    load_config,
    run_test,
)
from bsst_plugin.errors import UserError

OUT_SUFFIXES = ('.json', '.yaml', '.yml', '.pkl')


def parse_args() -> argparse.Namespace:
    """Command line."""
    parser = argparse.ArgumentParser(description='Test a checkpoint on the test set of a config.')
    parser.add_argument('config', help='config file')
    parser.add_argument('checkpoint', help='checkpoint file')
    parser.add_argument('--out', help='write the metrics to this .json, .yaml or .pkl file')
    add_common_arguments(parser)
    return parser.parse_args()


def main() -> None:
    """Test."""
    args = parse_args()
    if args.out and Path(args.out).suffix not in OUT_SUFFIXES:
        raise UserError(f'--out {args.out}: has to end in {", ".join(OUT_SUFFIXES)}')
    cfg = load_config(args.config, args.cfg_options, args.work_dir, args.launcher)
    for key in ('test_dataloader', 'test_evaluator', 'test_cfg', 'model'):
        if key not in cfg:
            raise UserError(f'{args.config}: has no {key}, so there is nothing to test')
    check_datasets(cfg, 'test')
    cfg.load_from = args.checkpoint
    with disk_errors(cfg.work_dir, 'make room and test again'):
        runner = Runner.from_cfg(cfg)
        check_fits(args.checkpoint, runner.model)
        metrics = run_test(runner)
        if args.out:
            mmengine.dump(metrics, args.out)


if __name__ == '__main__':
    run(main)
