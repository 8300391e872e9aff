"""From a command line to an MMEngine runner."""

import argparse
import errno
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from mmagic.utils import register_all_modules
from mmengine.config import Config, DictAction
from mmengine.hooks import Hook
from mmengine.logging import print_log
from mmengine.runner import Runner

from bsst_plugin.checkpoints.check import check_fits
from bsst_plugin.datasets.check import check_frame_folders
from bsst_plugin.errors import UserError
from bsst_plugin.ops.precision import bfloat16_is_fast

#: A disk is full, over its quota, or cannot be written.
DISK_ERRORS = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO}


def add_common_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments that training and testing share; their names are those of MMagic's tools."""
    parser.add_argument(
        '--work-dir', help='folder for logs and checkpoints (default: work_dirs/NAME_OF_CONFIG)'
    )
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=DictAction,
        metavar='KEY=VALUE',
        help='override settings of the config, e.g. train_cfg.max_iters=100',
    )
    parser.add_argument(
        '--launcher',
        choices=['none', 'pytorch', 'slurm', 'mpi'],
        default='none',
        help='job launcher',
    )
    # torch.distributed.launch passes it; MMEngine reads the environment instead.
    parser.add_argument('--local_rank', '--local-rank', type=int, default=0, help=argparse.SUPPRESS)


def read_config(path: str) -> Config:
    """A config file.

    Args:
        path: The file.

    Raises:
        UserError: There is no such config file, or it is not one.
    """
    if not Path(path).is_file():
        raise UserError(f'{path}: no such config file')
    try:
        return Config.fromfile(path)
    except Exception as error:  # a config is a program: it can fail in any way
        reason = ''.join(str(error).strip().splitlines()[:1])
        raise UserError(f'{path}: not a config ({type(error).__name__}: {reason})') from error


def load_config(
    path: str,
    options: dict | None = None,
    work_dir: str | None = None,
    launcher: str = 'none',
    amp: bool = False,
) -> Config:
    """Config file and command line as one config.

    Args:
        path: The file.
        options: What ``--cfg-options`` sets.
        work_dir: See :func:`add_common_arguments`.
        launcher: See :func:`add_common_arguments`.
        amp: Whether to train in mixed precision.

    Returns:
        The config, its components registered.

    Raises:
        UserError: There is no such config file, or it is not one.
    """
    cfg = read_config(path)
    if options:
        cfg.merge_from_dict(options)
    cfg.launcher = launcher
    cfg.work_dir = work_dir or cfg.get('work_dir') or f'work_dirs/{Path(path).stem}'
    register_all_modules(init_default_scope=True)
    if amp:
        cfg.optim_wrapper.type = 'AmpOptimWrapper'
        cfg.optim_wrapper.setdefault('loss_scale', 'dynamic')
    if not torch.cuda.is_available():
        _fit_to_cpu(cfg)
    return cfg


def check_datasets(cfg: Config, *splits: str) -> None:
    """Check the datasets of the given splits, see :func:`check_frame_folders`.

    Args:
        cfg: The config.
        *splits: ``'train'``, ``'val'`` or ``'test'``; those without a dataloader are skipped.
    """
    for split in splits:
        loader = cfg.get(f'{split}_dataloader')
        for one in loader if isinstance(loader, list) else [loader]:
            if one is not None:
                check_frame_folders(one.dataset)


def run_training(cfg: Config) -> None:
    """Train.

    Args:
        cfg: The config.

    Raises:
        UserError: Something that the user can mend; a full disk among it.
    """
    with disk_errors(cfg.work_dir, 'make room, then --resume'):
        runner = Runner.from_cfg(cfg)
        start = cfg.get('load_from')
        if start and '://' not in start:
            # To start from, some weights will do; going on takes all of them.
            check_fits(start, runner.model, partly=not cfg.get('resume'))
        runner.train()


@contextmanager
def disk_errors(work_dir: str, way_out: str) -> Iterator[None]:
    """Tell in one line that a disk is full.

    Args:
        work_dir: What to name if the error does not say which file it was.
        way_out: What the message tells the user to do.

    Raises:
        UserError: Something inside could not be written.
    """
    # Not a traceback for each line of the log on a full disk: what else is written raises.
    logging.raiseExceptions = False
    try:
        yield
    except OSError as error:
        if error.errno not in DISK_ERRORS:
            raise
        raise UserError(
            f'{error.filename or work_dir}: cannot be written ({error.strerror}); {way_out}'
        ) from error


def run_test(runner: Runner) -> dict[str, float]:
    """Test, and return the metrics: MMagic's test loop only logs them.

    Args:
        runner: A runner with a test loop.

    Returns:
        The metrics by name.
    """
    kept: dict[str, float] = {}

    class Keep(Hook):
        def after_test_epoch(self, runner: Runner, metrics: dict[str, float] | None = None) -> None:
            kept.update(metrics or {})

    runner.register_hook(Keep())
    runner.test()
    return kept


def _fit_to_cpu(cfg: Config) -> None:
    """Replace what needs a GPU, so that the same config runs without one."""
    optim_wrapper = cfg.get('optim_wrapper')
    if optim_wrapper and optim_wrapper.get('type') == 'AmpOptimWrapper':
        bfloat16 = optim_wrapper.get('dtype') == 'bfloat16' and bfloat16_is_fast()
        optim_wrapper.type = 'BFloat16OptimWrapper' if bfloat16 else 'OptimWrapper'
        precision = 'bfloat16' if bfloat16 else 'float32'
        print_log(
            f'No GPU: training in {precision} ({optim_wrapper.type} instead of AmpOptimWrapper)'
        )
        for key in ('loss_scale', 'dtype', 'use_fp64'):
            optim_wrapper.pop(key, None)
    for split in ('val', 'test'):
        if (cfg.get(f'{split}_cfg') or {}).get('fp16'):
            cfg[f'{split}_cfg'].fp16 = False  # on a CPU it would be bfloat16
    if cfg.launcher == 'pytorch':
        # MMEngine would give each process a GPU.
        if not torch.distributed.is_initialized():
            torch.distributed.init_process_group('gloo')
        cfg.model_wrapper_cfg = dict(
            type='MMDistributedDataParallel',
            device_ids=None,
            broadcast_buffers=False,
            find_unused_parameters=cfg.get('find_unused_parameters', False),
        )
