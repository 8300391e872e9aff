"""Train a small network on clips that are rendered once.

    python tools/fit_small.py configs/bsstnet_small.py work_dirs/frames.pth
    python tools/fit_small.py configs/bsstnet_small.py work_dirs/small.pth \
        --start work_dirs/frames.pth

Some clips of the config's training set, and their flows, are computed once and kept in memory. On
a CPU what else is not learned, restorations and what neighbours show, is computed once, too; a GPU
does that for each batch. First the encoder and decoder learn frame by frame, which is far faster;
with --start the whole network learns, the rest of it from scratch or, if the file has it, from
there. OUT is written at each of ten validations, whose figures go to OUT.jsonl beside it, for
tools/analysis/training_curve.py. `tools/train.py` goes on from OUT with clips that are always new.
"""

import argparse
import json
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields
from functools import partial
from pathlib import Path
from typing import TypeVar

import cv2
import numpy as np
import torch
from mmagic.registry import DATASETS, MODELS
from mmengine.runner import set_random_seed
from rich.progress import track
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from bsst_plugin.checkpoints.check import read_state_dict
from bsst_plugin.checkpoints.write import check_is_new, write_checkpoint
from bsst_plugin.cli import run
from bsst_plugin.engine import read_config
from bsst_plugin.errors import UserError
from bsst_plugin.models.bsstnet import BSSTNet
from bsst_plugin.models.compact import SCALE, CompactDecoder, evidence

FRAMES = 2  # of each clip, while frames are trained on a CPU
WARMUP, FALL = 0.02, 0.4  # parts of the steps in which the learning rate rises and falls
VALIDATIONS = 10

_T = TypeVar('_T')
_R = TypeVar('_R', bound='Rendered')


@dataclass(frozen=True)
class Rendered:
    """What a core takes long to make; a clip, or a batch of clips.

    Args:
        blurry: Frames ``(..., t, 3, h, w)``, uint8.
        sharp: Same.
        flows_forward: ``(..., t-1, 2, h/4, w/4)``.
        flows_backward: Same.
    """

    blurry: Tensor
    sharp: Tensor
    flows_forward: Tensor
    flows_backward: Tensor


@dataclass(frozen=True)
class Clip(Rendered):
    """What a network is given of a clip, or of a batch of clips, and what it should make of it.

    Args:
        candidates: See ``evidence``, float16: by far the most of the memory.
        hints: See ``evidence``.
        blur_map: ``(..., t, 1, h/4, w/4)``.
    """

    candidates: Tensor
    hints: Tensor
    blur_map: Tensor

    def map(self, change: Callable[[Tensor], Tensor]) -> 'Clip':
        """The same of each part."""
        return Clip(**{field.name: change(getattr(self, field.name)) for field in fields(self)})

    def frames(self, chosen: list[int]) -> 'Clip':
        """Some frames of a clip, their flows left out."""
        t = len(self.blurry)
        return self.map(lambda part: part[chosen] if len(part) == t else part[:0])

    def crop(self, size: int) -> 'Clip':
        """A random square of ``size`` pixels."""
        side = size // SCALE
        top, left = (int(torch.randint(max(1, s - side + 1), ())) for s in self.hints.shape[-2:])

        def cut(part: Tensor) -> Tensor:
            scale = part.shape[-1] // self.hints.shape[-1]
            y, x, length = (scale * value for value in (top, left, side))
            return part[..., y : y + length, x : x + length]

        return self.map(cut)


