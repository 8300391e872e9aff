"""Train the part of a small network that tells from the blur how things moved, before the rest.

    python tools/fit_path.py configs/bsstnet_small.py work_dirs/path.pth
    python tools/fit_small.py configs/bsstnet_small.py work_dirs/frames.pth --frames \
        --start work_dirs/path.pth

Some clips of the config's training set are made once, with how well each path explains the blur of
each place, and kept in OUT.clips. At each of ten validations OUT, averages of the last weights, is
written, and its figures go to OUT.jsonl. The same command goes on after the last of them if it was
interrupted.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import torch
from mmagic.registry import MODELS
from mmengine.runner import set_random_seed
from torch import Tensor

from bsst_plugin.cli import run
from bsst_plugin.datasets.clip_files import ClipFiles, made, stack
from bsst_plugin.datasets.path_clips import PathClip, explained, path_loss, turned
from bsst_plugin.engine import read_config
from bsst_plugin.errors import UserError
from bsst_plugin.fit import Fit
from bsst_plugin.models.blur_path import BlurPath
from bsst_plugin.models.compact import CompactEncoder


def main(argv: Sequence[str] | None = None) -> None:
    """Render, fit, write."""
    args = _parse_args(argv)
    cfg = read_config(args.config)
    set_random_seed(0)
    network = MODELS.build(cfg.model.generator)
    if not isinstance(network.encoder, CompactEncoder):
        raise UserError(f'{args.config}: its encoder is no CompactEncoder, it has no BlurPath')
    network.requires_grad_(False)
    blur_path = network.encoder.blur_path.requires_grad_()
    fit = Fit(network, args.out, cfg.pretty_text, vars(args), args.steps, args.lr)

    def clips(split: str, dataset: dict, count: int) -> list[PathClip]:
        return made(ClipFiles(fit.clips / split, network, dataset, count, PathClip))

    training = clips('train', cfg.train_dataloader.dataset, args.clips)
    unseen = clips('val', cfg.val_dataloader.dataset, cfg.val_dataloader.dataset.length)

    def batch_loss() -> Tensor:
        chosen = torch.randint(args.clips, (args.batch,)).tolist()
        clips = stack([training[i] for i in chosen])
        evidence, errors = turned(clips.evidence(), clips.errors.flatten(0, 1).float())
        with torch.autocast('cpu', torch.bfloat16, enabled=args.bf16):
            logits = blur_path(evidence)
        return path_loss(logits.float(), errors)

    for step in fit.steps(batch_loss):
        likeliest, best = _explained(fit.averaged.module.encoder.blur_path, unseen)
        print(f'{step} steps: {likeliest:.2f} dB of the blur explained, at most {best:.2f} dB')
        fit.write({'step': step, 'explained': likeliest, 'at_most': best})
    fit.finish()


@torch.no_grad()
def _explained(blur_path: BlurPath, unseen: list[PathClip]) -> tuple[float, float]:
    """Means over clips, of the likeliest path and the best one."""
    values = []
    for one in unseen:
        clip = stack([one])
        logits = blur_path(clip.evidence())
        values.append(torch.stack(explained(logits, clip.errors.flatten(0, 1).float())))
    likeliest, best = torch.stack(values).mean(0).tolist()
    return likeliest, best


def _parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description='Train the part of a small network that tells from the blur how things moved.'
    )
    parser.add_argument('config', help='config file')
    parser.add_argument('out', type=Path, metavar='OUT', help='checkpoint to write; must be new')
    parser.add_argument('--clips', type=int, default=3600, help='1 MB of disk each (default: 3600)')
    parser.add_argument('--steps', type=int, default=4000)
    parser.add_argument('--batch', type=int, default=4, help='clips of a step (default: 4)')
    parser.add_argument('--lr', type=float, default=2e-3, help='largest learning rate')
    parser.add_argument(
        '--bf16', action='store_true', help='in bfloat16: a CPU with AVX-512 BF16 is faster so'
    )
    args = parser.parse_args(argv)
    if min(args.clips, args.steps, args.batch) < 1 or args.lr <= 0:
        raise UserError('--clips, --steps and --batch must be at least 1, --lr above 0')
    return args


if __name__ == '__main__':
    run(main)
