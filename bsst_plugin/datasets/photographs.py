"""Photographs that scenes are rendered from: those of a folder, or those inside scikit-image."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TypeVar

import numpy as np
from PIL import Image, ImageOps

from bsst_plugin.errors import UserError

from .blur_synthesis import BlurSettings

_T = TypeVar('_T')

#: Photographs inside scikit-image that are set apart for testing: a person with fabric and
#: lettering, a smooth object on wood, fur. Nothing in this project may be trained on them.
TEST_PHOTOGRAPHS = ('astronaut.png', 'coffee.png', 'chelsea.png')

#: Those to train on. The two of the motorcycle show the same scene, so they stay together. The
#: rest of scikit-image's pictures are drawings, or smaller than a frame.
TRAIN_PHOTOGRAPHS = (
    'motorcycle_left.png',
    'rocket.jpg',
    'camera.png',
    'brick.png',
    'grass.png',
    'gravel.png',
    'coins.png',
    'hubble_deep_field.jpg',
    'ihc.png',
    'moon.png',
    'retina.jpg',
    'motorcycle_right.png',
)

_TEST_PART = 0.2  # of the photographs in a folder
_SUFFIXES = {'.bmp', '.jpeg', '.jpg', '.png', '.tif', '.tiff', '.webp'}


@dataclass(frozen=True)
class Photograph:
    """An image file.

    Args:
        path: The file.
        digest: Hash of its content.
        transparent: Whether it has transparent pixels: such a picture is a foreground piece with
            true outlines and never a background.
    """

    path: Path
    digest: str
    transparent: bool

    def load(self) -> np.ndarray:
        """Pixels ``(h, w, 3)``, or ``(h, w, 4)`` if transparent, uint8 RGB(A)."""
        return _read(self.path, lambda image: np.asarray(_upright(image, self.transparent)))


def find_photographs(
    folder: Path | None, settings: BlurSettings
) -> dict[str, tuple[Photograph, ...]]:
    """Find the photographs of each split.

    Args:
        folder: Searched with its subfolders, and split by the content of the files: adding files
            moves none from one split to the other, except out of an otherwise empty one. None
            takes the photographs inside scikit-image.
        settings: Says how large they must be.

    Raises:
        UserError: there are none, or one cannot be read or is too small.
    """
    if folder is None:
        return {
            'train': tuple(_open(path, settings) for path in _bundled(TRAIN_PHOTOGRAPHS)),
            'test': tuple(_open(path, settings) for path in _bundled(TEST_PHOTOGRAPHS)),
        }
    if not folder.is_dir():
        raise UserError(f'{folder}: no such folder; name one with photographs in it')
    paths = sorted(
        path
        for path in folder.rglob('*')
        if path.suffix.lower() in _SUFFIXES and not path.name.startswith('.') and path.is_file()
    )
    # The same picture under two names must not end up in both splits.
    unique = {photo.digest: photo for photo in (_open(path, settings) for path in paths)}
    photos = [unique[digest] for digest in sorted(unique)]
    backgrounds = [photo for photo in photos if not photo.transparent]
    if len(backgrounds) < 2:
        raise UserError(
            f'{folder}: {len(backgrounds)} different photographs without transparency '
            f'({", ".join(sorted(_SUFFIXES))}); needs 2, one to train on and one to test on'
        )
    limit = f'{int(_TEST_PART * 16**16):016x}'  # digests are spread evenly
    if limit <= backgrounds[0].digest:
        limit = backgrounds[1].digest
    elif limit > backgrounds[-1].digest:
        limit = backgrounds[-1].digest
    return {
        'train': tuple(photo for photo in photos if photo.digest >= limit),
        'test': tuple(photo for photo in photos if photo.digest < limit),
    }


def _bundled(names: Sequence[str]) -> list[Path]:
    """Paths of photographs inside scikit-image."""
    spec = find_spec('skimage')
    if spec is None or spec.origin is None:
        raise UserError(
            'scikit-image is not installed: `pip install scikit-image`, or name a '
            'folder of photographs'
        )
    return [Path(spec.origin).parent / 'data' / name for name in names]


def _open(path: Path, settings: BlurSettings) -> Photograph:
    """Check an image file."""
    try:
        digest = hashlib.sha256(path.read_bytes()).hexdigest()[:16]
    except OSError as error:
        raise UserError(f'{path}: {error.strerror}; name a folder of photographs') from error
    transparent, short = _read(path, lambda image: (_is_transparent(image), min(image.size)))
    if short < settings.min_side and not transparent:
        raise UserError(
            f'{path}: too small, {short} px where frames of {settings.size} px need '
            f'{settings.min_side} px; remove it or ask for smaller frames'
        )
    return Photograph(path, digest, transparent)


def _read(path: Path, use: Callable[[Image.Image], _T]) -> _T:
    """Open an image and use it; what goes wrong is told in one line."""
    try:
        with Image.open(path) as image:
            if image.mode[0] in 'IF':
                raise ValueError('more than 8 bits per channel')
            return use(image)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        reason = str(error).splitlines()[0].removesuffix(f' {str(path)!r}') if str(error) else ''
        raise UserError(f'{path}: cannot be used as an image ({reason}); remove it') from error


def _is_transparent(image: Image.Image) -> bool:
    if 'A' not in image.getbands() and 'transparency' not in image.info:
        return False
    return image.convert('RGBA').getchannel('A').getextrema() != (255, 255)


def _upright(image: Image.Image, transparent: bool) -> Image.Image:
    return ImageOps.exif_transpose(image).convert('RGBA' if transparent else 'RGB')
