"""Deblur a video or a folder of frames: the command ``bsst-deblur``."""

import argparse
import errno
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, NoReturn

import av.error
import numpy as np
import torch
from rich.console import Console

from bsst_plugin.checkpoints.load import LoadedNetwork, load_network
from bsst_plugin.cli import run
from bsst_plugin.commands.deblur_video_arguments import VIEWS, parse_args
from bsst_plugin.commands.job_record import describe, job_settings, read_plan
from bsst_plugin.commands.looks import keep_pairs, write_job_report, write_preview
from bsst_plugin.commands.progress import progress_bar
from bsst_plugin.commands.targets import Targets, plan_targets
from bsst_plugin.errors import UserError
from bsst_plugin.inference.clip_plan import ClipPlan, choose_plan
from bsst_plugin.inference.memory import parse_size, peak_memory
from bsst_plugin.inference.partial import PartialRun
from bsst_plugin.inference.video import FinishedClip, VideoDeblurring
from bsst_plugin.ops.precision import bfloat16_is_fast
from bsst_plugin.video import (
    FolderWriter,
    Frame,
    FrameSource,
    FrameWriter,
    Look,
    VideoWriter,
    open_source,
    to_8_bits,
    upright,
)


def main() -> NoReturn:
    """Run the command and exit."""
    run(deblur_video)


def deblur_video(argv: Sequence[str] | None = None) -> None:
    """Deblur a video.

    Args:
        argv: Arguments without the program's name; those of the process if None.

    Raises:
        UserError: A mistake to put right.
    """
    args = parse_args(argv)
    begin = time.perf_counter()
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    limit = None if args.max_memory is None else parse_size(args.max_memory)
    device = _device(args.device)
    path = Path(args.input)
    targets = plan_targets(path, args.output, args.show, args.preview > 0, args.report)
    with console.status(f'reading {path}'):
        source = open_source(path, args.fps)
    if source.broken:
        console.print(f'{path}: damaged, {_count(source.broken, "piece")} left out')
    job = PartialRun(targets.output)
    targets = _check_outputs(args, source, targets, job)
    writers = _writers(args, source, targets, job)
    with console.status('loading the network'):
        loaded = load_network(args.checkpoint, args.config)
    loaded.network.to(device)
    _check_views(loaded, args.show)
    with closing(job):
        with console.status('measuring the memory that the network needs'):
            deblurring = _start(args, loaded, source, device, limit, job)
        plan = deblurring.plan
        console.print(_how(plan, source))
        if job.finished:
            console.print(f'going on with frame {deblurring.start_of(job.finished)}')
        with _kept(job, targets.output, len(deblurring.clips)):
            _process(args, deblurring, targets, writers, job, console)
            if targets.report is not None:
                seconds = time.perf_counter() - begin
                described = describe(args, loaded, plan, device, seconds)
                with _named(targets.report):
                    write_job_report(targets.report, job, source, described)
            for writer in reversed(writers.values()):  # the output last: with it, all is done
                for note in writer.finish(len(deblurring.clips)):
                    console.print(note)
            job.remove()
    print(
        f'{_count(len(source.times), "frame")} in {time.perf_counter() - begin:.1f} s, peak memory '
        f'{peak_memory(device) / 1e9:.2f} GB: {targets.output}'
    )


def _check_outputs(
    args: argparse.Namespace, source: FrameSource, targets: Targets, job: PartialRun
) -> Targets:
    """Check that no output is lost; the targets without what an earlier run has made."""
    if args.resume and targets.preview is not None and targets.preview.exists():
        targets = replace(targets, preview=None)
    checked = targets
    if args.resume and job.finished:
        checked = replace(targets, shows={}, report=None)  # may be there, the output is not
    elif job.finished and not args.overwrite:
        raise UserError(
            f'{targets.output}: there is an unfinished run; add --resume to go on with it, or '
            f'--overwrite to start again'
        )
    checked.check(source, args.overwrite)
    return targets


def _precision(amp: bool, device: torch.device) -> torch.dtype | None:
    """Type of autocast, None for none."""
    if not amp:
        return None
    if device.type != 'cpu':
        return torch.float16
    if not bfloat16_is_fast():
        raise UserError(
            '--amp: this CPU has no instructions for bfloat16, it would take many times longer; '
            'leave --amp out'
        )
    return torch.bfloat16


def _start(
    args: argparse.Namespace,
    loaded: LoadedNetwork,
    source: FrameSource,
    device: torch.device,
    limit: int | None,
    job: PartialRun,
) -> VideoDeblurring:
    """Decide how to cut the video, or go on as an earlier run decided."""
    amp = _precision(args.amp, device)
    views = {show: VIEWS[show] for show in args.show if show in VIEWS}
    settings = job_settings(args, loaded, device)
    if args.resume and job.finished:
        job.lock()
        job.check(settings, source.files)
        plan = read_plan(job.state()['plan'])
        deblurring = VideoDeblurring(loaded.network, source, plan, amp, views)
        job.check_read(source.files, deblurring.read_until(job.finished))
        return deblurring
    total, pixel_bytes = len(source.times), (12 if source.deep else 6) + 3 * len(args.show)
    network = loaded.network
    plan = choose_plan(network, device, amp, total, source.size, pixel_bytes, limit)
    job.start({'settings': settings, 'files': source.files, 'plan': asdict(plan)})
    return VideoDeblurring(network, source, plan, amp, views)


