"""How the video deblurring datasets are published, and finding their frames."""

from __future__ import annotations

import os
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np

from bsst_plugin.errors import UserError

BLUR, SHARP = 'blur', 'GT'
EXPOSURES = ('1ms8ms', '2ms16ms', '3ms24ms')

_SUFFIXES = {'.png', '.jpg', '.jpeg'}
_JUNK = '__MACOSX'


@dataclass(frozen=True)
class Layout:
    """Where a dataset keeps its frames, and how many there are.

    Published as ``SPLIT/VIDEO/BLUR/FRAME`` and ``SPLIT/VIDEO/SHARP/FRAME``. The layout that this
    package trains on, ``SPLIT/{blur,GT}/VIDEO/FRAME``, is understood as well: the authors of
    BSSTNet hand out the sets re-packed like that.

    Args:
        dataset: Its name.
        blur: Folders below a video that lead to the blurry frames.
        sharp: Folders below a video that lead to the sharp frames.
        known: For each split the number of videos and of pairs.
        variant: Which of several versions, empty if there is one.
        test_videos: Names that make up the split ``test``, all others being ``train``; None if the
            split is a folder.
        marker: Text that some folder or archive on the way to a frame must have in its name.
        excluded: Folder whose content does not belong to the set.
        repacked: Whether a re-packed tree can be told to hold this variant.
    """

    dataset: str
    blur: tuple[str, ...]
    sharp: tuple[str, ...]
    known: Mapping[str, tuple[int, int]]
    variant: str = ''
    test_videos: frozenset[str] | None = None
    marker: str = ''
    excluded: str = ''
    repacked: bool = True

    @property
    def title(self) -> str:
        """Name with the variant."""
        return f'{self.dataset} ({self.variant})' if self.variant else self.dataset

    @property
    def description(self) -> str:
        """The folders that are understood, for messages."""
        split = '' if self.test_videos else f'{{{",".join(self.known)}}}/'
        text = f'{split}VIDEO/{{{"/".join(self.blur)},{"/".join(self.sharp)}}}/'
        if self.repacked:
            text += f' or {{{",".join(self.known)}}}/{{{BLUR},{SHARP}}}/VIDEO/'
        return text + (f' below a folder named after {self.marker}' if self.marker else '')

    def locate(self, parts: Sequence[str]) -> tuple[str, str, str] | None:
        """Split, video and kind (``'blur'`` or ``'GT'``) of the frame with this path, or None."""
        if self.excluded in parts or not any(self.marker in part for part in parts[:-1]):
            return None
        if len(parts) >= 4:
            split, kind, video = parts[-4:-1]
            if split in self.known and kind in (BLUR, SHARP):
                return (split, video, kind) if self.repacked else None
        for kind, folders in ((BLUR, self.blur), (SHARP, self.sharp)):
            above = parts[: -1 - len(folders)]
            if len(above) < 2 or tuple(parts[len(above) : -1]) != folders:
                continue
            split, video = above[-2:]
            if self.test_videos is not None:
                split = 'test' if video in self.test_videos else 'train'
            if split in self.known:
                return split, video, kind
        return None


def gopro(source: str = 'blur') -> Layout:
    """GoPro (Nah et al., CVPR 2017); ``source`` is ``'blur'`` or ``'blur_gamma'``."""
    return Layout(
        'GoPro',
        blur=(source,),
        sharp=('sharp',),
        known={'train': (22, 2103), 'test': (11, 1111)},
        variant=source,
        repacked=source == 'blur',
    )


def dvd() -> Layout:
    """DVD (Su et al., CVPR 2017), with its authors' choice of test videos."""
    numbers = ('0003', '0021', '0030', '0031', '0032', '0033', '0037', '0039', '0049')
    return Layout(
        'DVD',
        blur=('input',),
        sharp=('GT',),
        known={'train': (61, 5708), 'test': (10, 1000)},
        test_videos=frozenset({'720p_240fps_2', *(f'IMG_{number}' for number in numbers)}),
        excluded='qualitative_datasets',  # real blur without sharp frames
    )


def bsd(exposure: str) -> Layout:
    """BSD (Zhong et al., ECCV 2020 and IJCV 2022); ``exposure`` is one of ``EXPOSURES``."""
    return Layout(
        'BSD',
        blur=('Blur', 'RGB'),
        sharp=('Sharp', 'RGB'),
        known={'train': (60, 6000), 'valid': (20, 2000), 'test': (20, 3000)},
        variant=exposure,
        marker=exposure,
    )


class FrameError(Exception):
    """A frame that cannot be used; the message is one line that names it."""


