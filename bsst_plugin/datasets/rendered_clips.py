"""Training clips that are rendered when they are asked for."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from mmagic.registry import DATASETS
from mmengine.dataset import Compose
from torch.utils.data import Dataset

from bsst_plugin.errors import UserError

from .averaged_video import Video, averaged_clip
from .blur_synthesis import BlurSettings, to_linear
from .capture import CaptureSettings, random_capture
from .random_scene import scene_over
from .resumable import seeded_sample

SPLITS = ('train', 'val')
_CUTOUT_SHARE = 0.6  # of the pieces; the others are cut from photographs
_TRIES = 2  # places to look for detail
_ENOUGH_DETAIL = 4.0  # mean difference of neighbouring pixels, of 255; skies and petals have less
_SUFFIXES = {'.jpg', '.png'}
_VIDEO_SUFFIXES = {'.avi', '.mkv', '.mov', '.mp4', '.mpeg', '.mpg', '.webm'}


@DATASETS.register_module()
class RenderedClips(Dataset):
    """Blurry and sharp clips of photographs, moving cut-outs and video, never the same one twice.

    Clip ``index`` depends on the seed, the split and ``index`` only, whichever worker renders it.
    Videos are decoded at once, so that worker processes share them (5 GB are those of
    ``photographs.py``); pictures when they are first needed. Both are then kept in memory.

    Args:
        data_root: Folder with ``SPLIT/backgrounds``, ``SPLIT/cutouts`` and ``SPLIT/videos``, made
            by ``tools/dataset_converters/photographs.py``.
        split: ``'train'`` or ``'val'``.
        length: Number of clips.
        settings: Of ``BlurSettings``. ``blur`` is the range of the strength of clips; their
            ``exposure`` is drawn.
        capture: Of ``CaptureSettings``.
        seed: Non-negative; another seed gives other clips.
        pipeline: Transforms of what has ``img`` and ``gt``, lists of ``(size, size, 3)`` uint8
            RGB, and ``key``.

    Raises:
        UserError: A setting is out of range, or the folder has no pictures, or no videos where
            the settings ask for some.
    """

    def __init__(
        self,
        data_root: str,
        split: str = 'train',
        length: int = 100_000,
        settings: Mapping[str, Any] | None = None,
        capture: Mapping[str, Any] | None = None,
        seed: int = 0,
        pipeline: Sequence[dict] = (),
    ) -> None:
        if split not in SPLITS or length < 1 or seed < 0:
            raise UserError(
                f'RenderedClips: needs split of {SPLITS}, length >= 1 and seed >= 0, '
                f'not {split!r}, {length} and {seed}'
            )
        try:
            self.settings = BlurSettings(**{'num_frames': 8, 'pieces': (0, 3), **(settings or {})})
            self.capture = CaptureSettings(**(capture or {}))
        except (TypeError, ValueError) as error:
            raise UserError(f'RenderedClips: {error}') from error
        self.split, self.length, self.seed = split, length, seed
        self.pipeline = Compose(list(pipeline))
        folder = Path(data_root) / split
        self.backgrounds = _pictures(folder / 'backgrounds', transparent=False)
        self.cutouts = _pictures(folder / 'cutouts', transparent=True)
        self.videos = _videos(folder / 'videos') if self.capture.video_share else []

    @property
    def metainfo(self) -> dict[str, str]:
        """What MMEngine hands to metrics."""
        return {'dataset_type': 'rendered', 'task_name': 'deblur'}

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, item: int | tuple[int, int]) -> Any:
        """What the pipeline makes of a clip, by its index or as ``ResumableSampler`` has it."""
        with seeded_sample(self.seed, item) as index:
            return self.pipeline(self._clip(index))

    def _clip(self, index: int) -> dict[str, Any]:
        rng = np.random.default_rng((self.seed, SPLITS.index(self.split), index))
        if rng.random() < self.capture.video_share:
            video = self.videos[rng.integers(len(self.videos))]
            img, gt = averaged_clip(video, self.settings, self.capture, rng)
        else:
            img, gt = self._rendered(rng)
        return {
            'img': img,
            'gt': gt,
            'key': f'{self.split}_{index:06d}',
            'img_channel_order': 'rgb',
            'gt_channel_order': 'rgb',
        }

    def _rendered(self, rng: np.random.Generator) -> tuple[list[np.ndarray], list[np.ndarray]]:
        """A clip of photographs and cut-outs."""
        take, settings = random_capture(self.settings, self.capture, rng)
        photo = self._place(settings, rng)
        count = rng.integers(settings.pieces[0], settings.pieces[1] + 1)
        pieces = [self._piece(settings.size, rng) for _ in range(count)]
        return take.take(scene_over(to_linear(photo), pieces, settings, rng), settings, rng)

    def _place(self, settings: BlurSettings, rng: np.random.Generator) -> np.ndarray:
        """A random part of a random photograph at a random scale, uint8, for the camera's way."""
        side = math.ceil(2 * (settings.reach + settings.travel * settings.size)) + 1
        return self._detailed_part(max(side, settings.min_side), settings.min_side, rng)

    def _piece(self, size: int, rng: np.random.Generator) -> np.ndarray:
        """A cut-out, or a part of a photograph to cut a piece from."""
        if self.cutouts and rng.random() < _CUTOUT_SHARE:
            return self.cutouts[rng.integers(len(self.cutouts))].pixels
        return self._detailed_part(size, size, rng)

    def _detailed_part(self, side: int, min_side: int, rng: np.random.Generator) -> np.ndarray:
        """A random part in which blur would be seen, if one of a few tries gives that."""
        parts: list[np.ndarray] = []
        for _ in range(_TRIES):
            photo = self.backgrounds[rng.integers(len(self.backgrounds))].pixels
            parts.append(_random_part(photo, side, min_side, rng))
            if _detail(parts[-1]) >= _ENOUGH_DETAIL:
                break
        return max(parts, key=_detail)