def _how(plan: ClipPlan, source: FrameSource) -> str:
    tile = plan.tiling.tile
    whole = max(source.size) <= tile
    frames = _count(plan.num_frames, 'frame')
    return f'{frames} at a time, {"whole" if whole else f"in tiles of {tile}"}'


def _count(number: int, thing: str) -> str:
    return f'{number} {thing}' if number == 1 else f'{number} {thing}s'


def _process(
    args: argparse.Namespace,
    deblurring: VideoDeblurring,
    targets: Targets,
    writers: dict[str, FrameWriter],
    job: PartialRun,
    console: Console,
) -> None:
    """Deblur what is not finished yet and put the outputs in place."""
    source = deblurring.source
    first = job.finished
    total = len(source.times)
    with progress_bar(console) as bar:
        if targets.preview is not None:
            write_preview(targets.preview, job.folder, args.preview, deblurring, bar)
            console.print(f'preview: {targets.preview}')
        done = deblurring.start_of(first)
        task = bar.add_task('deblurring', total=total, completed=done, begun=done)
        deblurring.on_progress = lambda frames: bar.advance(task, frames)
        for clip in deblurring.run(first, job.tails()):
            for name, writer in writers.items():
                writer.write_clip(clip.index, _shown(clip, name, source.look))
            if targets.report is not None:
                keep_pairs(job.folder, clip, total, source.look)
            job.commit(clip.index, clip.motion, clip.tail)
            state = job.state()
            if state['plan'] != asdict(deblurring.plan):  # a GPU ran out of memory
                job.update({**state, 'plan': asdict(deblurring.plan)})
            del clip  # its frames are not needed while the next ones are made


def _writers(
    args: argparse.Namespace, source: FrameSource, targets: Targets, job: PartialRun
) -> dict[str, FrameWriter]:
    """The writer of the output, and of each further video by what it shows."""
    codec = (args.codec, args.crf)
    output: FrameWriter
    if targets.is_folder:
        output = FolderWriter(targets.output, job.folder, source)
    else:
        output = VideoWriter(targets.output, job.folder, source, source.size, source.look, *codec)
    writers: dict[str, FrameWriter] = {'': output}
    height, width = upright(np.empty((*source.size, 0)), source.look.matrix).shape[:2]
    for show, path in targets.shows.items():
        size = (height, 2 * width if show == 'compare' else width)
        writers[show] = VideoWriter(path, job.folder, source, size, Look(), *codec, sound=False)
    return writers


def _shown(clip: FinishedClip, name: str, look: Look) -> list[Frame]:
    """The frames of a clip for one of the writers."""
    if not name:
        return clip.deblurred
    if name == 'compare':
        pictures = [
            np.concatenate([upright(to_8_bits(frame.pixels), look.matrix) for frame in pair], 1)
            for pair in zip(clip.frames, clip.deblurred, strict=True)
        ]
    else:
        pictures = [upright(picture, look.matrix) for picture in clip.views[name]]
    return [Frame(picture, '') for picture in pictures]


@contextmanager
def _kept(job: PartialRun, output: Path, clips: int) -> Iterator[None]:
    """Say what becomes of the finished clips when a run ends early."""
    try:
        yield
    except BaseException as error:
        kept = ''
        if not job.finished:
            job.remove()
        else:
            kept = f'{job.finished} of {clips} clips are kept: go on with --resume'
        if isinstance(error, KeyboardInterrupt) and kept:
            print(kept, file=sys.stderr)
        if isinstance(error, UserError) and kept:
            raise UserError(f'{error} ({kept})') from error
        if isinstance(error, OSError | av.error.FFmpegError):
            no_space = getattr(error, 'errno', None) == errno.ENOSPC
            reason = 'no space left' if no_space else error.strerror or error
            lines = f'{output}: cannot be written ({reason})', kept
            raise UserError('; '.join(filter(None, lines))) from error
        raise


@contextmanager
def _named(report: Path) -> Iterator[None]:
    """Say that it is the report that cannot be written."""
    try:
        yield
    except OSError as error:
        reason = 'no space left' if error.errno == errno.ENOSPC else error.strerror
        raise UserError(f'{report}: cannot be written ({reason})') from error


def _check_views(loaded: LoadedNetwork, shows: Sequence[str]) -> None:
    """Check that the network has what shall be shown."""
    network: Any = loaded.network
    for show in shows:
        lacks = show in VIEWS and not hasattr(network, 'motion')
        if lacks or (show == 'windows' and network.neck is None):
            raise UserError(f'--show {show}: the network of {loaded.checkpoint} has none to show')


def _device(name: str) -> torch.device:
    available = {
        'cuda': torch.cuda.is_available(),
        'mps': torch.backends.mps.is_available(),
        'cpu': True,
    }
    if name == 'auto':
        name = next(kind for kind, there in available.items() if there)
    if not available[name]:
        raise UserError(f'--device {name}: not on this machine; leave it out for the best there is')
    return torch.device(name)
