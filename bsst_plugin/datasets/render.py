"""Write rendered clips to a folder in GoPro's layout: ``{train,test}/{blur,GT}/VIDEO/00000.png``.

Every photograph belongs to one split, and a clip shows photographs of its own split only, in the
background and in front of it.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from pathlib import Path

import cv2
import numpy as np
from rich.progress import Progress

from bsst_plugin.errors import UserError

from .blur_synthesis import BlurSettings, render_clip
from .photographs import Photograph, find_photographs
from .random_scene import random_scene

SPLITS = ('train', 'test')
DEFAULT_CLIPS = {'train': 12, 'test': 6}

_RECORD = 'render.json'
_PARTIAL = '.partial'  # clips that are being written
_VERSION = 1  # to be raised when the same settings and seed give other clips


def render_dataset(
    dst: str | os.PathLike[str],
    photos: str | os.PathLike[str] | None = None,
    clips: Mapping[str, int] | None = None,
    settings: BlurSettings | None = None,
    seed: int = 0,
    progress: bool = True,
) -> bool:
    """Render clips into a folder; the same arguments give the same bytes.

    An interrupted run leaves finished clips only, and the same call goes on from there. Nothing
    that was there before is overwritten.

    Args:
        dst: The folder; made if missing.
        photos: Folder of photographs; None takes those inside scikit-image.
        clips: Number of clips in ``'train'`` and ``'test'``; ``DEFAULT_CLIPS`` if None.
        settings: What is rendered; default settings if None.
        seed: Non-negative; each clip depends on the seed, its split and its number only.
        progress: Whether to show a progress bar.

    Returns:
        False if everything was there already.

    Raises:
        UserError: the folder holds something else, or the photographs cannot be used.
    """
    dst, settings = Path(dst), settings or BlurSettings()
    clips = {split: (clips or DEFAULT_CLIPS).get(split, 0) for split in SPLITS}
    if min(clips.values()) < 0 or not any(clips.values()) or seed < 0:
        raise UserError(f'cannot render {clips} clips with seed {seed}: counts and seed >= 0')
    sources = find_photographs(None if photos is None else Path(photos), settings)
    record = {
        'version': _VERSION,
        'seed': seed,
        'clips': clips,
        'settings': asdict(settings),
        'photographs': {
            split: {photo.digest: photo.path.name for photo in sources[split]} for split in SPLITS
        },
    }
    try:
        _claim(dst, record)
        missing = [
            job
            for split in SPLITS
            for job in _jobs(dst, split, clips[split], sources[split])
            if not job.finished
        ]
        _run(missing, lambda job: job.render(settings, seed), progress)
        shutil.rmtree(dst / _PARTIAL, ignore_errors=True)
    except OSError as error:
        raise UserError(f'{error.filename or dst}: {error.strerror or error}') from error
    return bool(missing)


@dataclass(frozen=True)
class _Job:
    """One clip to render: number ``index`` of a split, into ``dst``."""

    dst: Path
    split: str
    index: int
    photos: tuple[Photograph, ...]

    @property
    def background(self) -> Photograph:
        """The photographs take turns, so that every one is used and none much more often."""
        backgrounds = [photo for photo in self.photos if not photo.transparent]
        return backgrounds[self.index % len(backgrounds)]

    @property
    def name(self) -> str:
        """Name of the video; MMagic's dataset takes what follows a dot for a file extension."""
        return f'{self.index:03d}_' + re.sub(r'[^A-Za-z0-9_-]', '_', self.background.path.stem)

    def folder(self, kind: str) -> Path:
        """Where the frames of a kind, ``'blur'`` or ``'GT'``, belong."""
        return self.dst / self.split / kind / self.name

    @property
    def finished(self) -> bool:
        """Whether both kinds are there."""
        return self.folder('blur').is_dir() and self.folder('GT').is_dir()

    def render(self, settings: BlurSettings, seed: int) -> None:
        """Render and write the clip; its folders appear when all frames are in them."""
        rng = np.random.default_rng((seed, SPLITS.index(self.split), self.index))
        background = self.background
        others = [photo for photo in self.photos if photo is not background] or [background]
        count = rng.integers(settings.pieces[0], settings.pieces[1] + 1)
        cutouts = [others[i].load() for i in rng.integers(0, len(others), count)]
        scene = random_scene(background.load(), cutouts, settings, rng)
        for kind, frames in zip(('blur', 'GT'), render_clip(scene, settings), strict=True):
            partial = self.dst / _PARTIAL / f'{self.split}-{kind}-{self.name}'
            for old in (partial, self.folder(kind)):  # of a run that was cut off
                shutil.rmtree(old, ignore_errors=True)
            partial.mkdir(parents=True)
            for i, frame in enumerate(frames):
                png = cv2.imencode('.png', frame[..., ::-1])[1]
                (partial / f'{i:05d}.png').write_bytes(png.tobytes())
            self.folder(kind).parent.mkdir(parents=True, exist_ok=True)
            partial.rename(self.folder(kind))


def _jobs(dst: Path, split: str, count: int, photos: tuple[Photograph, ...]) -> list[_Job]:
    return [_Job(dst, split, index, photos) for index in range(count)]


def _run(jobs: Sequence[_Job], work: Callable[[_Job], None], progress: bool) -> None:
    """Do all jobs, one per core at a time: OpenCV and NumPy release the interpreter's lock."""
    with (
        Progress(disable=not progress) as bar,
        ThreadPoolExecutor(max_workers=os.cpu_count()) as pool,
    ):
        task = bar.add_task('Rendering clips', total=len(jobs), visible=bool(jobs))
        futures = [pool.submit(work, job) for job in jobs]
        try:
            for future in as_completed(futures):
                future.result()
                bar.advance(task)
        except BaseException:  # KeyboardInterrupt too: do not finish what is left first
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _claim(dst: Path, record: dict[str, object]) -> None:
    """Make sure that ``dst`` is ours to write to, and note there what it is going to hold."""
    note, text = dst / _RECORD, json.dumps(record, indent=1) + '\n'
    way_out = 'choose another folder or delete this one'
    if dst.exists() and not dst.is_dir():
        raise UserError(f'{dst}: a file; {way_out}')
    if note.is_file():
        found = note.read_text(encoding='utf-8', errors='replace')
        if found != text:
            raise UserError(f'{dst}: rendered with {_difference(found, record)}; {way_out}')
    elif dst.is_dir() and any(dst.iterdir()):
        raise UserError(f'{dst}: not empty, and not rendered by this tool; {way_out}')
    else:
        dst.mkdir(parents=True, exist_ok=True)
        note.write_text(text, encoding='utf-8')


def _difference(found: str, record: dict[str, object]) -> str:
    """What a record differs in, in a few words."""
    try:
        old = json.loads(found)
        for key, value in json.loads(json.dumps(record)).items():
            if old[key] != value:
                return 'other photographs' if key == 'photographs' else f'{key} {old[key]}'
    except (ValueError, KeyError, TypeError):
        pass
    return f'another {_RECORD}'