class _Picture:
    """An image file, decoded once."""

    def __init__(self, path: Path, transparent: bool) -> None:
        self.path, self.transparent = path, transparent

    @cached_property
    def pixels(self) -> np.ndarray:
        """``(h, w, 3)``, or ``(h, w, 4)`` if transparent, uint8 RGB(A)."""
        flags = cv2.IMREAD_UNCHANGED if self.transparent else cv2.IMREAD_COLOR
        image = cv2.imread(str(self.path), flags)
        if image is None or image.dtype != np.uint8:
            raise UserError(f'{self.path}: not a readable 8-bit image; fetch it again')
        return cv2.cvtColor(image, cv2.COLOR_BGRA2RGBA if self.transparent else cv2.COLOR_BGR2RGB)


def _pictures(folder: Path, transparent: bool) -> list[_Picture]:
    paths = sorted(path for path in folder.glob('*') if path.suffix in _SUFFIXES)
    if not paths and not transparent:
        raise UserError(
            f'{folder}: no photographs; make them with tools/dataset_converters/photographs.py'
        )
    return [_Picture(path, transparent) for path in paths]


def _videos(folder: Path) -> list[Video]:
    paths = sorted(path for path in folder.glob('*') if path.suffix in _VIDEO_SUFFIXES)
    if not paths:
        raise UserError(
            f'{folder}: no videos; fetch them with tools/dataset_converters/photographs.py, or '
            'set video_share to 0'
        )
    return [Video.read(path) for path in paths]


def _random_part(
    photo: np.ndarray, side: int, min_side: int, rng: np.random.Generator
) -> np.ndarray:
    """A part of a photograph at a random scale, of ``side`` pixels or, if it is small, less."""
    short = min(photo.shape[:2])
    if short < min_side:
        factor = min_side / short
        return cv2.resize(photo, None, fx=factor, fy=factor, interpolation=cv2.INTER_CUBIC)
    factor = math.exp(rng.uniform(math.log(min(1, side / short)), 0))
    lengths = [min(length, round(side / factor)) for length in photo.shape[:2]]
    top, left = (
        int(rng.integers(0, have - length + 1))
        for have, length in zip(photo.shape[:2], lengths, strict=True)
    )
    part = photo[top : top + lengths[0], left : left + lengths[1]]
    h, w = (round(length * factor) for length in lengths)
    return cv2.resize(part, (w, h), interpolation=cv2.INTER_AREA) if factor < 1 else part


def _detail(image: np.ndarray) -> float:
    """Mean absolute difference of neighbouring pixels."""
    return float(np.abs(np.diff(image.astype(np.int16), axis=1)).mean())
