"""Train a small network on clips that are rendered once.

    python tools/fit_path.py configs/bsstnet_small.py work_dirs/path.pth
    python tools/fit_small.py configs/bsstnet_small.py work_dirs/frames.pth --frames \
        --start work_dirs/path.pth
    python tools/fit_small.py configs/bsstnet_small.py work_dirs/first.pth \
        --start work_dirs/frames.pth
    python tools/fit_small.py configs/bsstnet_small.py work_dirs/second.pth --second \
        --start work_dirs/first.pth
    python tools/fit_small.py configs/bsstnet_small_scales.py work_dirs/small.pth --scales \
        --start work_dirs/second.pth

Some clips of the config's training set, and their flows, are made once and kept in OUT.clips, a
folder beside OUT. On a CPU what else is not learned, restorations and what neighbours show, is kept
there, too; a GPU computes that for each batch. First the encoder and decoder learn frame by frame,
which is far faster, then the whole network without its second pass, then that alone: it has to see
how well the first pass does. Last comes what mixes the results of several sizes of the frames, and
what moves them to the middle of the exposure: of that there is little to see in small clips. What
the paths of the blur are is learned before, see tools/fit_path.py.

At each of ten validations OUT, averages of the last weights, is written, and its figures go to
OUT.jsonl, for tools/analysis/training_curve.py. The same command goes on after the last of them if
it was interrupted. `tools/train.py` goes on from OUT with clips that are always new.
"""

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from mmagic.registry import MODELS
from mmengine.config import Config
from mmengine.runner import set_random_seed
from torch import Tensor, nn

from bsst_plugin.checkpoints.check import read_state_dict
from bsst_plugin.cli import run
from bsst_plugin.datasets.clip_files import Clip, Rendered, ScaleClip, both_splits, stack
from bsst_plugin.engine import read_config
from bsst_plugin.errors import UserError
from bsst_plugin.fit import Fit, add_options, check_options
from bsst_plugin.models.bsstnet import BSSTNet
from bsst_plugin.models.compact import CompactDecoder

FRAMES = 2  # of each clip, while frames are trained on a CPU
HIDDEN = 0.2  # part of the agreements of candidates, see Correction, that a step does not see


def main(argv: Sequence[str] | None = None) -> None:
    """Render, fit, write."""
    args = _parse_args(argv)
    cfg = read_config(args.config)
    set_random_seed(0)
    network = MODELS.build(cfg.model.generator)
    if not isinstance(network.decoder, CompactDecoder):
        raise UserError(f'{args.config}: its decoder is no CompactDecoder, nothing to compute once')
    if args.start is not None:
        _take_weights(network, args.start, args.scales)
    for alone, parts, name in (
        (args.second, [network.decoder.second_pass], 'second pass'),
        (args.scales, [network.scales, network.mid_exposure], 'mixture of scales'),
    ):
        if alone:
            if parts[0] is None:
                raise UserError(f'{args.config}: its network has no {name}')
            network.requires_grad_(False)
            for part in filter(None, parts):
                part.requires_grad_(True)
                _hide_some(part)
    network.to('cuda' if torch.cuda.is_available() else 'cpu')
    fit = Fit(network, args.out, cfg.pretty_text, vars(args), args.steps, args.lr)
    batch, unseen = _clips(network, fit.clips, args, cfg)
    loss = MODELS.build(cfg.model.pixel_loss)

    def batch_loss() -> Tensor:
        clips = batch()
        return loss(_output(network, clips, args), clips.target)

    averaged = fit.averaged.module
    for step in fit.steps(batch_loss):
        before, after = _psnr(lambda clips: _output(averaged, clips, args), unseen)
        print(f'{step} steps: {after:.2f} dB, input {before:.2f} dB', flush=True)
        fit.write({'step': step, 'PSNR': after, 'input/PSNR': before})
    fit.finish()


def _hide_some(part: nn.Module) -> None:
    """Agreements of candidates are so many that they tell single clips apart."""
    for module in part.modules():
        if isinstance(module, nn.Dropout):
            module.p = HIDDEN


def _take_weights(network: BSSTNet, path: Path, both_passes: bool) -> None:
    """Those of encoder and decoder, and of the other parts what fits."""
    state = {
        name.removeprefix('generator.'): tensor for name, tensor in read_state_dict(path).items()
    }
    own = network.state_dict()
    fits = {name for name in own if name in state and state[name].shape == own[name].shape}
    later = 'decoder.second_pass.'  # is trained after the first
    for part in ('encoder', 'decoder'):
        needed = {name for name in own if name.startswith(f'{part}.')}
        if not both_passes:
            needed = {name for name in needed if later not in name}
        if needed - fits:
            raise UserError(f'{path}: its {part} is not that of the config')
    network.load_state_dict({name: state[name] for name in fits}, strict=False)