class _Rendering(Dataset):
    """The first clips of a dataset, with their flows."""

    def __init__(self, network: BSSTNet, dataset: dict, count: int) -> None:
        self.estimator, self.count = network.flow_estimator, count
        self.clips = DATASETS.build(dict(dataset, pipeline=[]))

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> list[Tensor]:
        """What a ``Rendered`` has."""
        sample = self.clips[index]
        blurry, sharp = (
            torch.from_numpy(np.stack(sample[key])).permute(0, 3, 1, 2) for key in ('img', 'gt')
        )
        flows = self.estimator(blurry[None].float() / 255)
        return [blurry, sharp, *(flow[0] for flow in flows)]


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
    whole = args.start is not None
    if whole:
        _take_weights(network, args.start)
    network.to('cuda' if torch.cuda.is_available() else 'cpu')
    rendered = _render(network, cfg.train_dataloader.dataset, args.clips)
    validation = cfg.val_dataloader.dataset
    unseen = [
        _see(network, _stack([one])) for one in _render(network, validation, validation.length)
    ]
    forward = partial(_output, network, whole=whole)
    batch = _batches(network, rendered, args.batch, args.crop if whole else None)
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open('w', encoding='utf-8') as lines:
        loss = MODELS.build(cfg.model.pixel_loss)
        for step in _fit(network, forward, batch, loss, args.steps, args.lr):
            before, after = _psnr(forward, unseen)
            print(json.dumps({'step': step, 'PSNR': after, 'input/PSNR': before}), file=lines)
            print(f'{step} steps: {after:.2f} dB, input {before:.2f} dB', flush=True)
            lines.flush()
            state = {name: tensor.cpu() for name, tensor in network.state_dict().items()}
            write_checkpoint(args.out, state, cfg.pretty_text)


def _take_weights(network: BSSTNet, path: Path) -> None:
    """Those of encoder and decoder, and of the other parts what fits."""
    state = {
        name.removeprefix('generator.'): tensor for name, tensor in read_state_dict(path).items()
    }
    own = network.state_dict()
    fits = {name for name in own if name in state and state[name].shape == own[name].shape}
    for part in ('encoder', 'decoder'):
        if any(name.startswith(f'{part}.') and name not in fits for name in own):
            raise UserError(f'{path}: its {part} is not that of the config')
    network.load_state_dict({name: state[name] for name in fits}, strict=False)


def _render(network: BSSTNet, dataset: dict, count: int) -> list[Rendered]:
    """Render the first clips of a dataset."""
    device = next(network.parameters()).device
    cv2.setNumThreads(1)  # each core has a worker
    loader = DataLoader(
        _Rendering(network, dataset, count),
        batch_size=None,
        num_workers=os.cpu_count() or 1,
    )
    return [
        Rendered(*(part.to(device) for part in parts))
        for parts in track(loader, 'Rendering clips', count)
    ]


@torch.no_grad()
def _see(network: BSSTNet, clips: Rendered) -> Clip:
    """Compute what is not learned, for a batch."""
    frames = clips.blurry.float() / 255
    forward, backward, blur_map = network.motion(
        frames, (clips.flows_forward, clips.flows_backward)
    )
    found = evidence(frames.flatten(0, 1), forward, backward)
    candidates, hints = (part.unflatten(0, frames.shape[:2]) for part in found)
    return Clip(clips.blurry, clips.sharp, forward, backward, candidates.half(), hints, blur_map)


def _batches(
    network: BSSTNet, rendered: list[Rendered], size: int, crop: int | None
) -> Callable[[], Clip]:
    """What gives a batch of parts of random clips: frames, or crops of whole clips."""

    def choose(clips: list[_T]) -> list[_T]:
        return [clips[i] for i in torch.randint(len(clips), (size,))]

    if rendered[0].blurry.is_cuda:

        def batch() -> Clip:
            clips = _see(network, _stack(choose(rendered)))
            return clips if crop is None else clips.crop(crop)
    else:
        seen = [
            _see(network, _stack([one])).map(lambda part: part[0])
            for one in track(rendered, 'Restoring frames')
        ]

        def part_of(clip: Clip) -> Clip:
            if crop is None:
                return clip.frames(torch.randint(len(clip.blurry), (FRAMES,)).tolist())
            return clip.crop(crop)

        def batch() -> Clip:
            return _stack([part_of(clip) for clip in choose(seen)])

    return batch


