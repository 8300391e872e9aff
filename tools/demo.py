"""Show and measure the weights that ship with the package on clips that it renders itself.

    make demo
    python tools/demo.py --clips 24 --out work_dirs/small_model

The clips show photographs inside scikit-image on which nothing here is trained. Beside the network
stand two classical methods that are told the mean blur of each frame, which the network is not.
"""

import argparse
import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.progress import Progress
from skimage.metrics import structural_similarity
from skimage.restoration import richardson_lucy, wiener
from torch import Tensor, nn

from bsst_plugin.analysis.tables import Column, to_markdown
from bsst_plugin.checkpoints.load import load_network
from bsst_plugin.cli import run
from bsst_plugin.datasets import (
    BlurSettings,
    find_photographs,
    mean_kernel,
    random_scene,
    render_clip,
)
from bsst_plugin.errors import UserError
from bsst_plugin.inference import Tiling
from bsst_plugin.visualization import save_comparison, save_video
from bsst_plugin.visualization.views import view_blur, view_windows

SEED = 7  # not that of the demo's clips
#: Of each classical method the setting that is best on these very clips is shown.
WIENER_BALANCE = (0.1, 0.3, 1.0, 3.0)
LUCY_ITERATIONS = (3, 8)
SHOWN = 3
INPUT, SMALL = 'blurry input', 'BSSTNet small'
CLASSICAL = ('Wiener', 'Richardson-Lucy')
COLUMNS = (
    Column('name', 'method'),
    Column('psnr', 'PSNR', '{:.2f}'.format, max),
    Column('gain', 'gain', '{:+.2f}'.format, max),
    Column('ssim', 'SSIM', '{:.4f}'.format, max),
)


@dataclass(frozen=True)
class Clip:
    """A rendered clip.

    Args:
        name: Of the photograph.
        blurry: ``(t, h, w, 3)`` uint8 RGB.
        sharp: Same shape.
        kernels: Mean blur of each frame, see ``mean_kernel``.
    """

    name: str
    blurry: np.ndarray
    sharp: np.ndarray
    kernels: list[np.ndarray]


#: From a clip to its frames, ``(t, h, w, 3)`` uint8.
Method = Callable[[Clip], np.ndarray]


@dataclass
class Scores:
    """PSNR in dB and SSIM of every frame."""

    psnr: list[float] = field(default_factory=list)
    ssim: list[float] = field(default_factory=list)

    def add(self, frames: np.ndarray, target: np.ndarray) -> None:
        """Score a clip."""
        for frame, sharp in zip(frames, target, strict=True):
            self.psnr.append(psnr(frame, sharp))
            self.ssim.append(
                structural_similarity(
                    frame,
                    sharp,
                    channel_axis=-1,
                    gaussian_weights=True,
                    sigma=1.5,
                    use_sample_covariance=False,
                )
            )


def main(argv: Sequence[str] | None = None) -> None:
    """Render, deblur, score."""
    args = _parse_args(argv)
    out, console = Path(args.out or f'work_dirs/demo/{time.strftime("%Y%m%d_%H%M%S")}'), Console()
    if out.exists():
        raise UserError(f'{out}: exists already; give a new folder as --out')
    network = load_network(args.checkpoint).network
    networks = {SMALL: network, **{Path(p).stem: load_network(p).network for p in args.vs}}
    methods: dict[str, Method] = {
        **{f'Wiener {b:g}': _classical(wiener, b, clip=True) for b in WIENER_BALANCE},
        **{f'Richardson-Lucy {n}': _classical(richardson_lucy, n) for n in LUCY_ITERATIONS},
        **{name: _learned(net) for name, net in networks.items()},
    }
    scores = {name: Scores() for name in (INPUT, *methods)}
    unharmed: list[float] = []
    shown: list[tuple[Clip, dict[str, np.ndarray]]] = []
    settings = BlurSettings(num_frames=args.frames, size=args.size)
    with Progress(console=console, transient=True) as bar:
        for clip in bar.track(
            clips(args.clips, settings), args.clips, description='Rendering and deblurring'
        ):
            results = {INPUT: clip.blurry, **{name: use(clip) for name, use in methods.items()}}
            for name, frames in results.items():
                scores[name].add(frames, clip.sharp)
            again = deblur(network, clip.sharp)
            unharmed += [psnr(*pair) for pair in zip(again, clip.sharp, strict=True)]
            if len(shown) < SHOWN:
                shown.append((clip, results))
    rows = _best_settings(_rows(scores))
    table = to_markdown(rows[1:], COLUMNS, head=rows[:1])
    sharp = (
        f'Clips that are sharp come out with {np.mean(unharmed):.1f} dB to themselves, the worst '
        f'frame with {min(unharmed):.1f} dB.'
    )
    out.mkdir(parents=True)
    (out / 'results.md').write_text(f'{table}\n\n{sharp}\n')
    content = dict(rows=rows, sharp_input_psnr=unharmed, settings=vars(args))
    (out / 'results.json').write_text(json.dumps(content, indent=1))
    save_pictures(out, network, shown, [row['name'] for row in rows])
    console.print(table, sharp, sep='\n\n', soft_wrap=True, markup=False, highlight=False)
    console.print(
        f'Look at   {out / "comparison.png"}\n'
        f'          {out / "comparison.mp4"} (blurry, deblurred, sharp)\n'
        f'Try next  bsst-deblur YOUR_VIDEO.mp4',
        highlight=False,
        soft_wrap=True,
    )


