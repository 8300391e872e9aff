"""Pictures and the web page that let a user judge a deblurred video."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from rich.progress import Progress

from bsst_plugin.inference.partial import PartialRun
from bsst_plugin.inference.video import FinishedClip, VideoDeblurring
from bsst_plugin.video import FrameSource, Look, to_8_bits, upright
from bsst_plugin.visualization import most_changed, save_comparison
from bsst_plugin.visualization.report import Pair, to_jpeg, write_report

REPORT_FRAMES = 6


def write_preview(
    path: Path, folder: Path, count: int, deblurring: VideoDeblurring, bar: Progress
) -> None:
    """Deblur a few frames and put them side by side: whole, and the place that changed most.

    Args:
        path: The picture.
        folder: Where the run keeps what is unfinished.
        count: Number of frames, spread over the video.
        deblurring: The video.
        bar: Shows the progress.
    """
    source = deblurring.source
    chosen = _spread(count, len(source.times))
    columns: dict[str, list[np.ndarray]] = {
        name: [] for name in ('blurry', 'deblurred', 'blurry, detail', 'deblurred, detail')
    }
    for index in bar.track(chosen, description='preview'):
        before, after = (
            upright(to_8_bits(frame.pixels), source.look.matrix)
            for frame in deblurring.sample(index)
        )
        rows, cols = most_changed(before, after)
        pictures = (before, after, before[rows, cols], after[rows, cols])
        for name, picture in zip(columns, pictures, strict=True):
            columns[name].append(picture)
    unfinished = folder / path.name
    names = [_name(source, index) for index in chosen]
    save_comparison(unfinished, columns, names, column_width=6.0)
    unfinished.replace(path)


def keep_pairs(folder: Path, clip: FinishedClip, total: int, look: Look) -> None:
    """Keep the frames of a clip that the report will show.

    Args:
        folder: Where the run keeps what is finished.
        clip: The clip.
        total: Frames of the video.
        look: How to show them.
    """
    (folder / 'report').mkdir(exist_ok=True)
    pairs = zip(clip.frames, clip.deblurred, strict=True)
    for index, pair in enumerate(pairs, clip.start):
        if index in _spread(REPORT_FRAMES, total):
            for kind, frame in zip(('before', 'after'), pair, strict=True):
                picture = to_jpeg(upright(to_8_bits(frame.pixels), look.matrix))
                _kept(folder, index, kind).write_bytes(picture)


def write_job_report(
    path: Path, job: PartialRun, source: FrameSource, settings: Mapping[str, object]
) -> None:
    """Write the web page of a finished run.

    Args:
        path: The file.
        job: The run, which kept the frames.
        source: The input.
        settings: What to say about the run.
    """
    pairs = [
        Pair(
            _name(source, index),
            _kept(job.folder, index, 'before').read_bytes(),
            _kept(job.folder, index, 'after').read_bytes(),
        )
        for index in _spread(REPORT_FRAMES, len(source.times))
    ]
    seconds = [float(time * source.time_base) for time in source.times]
    height, width = upright(np.empty((*source.size, 0)), source.look.matrix).shape[:2]
    about = {
        'input': source.path,
        'frames': f'{len(source.times)} of {width} x {height}, {float(source.rate):.6g} per second',
        **settings,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    write_report(path, f'{source.path.name}, deblurred', pairs, seconds, job.motion(), about)


def _spread(count: int, total: int) -> list[int]:
    """Indices of ``count`` frames spread over a video, fewer if it is shorter."""
    return sorted({int((part + 0.5) * total / count) for part in range(count)})


def _kept(folder: Path, index: int, kind: str) -> Path:
    return folder / 'report' / f'{index:06d}_{kind}.jpg'


def _name(source: FrameSource, index: int) -> str:
    minutes, seconds = divmod(float(source.times[index] * source.time_base), 60)
    return f'frame {index}, {minutes:.0f}:{seconds:05.2f}'
