"""Train a small network on clips that are rendered once.

    python tools/fit_small.py configs/bsstnet_small.py work_dirs/frames.pth
    python tools/fit_small.py configs/bsstnet_small.py work_dirs/small.pth \
        --start work_dirs/frames.pth

Some clips of the config's training set, and their flows, are made once and kept in OUT.clips, a
folder beside OUT. On a CPU what else is not learned, restorations and what neighbours show, is kept
there, too; a GPU computes that for each batch. First the encoder and decoder learn frame by frame,
which is far faster; with --start the whole network learns, the rest of it from scratch or, if the
file has it, from there.

At each of ten validations OUT, averages of the last weights, is written, and its figures go to
OUT.jsonl, for tools/analysis/training_curve.py. The same command goes on after the last of them if
it was interrupted. `tools/train.py` goes on from OUT with clips that are always new.
"""

import argparse
import json
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import cv2
import numpy as np
import torch
from mmagic.registry import MODELS
from mmengine.config import Config
from mmengine.model import ExponentialMovingAverage
from mmengine.runner import set_random_seed
from rich.progress import track
from torch import Tensor, nn
from torch.utils.data import DataLoader

from bsst_plugin.checkpoints.check import read_state_dict
from bsst_plugin.checkpoints.write import check_is_new, save, write_checkpoint
from bsst_plugin.cli import run
from bsst_plugin.datasets.clip_files import Clip, ClipFiles, Rendered, see, stack
from bsst_plugin.engine import read_config
from bsst_plugin.errors import UserError
from bsst_plugin.models.bsstnet import BSSTNet
from bsst_plugin.models.compact import CompactDecoder

FRAMES = 2  # of each clip, while frames are trained on a CPU
WARMUP, FALL = 0.02, 0.4  # parts of the steps in which the learning rate rises and falls
AVERAGED = 0.01  # part of the steps over which weights are averaged
VALIDATIONS = 10


def main(argv: Sequence[str] | None = None) -> None:
    """Render, fit, write."""
    args = _parse_args(argv)
    cfg = read_config(args.config)
    set_random_seed(0)
    network = MODELS.build(cfg.model.generator)
    if not isinstance(network.decoder, CompactDecoder):
        raise UserError(f'{args.config}: its decoder is no CompactDecoder, nothing to compute once')
    if args.start is not None:
        _take_weights(network, args.start)
    network.to('cuda' if torch.cuda.is_available() else 'cpu')
    training = _Training(network, args, cfg.pretty_text)
    batch, unseen = _clips(network, args, cfg)
    loss = MODELS.build(cfg.model.pixel_loss)

    def batch_loss() -> Tensor:
        clips = batch()
        return loss(_output(network, clips, args), clips.target)

    averaged = training.averaged.module
    for step in training.steps(batch_loss):
        before, after = _psnr(lambda clips: _output(averaged, clips, args), unseen)
        print(f'{step} steps: {after:.2f} dB, input {before:.2f} dB', flush=True)
        training.write({'step': step, 'PSNR': after, 'input/PSNR': before})
    training.finish()