def _clips(
    network: BSSTNet, folder: Path, args: argparse.Namespace, cfg: Config
) -> tuple[Callable[[], Rendered], list[Rendered]]:
    """What gives batches of frames or of crops of random clips, and the clips of the validation."""
    device = next(network.parameters()).device
    gpu = device.type == 'cuda'

    kind = ScaleClip if args.scales else Clip

    def complete(clips: Sequence[Rendered]) -> Rendered:
        batch = stack(clips)
        return batch if isinstance(batch, kind) else kind.of(network, batch)

    training, validation = (
        [clip.map(lambda part: part.to(device)) for clip in clips]
        for clips in both_splits(folder, network, cfg, args.clips, Rendered if gpu else kind)
    )

    def batch() -> Rendered:
        chosen = [training[i] for i in torch.randint(args.clips, (args.batch,)).tolist()]
        if gpu:
            clips = complete(chosen)
            return clips if args.frames else clips.crop(args.crop)
        return complete([_part(clip, args) for clip in chosen])

    return batch, [complete([clip]) for clip in validation]


def _part(clip: Rendered, args: argparse.Namespace) -> Rendered:
    """What is learned from a clip at a time: frames, or a crop."""
    if args.frames:
        return clip.frames(torch.randint(len(clip.blurry), (FRAMES,)).tolist())
    return clip.crop(args.crop)


def _output(network: BSSTNet, clips: Rendered, args: argparse.Namespace) -> Tensor:
    """Output ``(n, t, 3, h, w)`` of what is trained."""
    if isinstance(clips, ScaleClip):
        return _mixed(network, clips, args)
    assert isinstance(clips, Clip)
    n, t = clips.blurry.shape[:2]
    frames, candidates, hints = (
        part.flatten(0, 1) for part in (clips.input, clips.candidates.float(), clips.hints)
    )
    with torch.autocast(frames.device.type, torch.bfloat16, enabled=args.bf16):
        encoded = network.encoder.encode(frames, candidates, hints)
        seen, refined = (candidates, hints, encoded), torch.zeros_like(encoded)
        if not args.frames:
            flows = (clips.flows_forward, clips.flows_backward)
            feature = encoded.unflatten(0, (n, t))
            refined = network.refine(feature, *flows, clips.blur_map).flatten(0, 1)
        if args.second:
            residual = network.decoder(refined, (frames, *flows, *seen), t)
        else:
            _, residual = network.decoder.first_pass(*seen, refined)
    return (frames + residual.float()).unflatten(0, (n, t))


def _mixed(network: BSSTNet, clips: ScaleClip, args: argparse.Namespace) -> Tensor:
    """Output of the mixture of scales and of what follows."""
    assert network.scales is not None
    flows = (clips.flows_forward, clips.flows_backward)
    frames, *parts = (
        part.float().flatten(0, 1)
        for part in (clips.input, clips.residual, clips.features, clips.halved, clips.quartered)
    )
    with torch.autocast(frames.device.type, torch.bfloat16, enabled=args.bf16):
        residual = network.scales(frames, *parts)
        if network.mid_exposure is not None:
            residual = network.mid_exposure(frames, residual, parts[1], flows)
    return (frames + residual.float()).unflatten(0, clips.blurry.shape[:2])


@torch.no_grad()
def _psnr(forward: Callable[[Rendered], Tensor], unseen: list[Rendered]) -> tuple[float, float]:
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
    clip_size = '22 MB of disk each, 1 MB on a GPU'
    add_options(parser, clips=800, clip_size=clip_size, steps=3000, batch=8)
    parser.add_argument(
        '--start', type=Path, metavar='FILE', help='checkpoint to start from, of what fits'
    )
    stage = parser.add_mutually_exclusive_group()
    stage.add_argument(
        '--frames', action='store_true', help='train encoder and decoder alone, frame by frame'
    )
    stage.add_argument(
        '--second', action='store_true', help='train the second pass alone, when the first is'
    )
    stage.add_argument(
        '--scales',
        action='store_true',
        help='train the mixture of scales and what follows it alone, when all else is',
    )
    parser.add_argument(
        '--crop',
        type=int,
        default=64,
        help='pixels of a part of a clip, while the whole network is trained: a multiple of 64, '
        'a window of the transformer (default: 64)',
    )
    args = parser.parse_args(argv)
    check_options(args)
    if args.second and args.start is None:
        raise UserError('--second needs --start, a checkpoint whose first pass is trained')
    if args.scales and args.start is None:
        raise UserError('--scales needs --start, a checkpoint whose both passes are trained')
    if args.crop < 64 or args.crop % 64:
        raise UserError(f'--crop must be a multiple of 64, not {args.crop}')
    return args


if __name__ == '__main__':
    run(main)