def _fit(
    network: BSSTNet,
    forward: Callable[[Clip], Tensor],
    batch: Callable[[], Clip],
    loss: nn.Module,
    steps: int,
    lr: float,
) -> Iterator[int]:
    """Train, and stop for validations after the steps that are yielded."""
    optimizer = torch.optim.AdamW(network.parameters(), lr, betas=(0.9, 0.99), weight_decay=0)
    interval = max(1, steps // VALIDATIONS)
    for step in range(1, steps + 1):
        part = step / steps
        optimizer.param_groups[0]['lr'] = lr * min(1, part / WARMUP, (1 - part) / FALL)
        clips = batch()
        optimizer.zero_grad()
        loss(forward(clips), clips.sharp.float() / 255).backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 0.1)
        optimizer.step()
        if step % interval == 0 or step == steps:
            yield step


def _stack(clips: Sequence[_R]) -> _R:
    """A batch."""
    names = [field.name for field in fields(clips[0])]
    return type(clips[0])(
        **{name: torch.stack([getattr(clip, name) for clip in clips]) for name in names}
    )


def _output(network: BSSTNet, clips: Clip, whole: bool) -> Tensor:
    """Output ``(n, t, 3, h, w)`` of encoder and decoder alone, or of the network."""
    n, t = clips.blurry.shape[:2]
    blurry = clips.blurry.float() / 255
    frames, candidates, hints = (
        part.flatten(0, 1) for part in (blurry, clips.candidates.float(), clips.hints)
    )
    encoded = network.encoder.encode(frames, candidates, hints)
    refined = torch.zeros_like(encoded)
    if whole:
        feature = encoded.unflatten(0, (n, t))
        flows = (clips.flows_forward, clips.flows_backward)
        refined = network.refine(feature, *flows, clips.blur_map).flatten(0, 1)
    residual = network.decoder(refined, (candidates, hints, encoded), t)
    return blurry + residual.view_as(blurry)


@torch.no_grad()
def _psnr(forward: Callable[[Clip], Tensor], unseen: list[Clip]) -> tuple[float, float]:
    """Means over all frames, of input and output."""
    values = []
    for clips in unseen:
        for frames in (clips.blurry.float() / 255, forward(clips).clamp(0, 1)):
            mse = (frames - clips.sharp.float() / 255).square().mean((-3, -2, -1))
            values.append(float(-10 * mse.clamp(min=1e-10).log10().mean()))
    return float(np.mean(values[::2])), float(np.mean(values[1::2]))


def _parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description='Train a small network on clips that are rendered once.'
    )
    parser.add_argument('config', help='config file')
    parser.add_argument('out', type=Path, metavar='OUT', help='checkpoint to write; must be new')
    parser.add_argument(
        '--start', type=Path, metavar='FILE', help='checkpoint to train the whole network from'
    )
    parser.add_argument(
        '--clips', type=int, default=800, help='14 MB of memory each, 1 MB on a GPU (default: 800)'
    )
    parser.add_argument('--steps', type=int, default=3000)
    parser.add_argument('--batch', type=int, default=8, help='clips of a step (default: 8)')
    parser.add_argument(
        '--crop',
        type=int,
        default=64,
        help='pixels of a part of a clip, while the whole network is trained: a multiple of 64, '
        'a window of the transformer (default: 64)',
    )
    parser.add_argument('--lr', type=float, default=2e-3, help='largest learning rate')
    args = parser.parse_args(argv)
    if min(args.clips, args.steps, args.batch) < 1 or args.lr <= 0:
        raise UserError('--clips, --steps and --batch must be at least 1, --lr above 0')
    if args.crop < 64 or args.crop % 64:
        raise UserError(f'--crop must be a multiple of 64, not {args.crop}')
    return args


if __name__ == '__main__':
    run(main)
