"""Bring a published dataset to ``DST/{train,test}/{blur,GT}/VIDEO/NNNNN.png``, and check it."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Sequence
from concurrent.futures import CancelledError, ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from threading import Event

import cv2
import numpy as np
from rich.progress import Progress

from bsst_plugin.errors import UserError

from .official_layouts import (
    BLUR,
    SHARP,
    Frame,
    FrameError,
    Layout,
    Video,
    find_videos,
    open_frames,
)

_RECORD = 'dataset.json'
_PARTIAL = '.partial'  # videos that are being written
_PNG = b'\x89PNG\r\n\x1a\n'


@dataclass
class Report:
    """What came of a conversion or a check.

    Args:
        title: The dataset with its variant, as far as that is known.
        counts: For each split the number of videos and of pairs that are in the tree now.
        problems: A line for each frame, or video, that cannot be used.
        warnings: What is missing.
        changed: Whether anything was missing before.
    """

    title: str
    counts: dict[str, tuple[int, int]] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    changed: bool = False


def convert(
    src: str | os.PathLike[str],
    dst: str | os.PathLike[str],
    layout: Layout,
    copy: bool = False,
    progress: bool = True,
) -> Report:
    """Convert a dataset; every pair is checked on the way.

    Frames in a folder are linked to. Frames in an archive are unpacked into ``dst``, and of them
    only those that are needed; the archive stays as it is. A video with a bad frame is left out, a
    video that is there already is left alone, and an interrupted run leaves whole videos only, so
    the same call goes on from there.

    Args:
        src: Folder or ``.zip`` archive that holds the dataset at any depth, or a part of it.
        dst: Folder to make, or to go on with.
        layout: What to look for.
        copy: Copy instead of linking, and turn what is not PNG into PNG, losslessly. Without it
            frames keep their bytes, so those of a JPEG dataset are JPEG files named ``.png``.
        progress: Whether to show a progress bar.

    Returns:
        The counts and what is wrong.

    Raises:
        UserError: There is nothing to convert, or ``dst`` holds something else.
    """
    src, dst = Path(src), Path(dst)
    variant = _read_record(src).get('variant', layout.variant)
    if variant != layout.variant:
        raise UserError(f'{src}: holds {layout.dataset} ({variant}), not {layout.title}')
    with open_frames(src, skip=dst) as frames:
        videos = find_videos(frames, layout)
        if not videos:
            raise UserError(
                f'{src}: no frames of {layout.title} found; expected {layout.description}'
            )
        report = Report(layout.title, warnings=[gap for video in videos if (gap := video.gap)])
        try:
            _claim(dst, {'dataset': layout.dataset, 'variant': layout.variant, 'copy': copy})
            missing = [v for v in videos if not all([_is_there(dst, v, k) for k in (BLUR, SHARP)])]
            work = partial(_write_video, dst, copy)
            report.changed = bool(missing)
            report.problems = _run(missing, work, 'Converting pairs', progress)
        except OSError as error:
            raise UserError(f'{error.filename or dst}: {error.strerror or error}') from error
        finally:
            shutil.rmtree(dst / _PARTIAL, ignore_errors=True)
    _compare_counts(dst, layout, report)
    return report


def check(dst: str | os.PathLike[str], layout: Layout, progress: bool = True) -> Report:
    """Check every pair of a tree in the layout of this package, whoever made it.

    Args:
        dst: The folder that holds the splits.
        layout: The dataset that it should be.
        progress: Whether to show a progress bar.

    Returns:
        The counts and what is wrong.

    Raises:
        UserError: There is nothing to check, or it is another dataset.
    """
    dst = Path(os.path.abspath(dst))
    found = _read_record(dst)
    if found and found.get('dataset') != layout.dataset:
        raise UserError(f'{dst}: is {found.get("dataset")}, not {layout.dataset}')
    variant = str(found.get('variant', ''))
    tree = replace(layout, variant=variant, repacked=True, marker='', excluded='')
    with open_frames(dst) as frames:
        videos = find_videos([frame for frame in frames if _is_below(frame, dst, tree)], tree)
    if not videos:
        expected = f'{{{",".join(layout.known)}}}/{{{BLUR},{SHARP}}}/VIDEO/00000.png'
        raise UserError(f'{dst}: no frames found; expected {dst}/{expected}')
    report = Report(tree.title)
    report.problems = [line for video in videos for line in _misnumbered(video)]
    report.problems += _run(videos, _check_video, 'Checking pairs', progress)
    _compare_counts(dst, layout, report)
    return report


def _run(
    videos: Sequence[Video],
    work: Callable[[Video, Callable[[], None]], list[str]],
    title: str,
    progress: bool,
) -> list[str]:
    """Do the work on all videos, one per core at a time, and gather the lines about problems."""
    total = sum(len(video.pairs) for video in videos)
    stop = Event()
    with Progress(disable=not progress) as bar, ThreadPoolExecutor(os.cpu_count()) as pool:
        task = bar.add_task(title, total=total)

        def advance() -> None:
            if stop.is_set():
                raise CancelledError
            bar.advance(task)

        futures = [pool.submit(work, video, advance) for video in videos]
        try:
            for future in as_completed(futures):
                future.result()
        except BaseException:  # KeyboardInterrupt too: do not finish what is left first
            stop.set()
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return [line for future in futures for line in future.result()]


def _check_video(
    video: Video,
    advance: Callable[[], None],
    use: Callable[[int, str, Frame, bytes, np.ndarray], None] | None = None,
) -> list[str]:
    """Check all pairs of a video and hand on their frames, as long as there is no problem."""
    lines = video.without_partner
    first = None
    for index, pair in enumerate(video.pairs):
        for kind, frame in zip((BLUR, SHARP), pair, strict=True):
            try:
                data, image = frame.decode()
            except FrameError as error:
                lines.append(str(error))
                continue
            size = f'{image.shape[1]} x {image.shape[0]}'
            first = first or size
            if size != first:
                lines.append(f'{frame.path}: {size} pixels, but the video starts with {first}')
            elif use is not None and not lines:
                use(index, kind, frame, data, image)
        advance()
    return lines


def _write_video(dst: Path, copy: bool, video: Video, advance: Callable[[], None]) -> list[str]:
    """Write a video; its folders appear when all frames are in them and all are in order."""
    folders = {kind: dst / _PARTIAL / video.split / kind / video.name for kind in (BLUR, SHARP)}
    for folder in folders.values():
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)

    def write(index: int, kind: str, frame: Frame, data: bytes, image: np.ndarray) -> None:
        target = folders[kind] / f'{index:05d}.png'
        if frame.archive is None and not copy:
            _link(target, frame.path)
        elif copy and not data.startswith(_PNG):
            target.write_bytes(cv2.imencode('.png', image)[1].tobytes())
        else:
            target.write_bytes(data)

    lines = _check_video(video, advance, write)
    for kind, folder in folders.items():
        final = dst / video.split / kind / video.name
        if not lines and not final.exists():
            final.parent.mkdir(parents=True, exist_ok=True)
            folder.rename(final)
    return lines


def _link(link: Path, target: Path) -> None:
    try:
        link.symlink_to(target)
    except OSError as error:
        raise UserError(
            f'{link}: cannot be made a link ({error.strerror}); --copy goes without links'
        ) from error


def _is_there(dst: Path, video: Video, kind: str) -> bool:
    """Whether the frames of a video are in place already.

    Raises:
        UserError: Others are.
    """
    folder = dst / video.split / kind / video.name
    if not os.path.lexists(folder):
        return False
    frames = [pair[0 if kind == BLUR else 1] for pair in video.pairs]
    names = [f'{index:05d}.png' for index in range(len(frames))]
    same = folder.is_dir() and sorted(os.listdir(folder)) == names
    if not same or any(
        (link := folder / name).is_symlink() and os.readlink(link) != str(frame.path)
        for name, frame in zip(names, frames, strict=True)
        if frame.archive is None
    ):
        raise UserError(
            f'{folder}: holds other frames than SRC; choose another DST or delete this folder'
        )
    return True


def _is_below(frame: Frame, dst: Path, layout: Layout) -> bool:
    """Whether a frame is where this package looks for frames."""
    parts = frame.path.relative_to(dst).parts
    return len(parts) == 4 and parts[0] in layout.known and parts[1] in (BLUR, SHARP)


def _misnumbered(video: Video) -> list[str]:
    """A line for each kind whose frames are not named 00000.png, 00001.png and so on."""
    lines = []
    for frames in video.frames.values():
        names = sorted(frame.path.name for frame in frames.values())
        for index, name in enumerate(names):
            if name != f'{index:05d}.png':
                path = next(f.path for f in frames.values() if f.path.name == name)
                lines.append(f'{path}: {index:05d}.png should be here; convert the set again')
                break
    return lines


def _compare_counts(dst: Path, layout: Layout, report: Report) -> None:
    """Count what is in the tree, and warn where the known numbers differ."""
    for split, (videos, pairs) in layout.known.items():
        blurry, sharp = (
            {path.relative_to(dst / split / kind) for path in (dst / split / kind).glob('*/*.png')}
            for kind in (BLUR, SHARP)
        )
        pairs_found = blurry & sharp
        count = (len({path.parent for path in pairs_found}), len(pairs_found))
        report.counts[split] = count
        if count != (videos, pairs):
            report.warnings.append(
                f'{dst}: not the published {layout.dataset}: {split} has {count[0]} of {videos} '
                f'videos and {count[1]} of {pairs} pairs'
            )


def _claim(dst: Path, record: dict[str, object]) -> None:
    """Make sure that ``dst`` is ours to write to, and note there what it is going to hold."""
    way_out = 'choose another folder or delete this one'
    found = _read_record(dst)
    if found:
        for key, value in record.items():
            if found.get(key) != value:
                raise UserError(f'{dst}: made with {key} {found.get(key)}, not {value}; {way_out}')
    elif dst.exists() and (not dst.is_dir() or any(dst.iterdir())):
        raise UserError(
            f'{dst}: exists and was not made by this tool; {way_out}, or look at it with --check'
        )
    else:
        (dst / _PARTIAL).mkdir(parents=True, exist_ok=True)
        note = dst / _PARTIAL / _RECORD
        note.write_text(json.dumps(record, indent=1) + '\n', encoding='utf-8')
        note.rename(dst / _RECORD)


def _read_record(dst: Path) -> dict[str, object]:
    try:
        record = json.loads((dst / _RECORD).read_text(encoding='utf-8'))
    except (OSError, ValueError):
        return {}
    return record if isinstance(record, dict) else {}
