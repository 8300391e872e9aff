"""Training clips of real video, whose blurry frames are averages of its frames.

Real video has what rendered scenes lack: bodies that bend, depth, sharp frames that are a little
blurry themselves, compression. Most of what can be had freely rests on a tripod, so that it is
seen through a camera that moves over it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np

from bsst_plugin.errors import UserError

from .blur_synthesis import BlurSettings, Layer, Scene
from .capture import GAMMA, CaptureSettings, jerky, on_a_tripod, random_count, shakes
from .random_scene import scene_over

LONGEST = 480  # frames of a video that are kept
SHORT_SIDE = 480  # pixels to which larger frames are reduced: video is compressed
_CLOSEST = 1.3  # how much of a video is seen at least, in sizes of a frame
_SHAKE_GAP = (3.5, 7.0)  # see ``BlurSettings``, frames of a video: at 30 Hz 0.12 to 0.23 s
_TRIES = 3  # places to look for motion


@dataclass(frozen=True)
class Video:
    """A decoded video.

    Args:
        path: Its file.
        frames: ``(t, h, w, 3)`` uint8 RGB.
    """

    path: Path
    frames: np.ndarray

    @classmethod
    def read(cls, path: Path) -> Video:
        """Decode a file.

        Raises:
            UserError: It cannot be read.
        """
        capture = cv2.VideoCapture(str(path))
        frames: list[np.ndarray] = []
        while len(frames) < LONGEST:
            there, frame = capture.read()
            if not there:
                break
            factor = SHORT_SIDE / min(frame.shape[:2])
            if factor < 1:
                frame = cv2.resize(frame, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA)
            frames.append(frame[..., ::-1])
        if not frames:
            raise UserError(f'{path}: not a readable video; fetch it again')
        return cls(path, np.stack(frames))


def averaged_clip(
    video: Video, settings: BlurSettings, ranges: CaptureSettings, rng: np.random.Generator
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Average the frames of a random part of a video.

    Args:
        video: Of at least ``3 * settings.num_frames`` frames.
        settings: What is made; ``blur`` is the range of what the camera adds.
        ranges: What is drawn, see ``CaptureSettings.video_share``.
        rng: Source of every random choice.

    Returns:
        Blurry and sharp frames, each ``(size, size, 3)`` uint8 RGB.

    Raises:
        UserError: The video is too short or too small.
    """
    most = len(video.frames) // settings.num_frames
    if most < 3 or min(video.frames.shape[1:3]) < settings.min_side:
        raise UserError(
            f'{video.path}: frames {video.frames.shape[:3]}, needs {3 * settings.num_frames} of '
            f'{settings.min_side} px or more; remove it'
        )
    clips = []
    for _ in range(_TRIES):
        clips.append(_clip(video.frames, most, settings, ranges, rng))
        if _motion(clips[-1]) >= ranges.least_motion:
            break
    return max(clips, key=_motion)


def _clip(
    video: np.ndarray,
    most: int,
    settings: BlurSettings,
    ranges: CaptureSettings,
    rng: np.random.Generator,
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """A clip whose blurry frames are averages of ``most`` frames or fewer."""
    count = min(random_count(ranges, rng), (most - 1) // 2 * 2 + 1)
    start = rng.integers(len(video) - count * settings.num_frames + 1)
    part = video[start : start + count * settings.num_frames]
    gamma = 1.0 if rng.random() < ranges.coded_share else rng.uniform(*GAMMA)
    light = ((np.arange(256) / 255) ** gamma).astype(np.float32)
    closest = max(_CLOSEST * settings.size, settings.min_side) / min(video.shape[1:3])
    factor = math.exp(rng.uniform(math.log(min(1, closest)), 0))
    frames = [light[_reduce(frame, factor)] for frame in part[:: rng.choice((-1, 1))]]
    shown = _through_a_camera(frames, count, settings, ranges, rng)
    groups = shown.reshape(settings.num_frames, count, *shown[0].shape)
    values = np.rint(255 * np.stack((groups.mean(1), groups[:, count // 2])) ** (1 / gamma))
    blurry, sharp = values.astype(np.uint8)
    return list(blurry), list(sharp)


def _through_a_camera(
    frames: list[np.ndarray],
    count: int,
    settings: BlurSettings,
    ranges: CaptureSettings,
    rng: np.random.Generator,
) -> np.ndarray:
    """What a camera sees of frames of which ``count`` make a blurry one: ``(k, size, size, 3)``."""
    longest = min(settings.blur[1], count * ranges.averaged_step / 2)
    settings = replace(settings, exposure=1.0, blur=(0, longest))
    if rng.random() < ranges.tripod_share:
        settings = on_a_tripod(settings)
    elif shakes(ranges, rng):
        settings = replace(settings, shake_gap=rng.uniform(*_SHAKE_GAP) / count)
    elif rng.random() < ranges.jerky_share:
        settings = jerky(settings, rng)
    camera = scene_over(frames[0], (), settings, rng).background.motion
    maps = camera((np.arange(len(frames)) + 0.5) / count - 0.5)
    shown = [
        Scene(Layer(frame, camera)).render(one[None], settings.size)
        for frame, one in zip(frames, maps, strict=True)
    ]
    return np.stack(shown)


def _reduce(frame: np.ndarray, factor: float) -> np.ndarray:
    size = [math.ceil(factor * side) for side in frame.shape[1::-1]]
    return cv2.resize(frame, size, interpolation=cv2.INTER_AREA) if factor < 1 else frame


def _motion(clip: tuple[list[np.ndarray], list[np.ndarray]]) -> float:
    """How much blurry and sharp frames differ."""
    blurry, sharp = (np.stack(frames).astype(np.int16) for frames in clip)
    return float(np.abs(blurry - sharp).mean())
