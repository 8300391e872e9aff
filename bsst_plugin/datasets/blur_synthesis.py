"""Blurry and sharp clips from still photographs.

A camera moves over a photograph while pieces of other photographs move in front of it. Their
positions are functions of continuous time (unit: frames), so a blurry frame is what a shutter
does: the average, in linear light, of many sharp renderings within its exposure. The sharp frame
is the rendering at mid-exposure, and the blur follows the motion between frames.

`random_scene.py` draws scenes; `render_linear` gives their frames in linear light, which is where
sensor noise or another response curve belongs; `render_clip` gives 8 bit.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import cv2
import numpy as np

_OWN_RENDERINGS = 3  # of a frame that is averaged

#: Times ``(k,)`` to maps ``(k, 3, 3)``; a map takes a pixel (x, y, 1) of what the layer is seen
#: through (the frame for the background, the background for a piece) to a pixel of the layer.
Motion = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class BlurSettings:
    """What is rendered; lengths in pixels of the frame, times in frames.

    Args:
        num_frames: Frames per clip.
        size: Height and width of a frame.
        exposure: Part of the time between two frames during which the shutter is open, (0, 1].
        blur: Range of the longest blur of a clip: how far a corner of the frame moves during the
            exposure when the camera is fastest. At other times it moves less.
        slowest: Lowest speed as a part of the highest. Near zero some frames are almost sharp, as
            in real shaky video.
        angle: Largest rotation of the camera to either side, degrees.
        zoom: Largest relative change of scale.
        travel: Largest translation to either side, as a part of ``size``.
        pieces: Range of the number of foreground pieces, both ends included.
        max_step: Longest way between two successive renderings of one exposure; above about one
            pixel the blur falls apart into copies.
        speed_gap: Frames between the times that the speed is drawn for: short ones are jerky.
        shake_gap: Frames between the times that the place of a camera in a shaking hand is drawn
            for; None for one that goes smoothly. A hand turns back within a fifth of a second.
    """

    num_frames: int = 24
    size: int = 256
    exposure: float = 0.8
    blur: tuple[float, float] = (8.0, 24.0)
    slowest: float = 0.03
    angle: float = 3.0
    zoom: float = 0.03
    travel: float = 0.3
    pieces: tuple[int, int] = (1, 2)
    max_step: float = 0.8
    speed_gap: float = 2.5
    shake_gap: float | None = None

    def __post_init__(self) -> None:
        ranges = self.blur[0] <= self.blur[1] and 0 <= self.pieces[0] <= self.pieces[1]
        if not (self.num_frames >= 1 and self.size >= 16 and ranges and self.blur[0] >= 0):
            raise ValueError(f'needs num_frames >= 1, size >= 16 and ascending ranges: {self}')
        if not (0 < self.exposure <= 1 and self.max_step > 0 and 0 <= self.angle <= 45):
            raise ValueError(f'needs 0 < exposure <= 1, max_step > 0, 0 <= angle <= 45: {self}')
        if not (0 <= self.zoom < 1 and self.travel >= 0 and 0 < self.slowest <= 1):
            raise ValueError(f'needs 0 <= zoom < 1, travel >= 0, 0 < slowest <= 1: {self}')
        if not (self.speed_gap > 0 and (self.shake_gap is None or self.shake_gap > 0)):
            raise ValueError(f'needs speed_gap > 0 and shake_gap > 0: {self}')

    @property
    def reach(self) -> float:
        """Pixels of a photograph that the turned and zoomed-out frame needs around its centre."""
        angle = math.radians(self.angle)
        return (self.size - 1) / 2 * (math.cos(angle) + math.sin(angle)) * (1 + self.zoom)

    @property
    def min_side(self) -> int:
        """Shortest side of a photograph that leaves the camera a little room to move."""
        return math.ceil(2 * self.reach + 1 + 0.04 * self.size)


@dataclass(frozen=True)
class Layer:
    """A picture and how it moves.

    Args:
        image: ``(h, w, 3)`` opaque or ``(h, w, 4)`` with alpha last, colour multiplied by alpha;
            float32, linear light in [0, 1].
        motion: See ``Motion``.
    """

    image: np.ndarray
    motion: Motion


@dataclass(frozen=True)
class Scene:
    """A background and the pieces that move in front of it, back to front."""

    background: Layer
    pieces: tuple[Layer, ...] = ()

    def maps(self, times: np.ndarray) -> np.ndarray:
        """Where each layer is seen: ``(layers, k, 3, 3)``, frame pixels to layer pixels."""
        camera = self.background.motion(times)
        return np.stack([camera, *(piece.motion(times) @ camera for piece in self.pieces)])

    def render(self, maps: np.ndarray, size: int) -> np.ndarray:
        """One sharp picture ``(size, size, 3)``, linear light, from maps ``(layers, 3, 3)``."""
        frame = _sample(self.background.image, maps[0], (size, size), cv2.BORDER_REFLECT_101)
        for piece, matrix in zip(self.pieces, maps[1:], strict=True):
            left, top, right, bottom = _seen_box(piece.image, matrix, size)
            if left >= right or top >= bottom:
                continue
            shift = np.array([[1, 0, left], [0, 1, top], [0, 0, 1]])
            box = (right - left, bottom - top)
            rgba = _sample(piece.image, matrix @ shift, box, cv2.BORDER_CONSTANT)
            behind = frame[top:bottom, left:right]
            behind *= 1 - np.clip(rgba[..., 3:], 0, 1)  # cubic interpolation overshoots a little
            behind += rgba[..., :3]
        return np.clip(frame, 0, 1, out=frame)


def to_linear(image: np.ndarray) -> np.ndarray:
    """Linear light, float32 in [0, 1], from 8-bit sRGB of any shape."""
    value = np.arange(256) / 255
    table = np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)
    return table.astype(np.float32)[image]


def to_srgb(linear: np.ndarray) -> np.ndarray:
    """8-bit sRGB from linear light in [0, 1]; what is outside is clipped."""
    value = np.clip(linear, 0, 1)
    curve = 1.055 * value ** (1 / 2.4) - 0.055
    return np.rint(255 * np.where(value <= 0.0031308, 12.92 * value, curve)).astype(np.uint8)


@dataclass(frozen=True)
class Recording:
    """Video that is averaged, frame by frame, as pairs of blurry and sharp frames are made.

    Args:
        frames: How many make a blurry one; an even number is raised by one.
        shutter: Part of the time between two of them for which each is exposed itself, [0, 1].
        held: Which ones repeat the one before, as video does whose rate was raised,
            ``(num_frames * frames,)`` bool; None for none.
    """

    frames: int
    shutter: float = 0.0
    held: np.ndarray | None = None

    def exposures(self, settings: BlurSettings) -> np.ndarray:
        """Times of the renderings: ``(num_frames, frames, renderings)``."""
        times = np.arange(settings.num_frames)[:, None] + settings.exposure * _spread(self.frames)
        if self.held is not None:
            shown = np.where(self.held, 0, np.arange(times.size))
            times = times.ravel()[np.maximum.accumulate(shown)].reshape(times.shape)
        gap = settings.exposure / times.shape[1]
        own = gap * self.shutter * _spread(_OWN_RENDERINGS if self.shutter else 1)
        return times[..., None] + own


def render_linear(
    scene: Scene, settings: BlurSettings, recording: Recording | None = None
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield blurry and sharp frames, each ``(size, size, 3)`` float32 linear light in [0, 1].

    Args:
        scene: What is seen.
        settings: What is rendered.
        recording: What is averaged; None takes as many renderings as ``settings.max_step`` asks
            for.
    """
    recorded = None if recording is None else recording.exposures(settings)
    for time in range(settings.num_frames):
        if recorded is not None:
            exposures = recorded[time]
        else:
            count = _count_renderings(scene, time, settings)
            exposures = time + settings.exposure * _spread(count)[:, None]
        total = np.zeros((settings.size, settings.size, 3), np.float32)
        for i, times in enumerate(exposures):
            maps = scene.maps(times).swapaxes(0, 1)
            frame = np.mean([scene.render(one, settings.size) for one in maps], axis=0)
            total += frame
            if i == len(exposures) // 2:  # of an odd number: at mid-exposure
                sharp = frame
        yield total / len(exposures), sharp