def clips(count: int, settings: BlurSettings) -> Iterator[Clip]:
    """Render clips of the photographs that are set apart for testing."""
    photos = find_photographs(None, settings)['test']
    for index in range(count):
        rng = np.random.default_rng((SEED, index))
        photo = photos[index % len(photos)]
        others = [other.load() for other in photos if other is not photo]
        pieces = [others[i] for i in rng.integers(0, len(others), rng.integers(1, 3))]
        scene = random_scene(photo.load(), pieces, settings, rng)
        kernels = [mean_kernel(scene, settings, time) for time in range(settings.num_frames)]
        yield Clip(f'{photo.path.stem} {index}', *render_clip(scene, settings), kernels)


@torch.no_grad()
def deblur(network: nn.Module, frames: np.ndarray) -> np.ndarray:
    """What a network makes of a clip ``(t, h, w, 3)`` uint8; same shape."""
    out = network(_to_clip(frames))[0].clamp(0, 1).permute(0, 2, 3, 1)
    return (255 * out).round().to(torch.uint8).numpy()


def _to_clip(frames: np.ndarray) -> Tensor:
    """``(t, h, w, 3)`` uint8 as ``(1, t, 3, h, w)`` in [0, 1]."""
    return torch.from_numpy(frames).permute(0, 3, 1, 2)[None].float() / 255


def psnr(frame: np.ndarray, sharp: np.ndarray) -> float:
    """Peak signal-to-noise ratio; of equal frames what an error of a sixteenth level gives."""
    error = max(np.square(frame.astype(float) - sharp).mean(), 1 / 256)
    return float(10 * np.log10(255**2 / error))


def _learned(network: nn.Module) -> Method:
    return lambda clip: deblur(network, clip.blurry)


def _classical(restore: Callable, setting: float, **options: object) -> Method:
    """A method of scikit-image that is told the blur, frame by frame and channel by channel."""

    def use(clip: Clip) -> np.ndarray:
        out = np.empty_like(clip.blurry)
        for index, (frame, kernel) in enumerate(zip(clip.blurry, clip.kernels, strict=True)):
            border = kernel.shape[0]  # these methods take the frame to be periodic
            padded = np.pad(frame / 255, ((border, border), (border, border), (0, 0)), 'reflect')
            for channel in range(3):
                sharp = restore(padded[..., channel], kernel, setting, **options)
                inside = sharp[border:-border, border:-border]
                out[index, ..., channel] = np.rint(255 * np.clip(inside, 0, 1))
        return out

    return use


def _rows(scores: dict[str, Scores]) -> list[dict]:
    before = np.mean(scores[INPUT].psnr)
    return [
        dict(
            name=name,
            psnr=float(np.mean(score.psnr)),
            gain=float(np.mean(score.psnr) - before),
            ssim=float(np.mean(score.ssim)),
        )
        for name, score in scores.items()
    ]


def _best_settings(rows: list[dict]) -> list[dict]:
    """Of several settings of a classical method, the one with the best PSNR."""
    best: dict[str, dict] = {}
    for row in rows:
        method = row['name'].rsplit(' ', 1)[0] if row['name'].startswith(CLASSICAL) else row['name']
        if method not in best or row['psnr'] > best[method]['psnr']:
            best[method] = row
    return list(best.values())


@torch.no_grad()
def save_pictures(
    out: Path,
    network: nn.Module,
    shown: list[tuple[Clip, dict[str, np.ndarray]]],
    names: list[str],
) -> None:
    """Save comparison.png, of each clip the frame as blurry as its median, and comparison.mp4."""
    views = {'blur map B': view_blur, 'queries orange, keys blue': view_windows}
    columns: dict[str, list[np.ndarray]] = {name: [] for name in (*names, 'sharp', *views)}
    video = []
    for clip, results in shown:
        order = np.argsort([psnr(*pair) for pair in zip(clip.blurry, clip.sharp, strict=True)])
        middle = order[len(order) // 2]
        for name in names:
            columns[name].append(results[name][middle])
        columns['sharp'].append(clip.sharp[middle])
        lqs = _to_clip(clip.blurry)
        for name, view in views.items():
            flows = network.flow_estimator(lqs)  # type: ignore[operator]
            columns[name].append(view(network, lqs, flows, Tiling())[middle])
        rows = zip(clip.blurry, results[SMALL], clip.sharp, strict=True)
        video += [np.concatenate(row, axis=1) for row in rows]
    save_comparison(out / 'comparison.png', columns, [clip.name for clip, _ in shown], 2.4)
    save_video(out / 'comparison.mp4', video)


def _parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description='Show and measure the weights that ship.')
    parser.add_argument(
        '--out', metavar='DIR', help='new folder for the results (default: in work_dirs/demo)'
    )
    parser.add_argument('--checkpoint', help='other weights (default: those that ship)')
    parser.add_argument(
        '--vs', nargs='*', default=[], metavar='CHECKPOINT', help='more networks for the table'
    )
    parser.add_argument('--clips', type=int, default=3)
    parser.add_argument('--frames', type=int, default=12, help='frames of a clip')
    parser.add_argument('--size', type=int, default=256, help='height and width of a frame')
    args = parser.parse_args(argv)
    if min(args.clips, args.frames) < 1 or args.size < 64:
        raise UserError('--clips and --frames must be at least 1, --size at least 64')
    return args


if __name__ == '__main__':
    run(main)
