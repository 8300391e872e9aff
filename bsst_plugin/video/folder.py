"""Folders of pictures."""

import os
import re
from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np

from bsst_plugin.errors import UserError
from bsst_plugin.video.frames import Frame, FrameSource, FrameWriter, Look, stamp, upright

IMAGE_SUFFIXES = ('.png', '.jpg', '.jpeg', '.bmp', '.tif', '.tiff', '.webp')
# Pictures of cameras say how to turn them, which OpenCV ignores if it keeps transparency.
CAMERA = cv2.IMREAD_ANYCOLOR | cv2.IMREAD_ANYDEPTH


class FrameFolder(FrameSource):
    """Pictures of one size in a folder, in the order of the numbers in their names.

    Args:
        path: The folder.
        rate: Frames per second.

    Raises:
        UserError: There is no picture in the folder, or the first one cannot be read.
    """

    def __init__(self, path: Path, rate: Fraction = Fraction(25)) -> None:
        self.path, self.rate, self.time_base = path, rate, 1 / rate
        self._paths = sorted(
            (
                file
                for file in path.iterdir()
                if file.suffix.lower() in IMAGE_SUFFIXES
                and not file.name.startswith('.')
                and file.is_file()
            ),
            key=lambda file: _natural(file.name),
        )
        if not self._paths:
            raise UserError(f'{path}: holds no frames ({", ".join(IMAGE_SUFFIXES)})')
        self.look = Look()
        self.names = [file.name for file in self._paths]
        self.times, self.end = list(range(len(self._paths))), len(self._paths)
        first = _read_image(self._paths[0]).pixels
        self.size, self.deep = (first.shape[0], first.shape[1]), first.dtype == np.uint16

    @property
    def files(self) -> dict[str, tuple[int, int]]:
        """See :attr:`FrameSource.files`."""
        return {file.name: stamp(file) for file in self._paths}

    def frames(self, start: int = 0) -> Iterator[Frame]:
        """See :meth:`FrameSource.frames`."""
        for file in self._paths[start:]:
            frame = _read_image(file)
            if frame.pixels.shape[:2] != self.size:
                sizes = [f'{w} x {h}' for h, w in (frame.pixels.shape[:2], self.size)]
                raise UserError(
                    f'{file}: {sizes[0]} pixels, where the first frame has {sizes[1]}; remove it '
                    f'or bring it to that size'
                )
            yield frame


class FolderWriter(FrameWriter):
    """Pictures in a folder, upright, under the names of the frames.

    Args:
        target: See :class:`FrameWriter`.
        partial: See :class:`FrameWriter`.
        source: Where the frames come from.
    """

    def __init__(self, target: Path, partial: Path, source: FrameSource) -> None:
        super().__init__(target, partial)
        self.source = source
        self.folder = partial / 'frames'

    def write_clip(self, clip: int, frames: Sequence[Frame]) -> None:
        """See :meth:`FrameWriter.write_clip`."""
        self.folder.mkdir(exist_ok=True)
        for frame in frames:
            path = self.folder / frame.name
            encoded = cv2.imencode(path.suffix, _to_image(frame, self.source.look), _options(path))[
                1
            ]
            path.write_bytes(encoded)

    def finish(self, clips: int) -> list[str]:
        """See :meth:`FrameWriter.finish`."""
        missing = [name for name in self.source.names if not (self.folder / name).exists()]
        if missing:
            raise UserError(
                f'{self.folder / missing[0]}: is gone; start again with --overwrite and without '
                f'--resume'
            )
        if self.target.exists():
            os.replace(self.target, self.partial / 'replaced')
        os.replace(self.folder, self.target)
        return []


def _read_image(path: Path) -> Frame:
    try:
        # OpenCV itself opens no path with other than ASCII letters on some systems.
        data = np.fromfile(path, np.uint8)
        kind = path.suffix.lower()
        flags = CAMERA if kind in ('.jpg', '.jpeg') else cv2.IMREAD_UNCHANGED
        image = cv2.imdecode(data, flags) if data.size else None
        if kind == '.webp' and image is not None and not _is_transparent(image):
            image = cv2.imdecode(data, CAMERA)
    except (OSError, cv2.error):
        image = None
    if image is None:
        raise UserError(f'{path}: not a readable image; mend it or remove it')
    if image.dtype not in (np.uint8, np.uint16):
        raise UserError(f'{path}: pixels of type {image.dtype}; give 8 or 16 bits')
    if image.ndim == 2:
        return Frame(cv2.cvtColor(image, cv2.COLOR_GRAY2RGB), path.name, grey=True)
    alpha = np.ascontiguousarray(image[..., 3]) if _is_transparent(image) else None
    return Frame(cv2.cvtColor(image[..., :3], cv2.COLOR_BGR2RGB), path.name, alpha)


def _is_transparent(image: np.ndarray) -> bool:
    return image.ndim == 3 and image.shape[2] == 4


def _natural(name: str) -> list[tuple[int, int | str]]:
    """Sort key in which 2.png comes before 10.png."""
    parts = re.split(r'(\d+)', name)
    return [(0, int(part)) if part.isdecimal() else (1, part) for part in parts if part]


def _to_image(frame: Frame, look: Look) -> np.ndarray:
    """Pixels as OpenCV writes them."""
    if frame.grey:
        image = cv2.cvtColor(frame.pixels, cv2.COLOR_RGB2GRAY)
    else:
        image = cv2.cvtColor(frame.pixels, cv2.COLOR_RGB2BGR)
    if frame.alpha is not None:
        image = np.dstack((image, frame.alpha))
    return upright(image, look.matrix)


def _options(path: Path) -> list[int]:
    """Little loss for JPEG, none for WebP; fast compression for PNG."""
    return {
        '.jpg': [cv2.IMWRITE_JPEG_QUALITY, 97],
        '.jpeg': [cv2.IMWRITE_JPEG_QUALITY, 97],
        '.webp': [cv2.IMWRITE_WEBP_QUALITY, 101],
    }.get(path.suffix.lower(), [])
