"""Give a network with CompactDecoder its first guess, before anything else in it is trained.

    python tools/fit_guess.py configs/bsstnet_small.py work_dirs/guess.pth
    python tools/train.py configs/bsstnet_small.py --cfg-options load_from=work_dirs/guess.pth

Which restorations suit a clip depends on its exposure, so that many clips are needed and few
weights. Nothing of what these weights see is learned: for some clips of the config's training set
it is computed once, then thousands of steps take two minutes. All other weights are as they are
initialised; they change nothing yet.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from mmagic.registry import DATASETS, MODELS
from mmengine.runner import set_random_seed
from rich.progress import track
from torch import Tensor, nn
from torch.utils.data import DataLoader, Subset

from bsst_plugin.checkpoints.write import check_is_new, write_checkpoint
from bsst_plugin.cli import run
from bsst_plugin.engine import read_config
from bsst_plugin.errors import UserError
from bsst_plugin.models.bsstnet import BSSTNet
from bsst_plugin.models.compact import CompactDecoder, evidence, mixture
from bsst_plugin.models.losses import FrameRMSELoss
from bsst_plugin.models.motion_path import frame_velocity

BATCH = 8  # clips of a step, two frames of each
WARMUP, FALL = 0.02, 0.4  # parts of the steps in which the learning rate rises and falls


def main(argv: Sequence[str] | None = None) -> None:
    """Render, fit, write."""
    args = _parse_args(argv)
    check_is_new(args.out)
    cfg = read_config(args.config)
    set_random_seed(0)
    network = MODELS.build(cfg.model.generator)
    if not isinstance(network.decoder, CompactDecoder):
        raise UserError(f'{args.config}: its decoder is no CompactDecoder, which makes guesses')
    clips = _collect(network, cfg.train_dataloader.dataset, args.clips)
    loss = _fit(network.decoder.to_guess, clips, args.steps, args.lr)
    write_checkpoint(args.out, network.state_dict(), cfg.pretty_text)
    print(f'{args.out}: {args.steps} steps, the error fell to {loss:.1%} of that of blurry frames')


@torch.no_grad()
def _collect(network: BSSTNet, dataset: dict, count: int) -> list[tuple[Tensor, ...]]:
    """Per clip blurry and sharp frames ``(t, 3, h, w)`` uint8, restorations and hints."""
    whole = DATASETS.build(dict(dataset, pipeline=[]))
    loader = DataLoader(Subset(whole, range(count)), batch_size=None, num_workers=1)
    clips: list[tuple[Tensor, ...]] = []
    for sample in track(loader, 'Rendering clips', count):
        blurry, sharp = (
            torch.from_numpy(np.stack(sample[key])).permute(0, 3, 1, 2) for key in ('img', 'gt')
        )
        frames = blurry.float() / 255
        flows_forward, flows_backward, _ = network.motion(frames[None], None)
        velocity = frame_velocity(flows_forward, flows_backward)[0]
        restored, hints = evidence(frames, velocity, len(frames))
        clips.append((blurry, sharp, restored.half(), hints))  # by far the most of the memory
    return clips


def _fit(guess: nn.Module, clips: list[tuple[Tensor, ...]], steps: int, lr: float) -> float:
    """Train; the root mean square error of the last tenth of the steps, relative to the input."""
    optimizer = torch.optim.AdamW(guess.parameters(), lr, betas=(0.9, 0.99), weight_decay=0)
    error = FrameRMSELoss(eps=1e-3)
    ratios = []
    for step in track(range(steps), 'Fitting'):
        part = (step + 1) / steps
        optimizer.param_groups[0]['lr'] = lr * min(1, part / WARMUP, (1 - part) / FALL)
        blurry, sharp, restored, hints = _batch(clips)
        output = blurry + mixture(restored, guess(hints))
        before, after = (error(frames, sharp) for frames in (blurry, output))
        optimizer.zero_grad()
        after.backward()
        optimizer.step()
        ratios.append((after / before).item())
    return float(np.mean(ratios[-max(1, steps // 10) :]))


def _batch(clips: list[tuple[Tensor, ...]]) -> list[Tensor]:
    """Two frames each of some clips, values in [0, 1]."""
    chosen = [clips[i] for i in torch.randint(len(clips), (BATCH,))]
    frames = torch.randint(len(clips[0][0]), (BATCH, 2))
    blurry, sharp, restored, hints = (
        torch.cat([part[at] for part, at in zip(parts, frames, strict=True)]).float()
        for parts in zip(*chosen, strict=True)
    )
    return [blurry / 255, sharp / 255, restored, hints]


def _parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description='Fit the first guess of a small network.')
    parser.add_argument('config', help='config file')
    parser.add_argument('out', type=Path, metavar='OUT', help='checkpoint to write; must be new')
    parser.add_argument('--clips', type=int, default=400, help='7 MB of memory each (default: 400)')
    parser.add_argument('--steps', type=int, default=2500)
    parser.add_argument('--lr', type=float, default=3e-3, help='largest learning rate')
    args = parser.parse_args(argv)
    if min(args.clips, args.steps) < 1 or args.lr <= 0:
        raise UserError('--clips and --steps must be at least 1, --lr above 0')
    return args


if __name__ == '__main__':
    run(main)
