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

import torch
from mmagic.registry import MODELS
from mmengine.runner import set_random_seed
from torch import Tensor

from bsst_plugin.cli import run
from bsst_plugin.datasets.clip_files import both_splits, stack
from bsst_plugin.datasets.path_clips import PathClip, explained, path_loss, turned
from bsst_plugin.engine import read_config
from bsst_plugin.errors import UserError
from bsst_plugin.fit import Fit, add_options, check_options
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
    training, validation = both_splits(fit.clips, network, cfg, args.clips, PathClip)
    unseen = [stack([clip]) for clip in validation]

    def batch_loss() -> Tensor:
        chosen = torch.randint(args.clips, (args.batch,)).tolist()
        clips = stack([training[i] for i in chosen])
        evidence, errors = turned(clips.evidence(), clips.errors.flatten(0, 1).float())
        with torch.autocast('cpu', torch.bfloat16, enabled=args.bf16):
            logits = blur_path(evidence)
        return path_loss(logits.float(), errors)

    for step in fit.steps(batch_loss):
        likeliest, best = _explained(fit.averaged.module.encoder.blur_path, unseen)
        explains = f'{likeliest:.2f} dB of the blur explained, at most {best:.2f} dB'
        print(f'{step} steps: {explains}', flush=True)
        fit.write({'step': step, 'explained': likeliest, 'at_most': best})
    fit.finish()


@torch.no_grad()
def _explained(blur_path: BlurPath, unseen: list[PathClip]) -> tuple[float, float]:
    """Means over clips, of the likeliest path and the best one."""
    values = []
    for clip in unseen:
        logits = blur_path(clip.evidence())
        values.append(torch.stack(explained(logits, clip.errors.flatten(0, 1).float())))
    likeliest, best = torch.stack(values).mean(0).tolist()
    return likeliest, best


def _parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description='Train the part of a small network that tells from the blur how things moved.'
    )
    add_options(parser, clips=3600, clip_size='1 MB of disk each', steps=4000, batch=4)
    args = parser.parse_args(argv)
    check_options(args)
    return args


if __name__ == '__main__':
    run(main)
