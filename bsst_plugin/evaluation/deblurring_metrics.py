"""The paper's way of scoring: which frames, on what, and averaged how."""

import json
import logging
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from mmagic.evaluation.metrics.base_sample_wise_metric import BaseSampleWiseMetric
from mmagic.evaluation.metrics.psnr import psnr
from mmagic.evaluation.metrics.ssim import ssim
from mmagic.registry import METRICS
from mmengine.evaluator import BaseMetric
from mmengine.logging import MMLogger, print_log

from bsst_plugin.datasets.video_windows import WINDOW_KEYS
from bsst_plugin.errors import UserError
from bsst_plugin.evaluation.gaussian_ssim import as_clip, gaussian_ssim, to_8bit
from bsst_plugin.files import whole_file

#: Each takes two uint8 images ``(h, w, 3)``; the order of the channels makes no difference.
MEASURES: dict[str, Callable[[np.ndarray, np.ndarray], float]] = {
    'PSNR': psnr,
    'SSIM': ssim,
    'GaussianSSIM': gaussian_ssim,
}
#: Names are those of the measures, for the blurry input with ``input/`` before them.
INPUT_NAMES = {name: f'input/{name}' for name in MEASURES}


@METRICS.register_module()
class DeblurringMetrics(BaseSampleWiseMetric):
    """PSNR, MMagic's SSIM and the paper's (``GaussianSSIM``) over the windows of videos.

    Only the scored frames of each window of :class:`VideoWindows` count, each once, on 8-bit RGB.
    The results are

    - ``PSNR``, ``SSIM``, ``GaussianSSIM``: the published mean, over the frames of each window,
      then over all windows with equal weight;
    - ``input/PSNR`` and so on: the same for the blurry input, which tells what there was to gain;
    - ``video_mean/PSNR``, ``video_mean/input/PSNR`` and so on: over the frames of each video, then
      over all videos with equal weight.

    The log shows them for each video. ``results.json`` beside the log (``results_PREFIX.json``
    with a prefix) holds the values of each frame too; it is that of the last evaluation in a run.

    Args:
        collect_device: As in MMEngine's ``BaseMetric``.
        prefix: As in MMEngine's ``BaseMetric``.
    """

    metric = 'PSNR'

    def __init__(self, collect_device: str = 'cpu', prefix: str | None = None) -> None:
        super().__init__(collect_device=collect_device, prefix=prefix)

    def process(self, data_batch: object, data_samples: Sequence[dict]) -> None:
        """Score the windows of a batch.

        Args:
            data_batch: Not used.
            data_samples: Hold ``gt_img`` and, under ``output``, ``pred_img`` and ``input``, each
                ``(t, 3, h, w)``, or ``(3, h, w)`` of one frame, in [0, 255], and what
                ``VideoWindows`` says of the window.

        Raises:
            UserError: The samples do not say which frames to score.
        """
        for sample in data_samples:
            missing = [key for key in WINDOW_KEYS if key not in sample]
            if missing:
                raise UserError(
                    f'DeblurringMetrics: samples lack {", ".join(missing)}; take the dataset '
                    f'VideoWindows and give its PackInputs meta_keys={list(WINDOW_KEYS)}'
                )
            scored = sample['scored_frames']
            clips = (sample['gt_img'], sample['output']['pred_img'], sample['output']['input'])
            images = zip(*(to_8bit(as_clip(clip)[scored]) for clip in clips), strict=True)
            # OpenCV and NumPy let other threads run while they compute.
            with ThreadPoolExecutor(torch.get_num_threads()) as pool:
                frames = list(pool.map(_score, images))
            window = {
                'video': sample['video'],
                'window': sample['window'],
                'frames': [sample['first_frame'] + index for index in scored],
            }
            scores = {name: [frame[name] for frame in frames] for name in frames[0]}
            self.results.append({**window, 'scores': scores})

    def evaluate(self) -> dict[str, float]:
        """Gather the windows of all processes and average.

        Returns:
            The metrics by name.
        """
        # Samplers give some windows to several processes so that all get as many. MMagic would cut
        # the gathered list to the size of the dataset; here each window is counted once.
        return BaseMetric.evaluate(self, sys.maxsize)

    def compute_metrics(self, results: list[dict]) -> dict[str, float]:
        """Average, write the table and ``results.json``.

        Args:
            results: The windows of all processes, some of them more than once.

        Returns:
            The metrics by name, without prefix.
        """
        by_key = {(window['video'], window['window']): window for window in results}
        windows = [by_key[key] for key in sorted(by_key)]
        if len(windows) != self.size:
            print_log(
                f'{len(windows)} windows were scored, but the dataset has {self.size}: the means '
                f'below are not those of the dataset',
                logger='current',
                level=logging.WARNING,
            )
        videos: dict[str, list[dict]] = {}
        for window in windows:
            videos.setdefault(window['video'], []).append(window)
        per_video = {name: _frame_means(parts) for name, parts in videos.items()}
        per_window = [_frame_means([window]) for window in windows]
        over_windows, over_videos = _means(per_window), _means(list(per_video.values()))
        means = {'mean over windows (published)': over_windows, 'mean over videos': over_videos}
        print_log(_table({**per_video, **means}), logger='current')
        self._write(
            {
                'mean_over_windows': over_windows,
                'mean_over_videos': over_videos,
                'videos': per_video,
                'windows': windows,
            }
        )
        return {**over_windows, **{f'video_mean/{name}': x for name, x in over_videos.items()}}

    def _write(self, content: dict) -> None:
        log_file = MMLogger.get_current_instance().log_file
        if log_file is None:  # not in a run
            return
        name = f'results_{self.prefix}.json' if self.prefix else 'results.json'
        with whole_file(Path(log_file).with_name(name)) as file:
            file.write(json.dumps(content, indent=1).encode())


def _score(images: tuple[np.ndarray, np.ndarray, np.ndarray]) -> dict[str, float]:
    """All measures of one frame: sharp, output, input."""
    sharp, output, blurry = images
    return {
        **{name: float(measure(sharp, output)) for name, measure in MEASURES.items()},
        **{INPUT_NAMES[name]: float(measure(sharp, blurry)) for name, measure in MEASURES.items()},
    }


def _frame_means(windows: list[dict]) -> dict[str, float]:
    """Means over the frames of windows, and the number of these frames."""
    names = windows[0]['scores']
    means = {name: float(np.mean(sum((w['scores'][name] for w in windows), []))) for name in names}
    return {**means, 'frames': sum(len(window['frames']) for window in windows)}


def _means(parts: list[dict[str, float]]) -> dict[str, float]:
    """Means over windows or videos."""
    names = [*MEASURES, *INPUT_NAMES.values()]
    return {name: float(np.mean([part[name] for part in parts])) for name in names}


def _table(rows: dict[str, dict[str, float]]) -> str:
    width = max(map(len, rows))
    head = ''.join(f'{f"{name} (input)":>22}' for name in MEASURES)
    lines = [f'{"":{width}}{"frames":>8}{head}']
    for row, values in rows.items():
        cells = ''.join(
            f'{f"{values[name]:.4f} ({values[INPUT_NAMES[name]]:.4f})":>22}' for name in MEASURES
        )
        lines.append(f'{row:{width}}{values.get("frames", ""):>8}{cells}')
    return '\n'.join(['Scored frames, 8-bit RGB, in brackets the blurry input', *lines])