def render_clip(scene: Scene, settings: BlurSettings) -> tuple[np.ndarray, np.ndarray]:
    """Blurry and sharp clip, each ``(num_frames, size, size, 3)`` uint8 sRGB."""
    frames = [(to_srgb(blur), to_srgb(sharp)) for blur, sharp in render_linear(scene, settings)]
    return np.stack([blur for blur, _ in frames]), np.stack([sharp for _, sharp in frames])


def _spread(count: int) -> np.ndarray:
    """Evenly spaced middles of an odd number of parts of an exposure, in (-0.5, 0.5)."""
    count = count // 2 * 2 + 1
    return (np.arange(count) + 0.5) / count - 0.5


def _count_renderings(scene: Scene, time: float, settings: BlurSettings) -> int:
    """How many renderings an exposure needs, from the fastest corner of the fastest layer."""
    probes = 16
    times = time + settings.exposure * np.linspace(-0.5, 0.5, probes + 1)
    middle = (settings.size - 1) / 2
    corners = square_corners((middle, middle), settings.size)
    fastest = max(content_steps(maps, corners).max() for maps in scene.maps(times)) * probes
    return math.ceil(fastest / settings.max_step - 1e-6)


def _sample(image: np.ndarray, matrix: np.ndarray, box: tuple[int, int], border: int) -> np.ndarray:
    """A picture of width and height ``box`` whose pixels ``matrix`` maps into ``image``."""
    # Bilinear would soften frames by an amount that depends on where between pixels they fall.
    flags = cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP
    return cv2.warpAffine(image, matrix[:2], box, flags=flags, borderMode=border)


def _seen_box(image: np.ndarray, matrix: np.ndarray, size: int) -> tuple[int, int, int, int]:
    """Where a frame shows ``image``: left, top, right, bottom; empty if it is out of view."""
    h, w = image.shape[:2]
    corners = np.array([[-1, w, -1, w], [-1, -1, h, h], [1, 1, 1, 1]])
    corners = cv2.invertAffineTransform(matrix[:2]) @ corners
    low = np.clip(np.floor(corners.min(1)), 0, size)
    high = np.clip(np.ceil(corners.max(1)) + 1, 0, size)
    return int(low[0]), int(low[1]), int(high[0]), int(high[1])


def square_corners(centre: tuple[float, float], span: float) -> np.ndarray:
    """Corners ``(3, 4)`` of a square, homogeneous."""
    x, y = centre
    half = span / 2
    return np.array([[x + i * half, y + j * half, 1] for i in (-1, 1) for j in (-1, 1)]).T


def content_steps(maps: np.ndarray, points: np.ndarray) -> np.ndarray:
    """How far the content at ``points`` moves from each of k maps to the next, ``(k - 1,)``."""
    moved = np.linalg.inv(maps[1:]) @ maps[:-1] @ points - points
    return np.hypot(moved[:, 0], moved[:, 1]).max(-1)
