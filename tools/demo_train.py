"""Render clips, train a small BSSTNet on them, test it, and show what it does.

    make demo-train

An interrupted run goes on where it stopped.
"""

import argparse
import logging
import time
from collections import defaultdict
from pathlib import Path

import cv2
import numpy as np
import torch
from mmengine.hooks import Hook
from mmengine.runner import Runner
from rich.console import Console
from rich.progress import Progress
from rich.table import Table
from torch import Tensor

from bsst_plugin.cli import run
from bsst_plugin.datasets import render_demo_clips
from bsst_plugin.engine import load_config, run_test
from bsst_plugin.evaluation.gaussian_ssim import to_8bit
from bsst_plugin.models import BSSTNet
from bsst_plugin.visualization import save_comparison, save_video
from bsst_plugin.visualization.views import draw_seen

CONFIG = Path(__file__).resolve().parents[1] / 'configs' / 'bsstnet_demo.py'
SHOWN_CLIPS = 3
console = Console()


class ProgressHook(Hook):
    """A progress bar for training instead of the log."""

    def __init__(self) -> None:
        self.bar = Progress(console=console)

    def before_train(self, runner: Runner) -> None:
        """Show the bar."""
        self.task = self.bar.add_task('Training', total=runner.max_iters, completed=runner.iter)
        self.bar.start()

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: dict, outputs: dict
    ) -> None:
        """Move the bar."""
        loss = f'Training, loss {float(outputs["loss"].detach()):.4f}'
        self.bar.update(self.task, completed=runner.iter + 1, description=loss)

    def after_train(self, runner: Runner) -> None:
        """Leave the bar as it is."""
        self.bar.stop()


class ClipHook(Hook):
    """Keeps the first test clips to look at: blurry, deblurred and sharp."""

    def __init__(self) -> None:
        self.clips: list[tuple[Tensor, Tensor, Tensor]] = []

    def after_test_iter(
        self, runner: Runner, batch_idx: int, data_batch: dict, outputs: list
    ) -> None:
        """Keep the clips, each ``(t, 3, h, w)`` RGB in [0, 255]."""
        for sample in outputs:
            if len(self.clips) < SHOWN_CLIPS:
                # MMagic hands out BGR, whatever the network sees.
                frames = (sample.input, sample.output.pred_img, sample.gt_img)
                blurry, deblurred, sharp = (clip.flip(1) for clip in frames)
                self.clips.append((blurry, deblurred, sharp))


def main() -> None:
    """Run the demo."""
    parser = argparse.ArgumentParser(description='Render, train, test and show a small BSSTNet.')
    parser.add_argument('--data', default='data/demo_clips', help='folder for the rendered clips')
    parser.add_argument('--work-dir', default='work_dirs/demo_train', help='folder for the results')
    args = parser.parse_args()

    console.print('[1/3] Rendering blurry and sharp clips (about a minute)')
    render_demo_clips(args.data)

    console.print('[2/3] Training on two thirds of them (3 to 5 minutes on two CPU cores)')
    cfg = load_config(str(CONFIG), work_dir=args.work_dir)
    cfg.resume = True
    cfg.log_level = logging.ERROR  # the bar says enough; the losses go to vis_data/
    for name in ('train', 'val', 'test'):
        cfg[f'{name}_dataloader'].dataset.data_root = args.data
    runner = Runner.from_cfg(cfg)
    clip_hook = ClipHook()
    runner.register_hook(ProgressHook())
    runner.register_hook(clip_hook)
    start = time.perf_counter()
    runner.train()
    minutes = (time.perf_counter() - start) / 60

    console.print('[3/3] Testing on clips of photographs that it was not trained on')
    metrics = run_test(runner)
    work_dir = Path(args.work_dir)
    show_clips(runner.model.generator, clip_hook.clips, work_dir)
    print_table(metrics)
    checkpoint = work_dir / f'iter_{runner.max_iters}.pth'
    console.print(
        f'Trained for {minutes:.1f} minutes in this run; from scratch and in so short a time the '
        f'gain is small.\n'
        f'Look at   {work_dir / "comparison.png"}\n'
        f'          {work_dir / "comparison.mp4"} (blurry, deblurred, sharp)\n'
        f'Try next  python tools/test.py {CONFIG} {checkpoint}\n'
        f'          python tools/dataset_converters/render_blur.py --help (your own photographs)\n'
        f'Delete {work_dir} to train again.',
        highlight=False,
        soft_wrap=True,
    )


def print_table(metrics: dict[str, float]) -> None:
    """Print what the network gained over its input."""
    table = Table(title='Test clips')
    for name in ('', 'PSNR (dB)', 'SSIM'):
        table.add_column(name, justify='right' if name else 'left')
    names = ('PSNR', 'SSIM')
    before = [metrics[f'input/{name}'] for name in names]
    after = [metrics[name] for name in names]
    rows = {'blurry input': before, 'deblurred': after}
    for row, (psnr, ssim) in rows.items():
        table.add_row(row, f'{psnr:.2f}', f'{ssim:.4f}')
    table.add_row('gain', f'{after[0] - before[0]:+.2f}', f'{after[1] - before[1]:+.4f}')
    console.print(table)


@torch.no_grad()
def show_clips(
    generator: BSSTNet, clips: list[tuple[Tensor, Tensor, Tensor]], work_dir: Path
) -> None:
    """Save comparison.png, the blurriest frame of each clip, and comparison.mp4."""
    columns: dict[str, list[np.ndarray]] = defaultdict(list)
    video = []
    for clip in clips:
        versions = dict(zip(('blurry', 'deblurred', 'sharp'), map(to_8bit, clip), strict=True))
        worst = int((clip[0] - clip[2]).square().mean((1, 2, 3)).argmax())
        shown = {name: frames[worst] for name, frames in versions.items()}
        for name, picture in {**shown, **draw_seen(generator, clip[0][None] / 255, worst)}.items():
            columns[name].append(picture)
        video += [np.concatenate(row, axis=1) for row in zip(*versions.values(), strict=True)]
    names = [f'clip {index}' for index in range(len(clips))]
    save_comparison(work_dir / 'comparison.png', columns, names)
    save_video(work_dir / 'comparison.mp4', video)


if __name__ == '__main__':
    cv2.setNumThreads(1)
    run(main)
