"""Show and measure the weights that ship with the package on clips that it renders itself.

    make demo
    python tools/demo.py --clips 24 --out work_dirs/small_model

The clips show photographs inside scikit-image on which nothing here is trained. Beside the network
stand two classical methods that are told the mean blur of each frame, which the network is not.
"""

import argparse
import json
import time
from collections import defaultdict
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

from bsst_plugin.analysis.comparison import check_new, new_folder
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
from bsst_plugin.visualization import save_comparison, save_video
from bsst_plugin.visualization.views import draw_seen, to_images

SEED = 7  # not that of the demo's clips
#: Of each classical method the setting that is best on these very clips is shown.
WIENER_BALANCE = (0.01, 0.03, 0.1, 0.3)
LUCY_ITERATIONS = (3, 8, 15)
SHOWN = 3
INPUT, SMALL = 'blurry input', 'BSSTNet small'
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


@dataclass(frozen=True)
class Method:
    """A way to deblur.

    Args:
        name: What it is called, with its setting.
        kind: What it is called without; the best of a kind is shown.
        use: From a clip to its frames, ``(t, h, w, 3)`` uint8.
    """

    name: str
    kind: str
    use: Callable[[Clip], np.ndarray]


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
    check_new(out)
    names = [SMALL, *(Path(path).stem for path in args.vs)]
    if len(set(names)) < len(names):
        raise UserError(f'--vs: give files of different names, not {", ".join(names[1:])}')
    network, *others = (load_network(path).network for path in (args.checkpoint, *args.vs))
    methods = [
        *(_classical('Wiener', wiener, balance, clip=True) for balance in WIENER_BALANCE),
        *(_classical('Richardson-Lucy', richardson_lucy, count) for count in LUCY_ITERATIONS),
        *(_learned(*pair) for pair in zip(names, (network, *others), strict=True)),
    ]
    scores = {name: Scores() for name in (INPUT, *(method.name for method in methods))}
    unharmed: list[float] = []
    shown: list[tuple[Clip, dict[str, np.ndarray]]] = []
    settings = BlurSettings(num_frames=args.frames, size=args.size)
    with Progress(console=console, transient=True) as bar:
        for clip in bar.track(
            clips(args.clips, settings), args.clips, description='Rendering and deblurring'
        ):
            results = {INPUT: clip.blurry, **{m.name: m.use(clip) for m in methods}}
            for name, frames in results.items():
                scores[name].add(frames, clip.sharp)
            again = deblur(network, clip.sharp)
            unharmed += [psnr(*pair) for pair in zip(again, clip.sharp, strict=True)]
            if len(shown) < SHOWN:
                shown.append((clip, results))
    before, *rows = _rows(scores, methods)
    table = to_markdown(rows, COLUMNS, head=[before])
    sharp = (
        f'Clips that are sharp come out with {np.mean(unharmed):.1f} dB to themselves, the worst '
        f'frame with {min(unharmed):.1f} dB.'
    )
    with new_folder(out) as folder:
        (folder / 'results.md').write_text(f'{table}\n\n{sharp}\n')
        content = dict(rows=[before, *rows], sharp_input_psnr=unharmed, settings=vars(args))
        (folder / 'results.json').write_text(json.dumps(content, indent=1))
        save_pictures(folder, network, shown, [INPUT, *(row['name'] for row in rows)])
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
    return np.stack(to_images(network(_to_clip(frames))))


def _to_clip(frames: np.ndarray) -> Tensor:
    """``(t, h, w, 3)`` uint8 as ``(1, t, 3, h, w)`` in [0, 1]."""
    return torch.from_numpy(frames).permute(0, 3, 1, 2)[None].float() / 255


def psnr(frame: np.ndarray, sharp: np.ndarray) -> float:
    """Peak signal-to-noise ratio; of equal frames what an error of a sixteenth level gives."""
    error = max(np.square(frame.astype(float) - sharp).mean(), 1 / 256)
    return float(10 * np.log10(255**2 / error))


def _learned(name: str, network: nn.Module) -> Method:
    return Method(name, name, lambda clip: deblur(network, clip.blurry))


def _classical(kind: str, restore: Callable, setting: float, **options: object) -> Method:
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

    return Method(f'{kind} {setting:g}', kind, use)


def _rows(scores: dict[str, Scores], methods: Sequence[Method]) -> list[dict]:
    """Rows of the table: the input, and of each kind of method the setting with the best PSNR."""
    means = {name: float(np.mean(score.psnr)) for name, score in scores.items()}
    best: dict[str, str] = {INPUT: INPUT}
    for method in methods:
        rival = best.setdefault(method.kind, method.name)
        best[method.kind] = max(rival, method.name, key=means.__getitem__)
    return [
        dict(
            name=name,
            psnr=means[name],
            gain=means[name] - means[INPUT],
            ssim=float(np.mean(scores[name].ssim)),
        )
        for name in best.values()
    ]


@torch.no_grad()
def save_pictures(
    out: Path,
    network: nn.Module,
    shown: list[tuple[Clip, dict[str, np.ndarray]]],
    names: list[str],
) -> None:
    """Save comparison.png, of each clip the frame as blurry as its median, and comparison.mp4."""
    columns: dict[str, list[np.ndarray]] = defaultdict(list)
    video = []
    for clip, results in shown:
        order = np.argsort([psnr(*pair) for pair in zip(clip.blurry, clip.sharp, strict=True)])
        middle = int(order[len(order) // 2])
        pictures = {name: results[name][middle] for name in names}
        pictures['sharp'] = clip.sharp[middle]
        pictures |= draw_seen(network, _to_clip(clip.blurry), middle)
        for name, picture in pictures.items():
            columns[name].append(picture)
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