class _Training:
    """A network in training, which goes on where it was interrupted.

    Args:
        network: What is trained.
        args: Those of the command.
        config: Text of the config.

    Raises:
        UserError: OUT is there already, or was begun with other settings.
    """

    def __init__(self, network: BSSTNet, args: argparse.Namespace, config: str) -> None:
        self.network, self.out, self.config = network, args.out, config
        self.lr, self.last, self.done = args.lr, args.steps, 0
        self.optimizer = torch.optim.AdamW(
            network.parameters(), args.lr, betas=(0.9, 0.99), weight_decay=0
        )
        momentum = min(0.5, 1 / (AVERAGED * args.steps))
        self.averaged = ExponentialMovingAverage(network, momentum=momentum)
        self.log, self.state = (args.out.with_suffix(end) for end in ('.jsonl', '.state'))
        self.settings = {'config': config, 'args': {k: str(v) for k, v in vars(args).items()}}
        if self.state.exists():
            self._take_state()
        else:
            check_is_new(args.out)
            check_is_new(self.log)
            self._write_state()

    def steps(self, loss: Callable[[], Tensor]) -> Iterator[int]:
        """Train, and stop for validations after the steps that are yielded."""
        interval = max(1, self.last // VALIDATIONS)
        for step in range(self.done + 1, self.last + 1):
            if self.done == step - 1:  # the same batches follow, interrupted or not
                torch.manual_seed(step)
            part = step / self.last
            factor = min(1, part / WARMUP, (1 - part) / FALL)
            self.optimizer.param_groups[0]['lr'] = self.lr * factor
            self.optimizer.zero_grad()
            loss().backward()
            nn.utils.clip_grad_norm_(self.network.parameters(), 0.1)
            self.optimizer.step()
            self.averaged.update_parameters(self.network)
            if step % interval == 0 or step == self.last:
                self.done = step
                yield step

    def write(self, figures: dict[str, float]) -> None:
        """Write what has been reached, and what it takes to go on."""
        state = self.averaged.module.state_dict()
        write_checkpoint(self.out, {name: x.cpu() for name, x in state.items()}, self.config)
        with self.log.open('a', encoding='utf-8') as lines:
            print(json.dumps(figures), file=lines)
        self._write_state()

    def finish(self) -> None:
        """Remove what it takes to go on, and the clips."""
        self.state.unlink()
        shutil.rmtree(self.out.with_suffix('.clips'))

    def _parts(self) -> dict[str, nn.Module | torch.optim.Optimizer]:
        parts = ('network', 'averaged', 'optimizer')
        return {name: getattr(self, name) for name in parts}

    def _write_state(self) -> None:
        state = {name: part.state_dict() for name, part in self._parts().items()}
        save(self.state, {'settings': self.settings, 'done': self.done, **state})

    def _take_state(self) -> None:
        state = torch.load(self.state, map_location='cpu', weights_only=True)
        if state['settings'] != self.settings:
            raise UserError(
                f'{self.state}: begun with another config or other options; give the same, or '
                f'remove it and {self.out.with_suffix(".clips")}'
            )
        self.done = state['done']
        for name, part in self._parts().items():
            part.load_state_dict(state[name])


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


def _clips(
    network: BSSTNet, args: argparse.Namespace, cfg: Config
) -> tuple[Callable[[], Clip], list[Clip]]:
    """What gives batches of frames or of crops of random clips, and the clips of the validation."""
    device = next(network.parameters()).device
    gpu = device.type == 'cuda'

    def rendered(split: str, dataset: dict, count: int) -> list[Rendered]:
        folder = args.out.with_suffix('.clips') / split
        clips = _render(ClipFiles(folder, network, dataset, count, seen=not gpu))
        return [clip.map(lambda part: part.to(device)) for clip in clips] if gpu else clips

    def complete(clips: Sequence[Rendered]) -> Clip:
        batch = stack(clips)
        return batch if isinstance(batch, Clip) else see(network, batch)

    training = rendered('train', cfg.train_dataloader.dataset, args.clips)
    validation = rendered('val', cfg.val_dataloader.dataset, cfg.val_dataloader.dataset.length)

    def batch() -> Clip:
        chosen = [training[i] for i in torch.randint(args.clips, (args.batch,)).tolist()]
        if gpu:
            clips = complete(chosen)
            return clips if args.start is None else clips.crop(args.crop)
        return complete([_part(clip, args) for clip in chosen])

    return batch, [complete([clip]) for clip in validation]


def _part(clip: Rendered, args: argparse.Namespace) -> Rendered:
    """What is learned from a clip at a time: frames, or a crop."""
    if args.start is None:
        return clip.frames(torch.randint(len(clip.blurry), (FRAMES,)).tolist())
    return clip.crop(args.crop)


def _render(files: ClipFiles) -> list[Rendered]:
    """Make what is not there yet; each core has a worker."""
    cv2.setNumThreads(1)
    loader = DataLoader(files, None, num_workers=os.cpu_count() or 1, collate_fn=_drop)
    for _ in track(loader, f'Rendering clips, {files.folder.name}', len(files)):
        pass
    return [files[index] for index in range(len(files))]


def _drop(_: object) -> None:
    """Leave a clip in its file: a worker's process need not send it."""


def _output(network: BSSTNet, clips: Clip, args: argparse.Namespace) -> Tensor:
    """Output ``(n, t, 3, h, w)`` of encoder and decoder alone, or of the network."""
    n, t = clips.blurry.shape[:2]
    frames, candidates, hints = (
        part.flatten(0, 1) for part in (clips.input, clips.candidates.float(), clips.hints)
    )
    with torch.autocast(frames.device.type, torch.bfloat16, enabled=args.bf16):
        encoded = network.encoder.encode(frames, candidates, hints)
        refined = torch.zeros_like(encoded)
        if args.start is not None:
            feature = encoded.unflatten(0, (n, t))
            flows = (clips.flows_forward, clips.flows_backward)
            refined = network.refine(feature, *flows, clips.blur_map).flatten(0, 1)
        residual = network.decoder(refined, (candidates, hints, encoded), t)
    return (frames + residual.float()).unflatten(0, (n, t))


@torch.no_grad()
def _psnr(forward: Callable[[Clip], Tensor], unseen: list[Clip]) -> tuple[float, float]:
    """Means over all frames, of input and output."""
    values = []
    for clips in unseen:
        target = clips.target
        for frames in (clips.input, forward(clips).clamp(0, 1)):
            mse = (frames - target).square().mean((-3, -2, -1))
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
        '--clips', type=int, default=800, help='14 MB of disk each, 1 MB on a GPU (default: 800)'
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
    parser.add_argument(
        '--bf16', action='store_true', help='in bfloat16: a CPU with AVX-512 BF16 is faster so'
    )
    args = parser.parse_args(argv)
    if min(args.clips, args.steps, args.batch) < 1 or args.lr <= 0:
        raise UserError('--clips, --steps and --batch must be at least 1, --lr above 0')
    if args.crop < 64 or args.crop % 64:
        raise UserError(f'--crop must be a multiple of 64, not {args.crop}')
    return args


if __name__ == '__main__':
    run(main)
