"""Train a small network on clips whose evidence is computed once.

    python tools/fit_small.py configs/bsstnet_small.py work_dirs/frames.pth
    python tools/fit_small.py configs/bsstnet_small.py work_dirs/small.pth \
        --frames work_dirs/frames.pth

Most of what a small network sees is not learned: flows, restorations, what neighbours show. For
some clips of the config's training set it is computed once, then a step costs no more than the
network itself, and small parts of many clips fit in a batch. First the encoder and decoder learn
frame by frame, which is far faster; with --frames, which has their weights, the whole network
learns, the rest of it from scratch. Validations are written to OUT.jsonl beside OUT, for
tools/analysis/training_curve.py. `tools/train.py` goes on from OUT with clips that are always new.
"""

import argparse
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields
from functools import partial
from pathlib import Path

import numpy as np
import torch
from mmagic.registry import DATASETS, MODELS
from mmengine.runner import set_random_seed
from rich.progress import track
from torch import Tensor
from torch.utils.data import DataLoader, Subset

from bsst_plugin.checkpoints.check import read_state_dict
from bsst_plugin.checkpoints.write import check_is_new, write_checkpoint
from bsst_plugin.cli import run
from bsst_plugin.engine import read_config
from bsst_plugin.errors import UserError
from bsst_plugin.models.bsstnet import BSSTNet
from bsst_plugin.models.compact import SCALE, CompactDecoder, evidence
from bsst_plugin.models.losses import FrameRMSELoss

CLIPS = 8  # of a step
FRAMES = 2  # of each, while frames are trained
CROP = 64  # pixels, a window of the transformer, while the whole network is trained
WARMUP, FALL = 0.02, 0.4  # parts of the steps in which the learning rate rises and falls
VALIDATIONS = 10


@dataclass(frozen=True)
class Clip:
    """What a network is given of a clip, and what it should make of it.

    Args:
        blurry: Frames ``(t, 3, h, w)``, uint8.
        sharp: Same.
        candidates: See ``evidence``, float16: by far the most of the memory.
        hints: See ``evidence``.
        flows_forward: ``(t-1, 2, h/4, w/4)``.
        flows_backward: Same.
        blur_map: ``(t, 1, h/4, w/4)``.
    """

    blurry: Tensor
    sharp: Tensor
    candidates: Tensor
    hints: Tensor
    flows_forward: Tensor
    flows_backward: Tensor
    blur_map: Tensor

    def frames(self, chosen: Tensor) -> 'Clip':
        """Some frames, their flows left out."""
        none = self.flows_forward[:0]
        return Clip(
            self.blurry[chosen],
            self.sharp[chosen],
            self.candidates[chosen],
            self.hints[chosen],
            none,
            none,
            self.blur_map[chosen],
        )

    def crop(self, top: int, left: int, size: int) -> 'Clip':
        """A square part; all three in pixels of the features."""

        def cut(part: Tensor) -> Tensor:
            scale = part.shape[-1] // self.hints.shape[-1]
            y, x, side = (scale * value for value in (top, left, size))
            return part[..., y : y + side, x : x + side]

        return Clip(**{field.name: cut(getattr(self, field.name)) for field in fields(self)})


def main(argv: Sequence[str] | None = None) -> None:
    """Render, fit, write."""
    args = _parse_args(argv)
    log = args.out.with_suffix('.jsonl')
    for path in (args.out, log):
        check_is_new(path)
    cfg = read_config(args.config)
    set_random_seed(0)
    network = MODELS.build(cfg.model.generator)
    if not isinstance(network.decoder, CompactDecoder):
        raise UserError(f'{args.config}: its decoder is no CompactDecoder, nothing to compute once')
    if args.frames:
        _take_frames(network, args.frames)
    clips = _collect(network, cfg.train_dataloader.dataset, args.clips)
    unseen = _collect(network, cfg.val_dataloader.dataset, cfg.val_dataloader.dataset.length)
    whole = args.frames is not None
    forward = partial(_output, network, whole=whole)
    batch = partial(_batch, clips, _random_crop if whole else _random_frames)
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open('w', encoding='utf-8') as lines:
        for step in _fit(network, forward, batch, args.steps, args.lr):
            before, after = _psnr(forward, unseen)
            print(json.dumps({'step': step, 'PSNR': after, 'input/PSNR': before}), file=lines)
            print(f'{step} steps: {after:.2f} dB, input {before:.2f} dB', flush=True)
            lines.flush()
    write_checkpoint(args.out, network.state_dict(), cfg.pretty_text)


def _take_frames(network: BSSTNet, path: Path) -> None:
    """Weights of encoder and decoder."""
    state = read_state_dict(path)
    for part in ('encoder', 'decoder'):
        prefix = f'generator.{part}.'
        own = {
            name.removeprefix(prefix): tensor
            for name, tensor in state.items()
            if name.startswith(prefix)
        }
        try:
            getattr(network, part).load_state_dict(own)
        except RuntimeError as error:
            raise UserError(f'{path}: its {part} is not that of the config') from error