@dataclass(frozen=True)
class Frame:
    """A frame on disk, or in an archive.

    Args:
        path: The file; for one in an archive, the archive's path and the path inside.
        archive: The open archive.
        member: Its name in the archive.
    """

    path: Path
    archive: zipfile.ZipFile | None = None
    member: str = ''

    def decode(self) -> tuple[bytes, np.ndarray]:
        """Content of the file and its pixels ``(h, w, 3)`` uint8 BGR.

        Raises:
            FrameError: It cannot be read, is truncated or damaged, or is not an image.
        """
        try:
            data = self.archive.read(self.member) if self.archive else self.path.read_bytes()
            image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
        except OSError as error:
            reason = f'cannot be read ({error.strerror or error})'
            if isinstance(error, FileNotFoundError) and self.path.is_symlink():
                reason = f'links to {os.readlink(self.path)}, which is gone'
            raise FrameError(f'{self.path}: {reason}') from error
        except cv2.error:  # an empty file
            image = None
        except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, NotImplementedError) as e:
            raise FrameError(f'{self.path}: cannot be unpacked ({e})') from e
        if image is None:
            raise FrameError(f'{self.path}: not a readable image')
        return data, image


@dataclass(frozen=True)
class Video:
    """The frames of a video by the stem of their names, and what is wrong with the set of them."""

    split: str
    name: str
    frames: dict[str, dict[str, Frame]] = field(default_factory=lambda: {BLUR: {}, SHARP: {}})

    @property
    def pairs(self) -> list[tuple[Frame, Frame]]:
        """Blurry and sharp frames of the same name, in order."""
        blur, sharp = self.frames[BLUR], self.frames[SHARP]
        # By length first: numbers stay in order if they are not padded with zeros.
        stems = sorted(blur.keys() & sharp.keys(), key=lambda stem: (len(stem), stem))
        return [(blur[stem], sharp[stem]) for stem in stems]

    @property
    def without_partner(self) -> list[str]:
        """A line for each frame that has no partner."""
        lines = []
        for kind, other, missing in ((BLUR, SHARP, 'sharp'), (SHARP, BLUR, 'blurry')):
            alone = sorted(self.frames[kind].keys() - self.frames[other].keys())
            if alone and not self.frames[other]:
                folder = self.frames[kind][alone[0]].path.parent
                lines.append(f'{folder}: the video {self.name} has no {missing} frames')
            else:
                paths = (self.frames[kind][stem].path for stem in alone)
                lines += [f'{path}: has no {missing} partner' for path in paths]
        return lines

    @property
    def gap(self) -> str | None:
        """A line about the first gap in the numbers of the frames; the published sets have none."""
        stems = [frame.path.stem for frame, _ in self.pairs]
        if all(stem.isdecimal() for stem in stems):
            for before, after in zip(stems, stems[1:], strict=False):
                if int(after) > int(before) + 1:
                    return f'{self.split} video {self.name}: no frames between {before} and {after}'
        return None


@contextmanager
def open_frames(src: Path, skip: Path | None = None) -> Iterator[list[Frame]]:
    """Give the image files below a folder, or in a ``.zip`` archive, which stays open meanwhile.

    Args:
        src: The folder or archive.
        skip: Folder to leave out.

    Raises:
        UserError: There is no such folder, or the file is no archive of this kind.
    """
    src = Path(os.path.abspath(src))
    if src.is_dir():
        yield [Frame(path) for path in _files(src, skip) if _is_frame(path)]
    elif not src.exists():
        raise UserError(f'{src}: no such folder or archive')
    else:
        try:
            archive = zipfile.ZipFile(src)
        except (zipfile.BadZipFile, OSError) as error:
            raise UserError(
                f'{src}: cannot be opened as a .zip archive ({error}); download it again, or '
                f'unpack it and name the folder'
            ) from error
        with archive:
            members = [n for n in archive.namelist() if _is_frame(Path(n)) and not n.endswith('/')]
            yield [Frame(src / name, archive, name) for name in members]


def find_videos(frames: Sequence[Frame], layout: Layout) -> list[Video]:
    """Sort frames into videos, in order of split and name; files of another kind are left out.

    Raises:
        UserError: The same frame was found twice.
    """
    videos: dict[tuple[str, str], Video] = {}
    for frame in frames:
        place = layout.locate(frame.path.parts)
        if place is None:
            continue
        split, name, kind = place
        video = videos.setdefault((split, name), Video(split, name))
        twin = video.frames[kind].setdefault(frame.path.stem, frame)
        if twin is not frame:
            raise UserError(
                f'{frame.path}: the same frame as {twin.path}; name a folder that holds one of them'
            )
    splits = list(layout.known)
    return sorted(videos.values(), key=lambda video: (splits.index(video.split), video.name))


def _files(folder: Path, skip: Path | None) -> Iterator[Path]:
    skipped = None if skip is None else os.path.abspath(skip)
    for root, folders, names in os.walk(folder, followlinks=True):
        folders[:] = [
            name
            for name in sorted(folders)
            if not name.startswith('.') and os.path.join(root, name) != skipped
        ]
        yield from (Path(root, name) for name in sorted(names))


def _is_frame(path: Path) -> bool:
    hidden = path.name.startswith('.') or _JUNK in path.parts or '..' in path.parts
    return path.suffix.lower() in _SUFFIXES and not hidden