@torch.no_grad()
def _collect(network: BSSTNet, dataset: dict, count: int) -> list[Clip]:
    """Render the first clips of a dataset, and compute what is not learned."""
    whole = DATASETS.build(dict(dataset, pipeline=[]))
    loader = DataLoader(Subset(whole, range(count)), batch_size=None, num_workers=1)
    clips: list[Clip] = []
    for sample in track(loader, 'Rendering clips', count):
        blurry, sharp = (
            torch.from_numpy(np.stack(sample[key])).permute(0, 3, 1, 2) for key in ('img', 'gt')
        )
        frames = blurry.float() / 255
        *flows, blur_map = network.motion(frames[None], None)
        candidates, hints = evidence(frames, *flows)
        motion = (part[0] for part in (*flows, blur_map))
        clips.append(Clip(blurry, sharp, candidates.half(), hints, *motion))
    return clips


def _fit(
    network: BSSTNet,
    forward: Callable[[Clip], Tensor],
    batch: Callable[[], Clip],
    steps: int,
    lr: float,
) -> Iterator[int]:
    """Train, and stop for validations after the steps that are yielded."""
    optimizer = torch.optim.AdamW(network.parameters(), lr, betas=(0.9, 0.99), weight_decay=0)
    error = FrameRMSELoss(eps=1e-3)
    interval = max(1, steps // VALIDATIONS)
    for step in range(1, steps + 1):
        part = step / steps
        optimizer.param_groups[0]['lr'] = lr * min(1, part / WARMUP, (1 - part) / FALL)
        clip = batch()
        optimizer.zero_grad()
        error(forward(clip), clip.sharp).backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 0.1)
        optimizer.step()
        if step % interval == 0 or step == steps:
            yield step


def _batch(clips: list[Clip], part_of: Callable[[Clip], Clip]) -> Clip:
    """Parts of some clips."""
    chosen = torch.randint(len(clips), (CLIPS,))
    return _stack([part_of(clips[i]) for i in chosen])


def _random_frames(clip: Clip) -> Clip:
    return clip.frames(torch.randint(len(clip.blurry), (FRAMES,)))


def _random_crop(clip: Clip) -> Clip:
    size = CROP // SCALE
    top, left = (int(torch.randint(max(1, s - size + 1), ())) for s in clip.hints.shape[-2:])
    return clip.crop(top, left, size)


def _stack(clips: Sequence[Clip]) -> Clip:
    """A batch: ``(n, t, ...)``, values in [0, 1]."""
    parts = [
        torch.stack([getattr(clip, field.name) for clip in clips]).float() for field in fields(Clip)
    ]
    return Clip(parts[0] / 255, parts[1] / 255, *parts[2:])


def _output(network: BSSTNet, clips: Clip, whole: bool) -> Tensor:
    """Output ``(n, t, 3, h, w)`` of encoder and decoder alone, or of the network."""
    n, t = clips.blurry.shape[:2]
    frames, candidates, hints = (
        part.flatten(0, 1) for part in (clips.blurry, clips.candidates, clips.hints)
    )
    encoded = network.encoder.encode(frames, candidates, hints)
    refined = torch.zeros_like(encoded)
    if whole:
        feature = encoded.unflatten(0, (n, t))
        flows = (clips.flows_forward, clips.flows_backward)
        refined = network.refine(feature, *flows, clips.blur_map).flatten(0, 1)
    residual = network.decoder(refined, (candidates, hints, encoded), t)
    return clips.blurry + residual.view_as(clips.blurry)


@torch.no_grad()
def _psnr(forward: Callable[[Clip], Tensor], clips: list[Clip]) -> tuple[float, float]:
    """Means over all frames, of input and output."""
    values = []
    for clip in clips:
        one = _stack([clip])
        for frames in (one.blurry, forward(one).clamp(0, 1)):
            mse = (frames - one.sharp).square().mean((-3, -2, -1))
            values.append(float(-10 * mse.clamp(min=1e-10).log10().mean()))
    return float(np.mean(values[::2])), float(np.mean(values[1::2]))


def _parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description='Train a small network on clips whose evidence is computed once.'
    )
    parser.add_argument('config', help='config file')
    parser.add_argument('out', type=Path, metavar='OUT', help='checkpoint to write; must be new')
    parser.add_argument(
        '--frames', type=Path, metavar='FILE', help='checkpoint with the weights of single frames'
    )
    parser.add_argument(
        '--clips', type=int, default=800, help='13 MB of memory each (default: 800)'
    )
    parser.add_argument('--steps', type=int, default=3000)
    parser.add_argument('--lr', type=float, default=2e-3, help='largest learning rate')
    args = parser.parse_args(argv)
    if min(args.clips, args.steps) < 1 or args.lr <= 0:
        raise UserError('--clips and --steps must be at least 1, --lr above 0')
    return args


if __name__ == '__main__':
    run(main)
