"""Random scenes for blur synthesis: camera paths over photographs and moving cut-outs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from scipy.interpolate import CubicSpline, PchipInterpolator, PPoly

from .blur_synthesis import BlurSettings, Layer, Scene, content_steps, square_corners, to_linear

_LOOP_KNOTS = 7  # control points of a camera path
_TURN, _ZOOM = 0.2, 0.05  # of a shaking hand, at the corners of the frame, in parts of the shift
_SOFT_EDGE = 1.5  # pixels from outside to inside of a cut-out: how sharp photographed edges are


@dataclass(frozen=True)
class RandomMotion:
    """A ride along a smooth closed path, at a speed that changes all the time.

    Path and speed are separate, so that translation, rotation and zoom come to rest together:
    otherwise no frame would be sharp.

    Args:
        path: Closed curve of poses (x, y, angle in radians, log of the scale).
        knots: Values of the path's parameter at ``lengths``.
        lengths: Way from the start of the path, pixels.
        way: Way gone at a time, pixels.
        origin: Centre of rotation and zoom in what the layer is seen through (x, y).
        target: Pixel (x, y) of the layer that is there when the pose is zero.
    """

    path: CubicSpline
    knots: np.ndarray
    lengths: np.ndarray
    way: PPoly
    origin: tuple[float, float]
    target: tuple[float, float]

    def __call__(self, times: np.ndarray) -> np.ndarray:
        """Maps ``(k, 3, 3)`` at times ``(k,)``."""
        way = self.way(times) % self.lengths[-1]
        return _similarity(
            self.path(np.interp(way, self.lengths, self.knots)), self.origin, self.target
        )


@dataclass(frozen=True)
class Shake:
    """A camera in a hand that shakes: smooth in time, but neither even nor straight.

    Args:
        poses: Pose (x, y, angle in radians, log of the scale) at a time.
        origin: See ``RandomMotion``.
        target: See ``RandomMotion``.
    """

    poses: CubicSpline
    origin: tuple[float, float]
    target: tuple[float, float]

    def __call__(self, times: np.ndarray) -> np.ndarray:
        """Maps ``(k, 3, 3)`` at times ``(k,)``."""
        return _similarity(self.poses(times), self.origin, self.target)


def random_scene(
    background: np.ndarray,
    cutouts: Sequence[np.ndarray],
    settings: BlurSettings,
    rng: np.random.Generator,
) -> Scene:
    """Draw a scene: a camera over a photograph and one moving piece of each cut-out picture.

    Args:
        background: ``(h, w, 3)`` uint8, channels in any order; sides of at least
            ``settings.min_side``.
        cutouts: ``(h, w, 3)`` uint8, of which a random soft-edged piece is cut, or ``(h, w, 4)``
            with alpha last, which is used whole.
        settings: What is rendered.
        rng: Source of every random choice.

    Returns:
        The scene; the camera never sees beyond the photograph.

    Raises:
        ValueError: the background is too small.
    """
    short, size = min(background.shape[:2]), settings.size
    if short < settings.min_side:
        raise ValueError(f'photograph of {short} px; frames of {size} need {settings.min_side} px')
    # Large photographs are reduced: the frame shows more of them and shows it sharper.
    sides = np.maximum(np.array([1.25, 2.0]) * size, settings.min_side)
    photo = _shrink(to_linear(background), rng.uniform(*np.minimum(1, sides / short)))
    return scene_over(photo, cutouts, settings, rng)


def scene_over(
    photo: np.ndarray,
    cutouts: Sequence[np.ndarray],
    settings: BlurSettings,
    rng: np.random.Generator,
) -> Scene:
    """Draw a scene over a photograph that has the scale it is to be seen at.

    Args:
        photo: ``(h, w, 3)`` float32 linear light; sides of at least ``settings.min_side``.
        cutouts: See ``random_scene``.
        settings: What is rendered.
        rng: Source of every random choice.
    """
    size = settings.size
    room = np.array(photo.shape[1::-1]) / 2 - 0.5 - settings.reach
    shift = np.clip(room, 0, settings.travel * size)
    centre = np.array(photo.shape[1::-1]) / 2 - 0.5 + rng.uniform(-1, 1, 2) * (room - shift)
    bounds = np.array([*shift, math.radians(settings.angle), math.log1p(settings.zoom)])
    middle = (size - 1) / 2
    draw = random_motion if settings.shake_gap is None else random_shake
    camera = draw((middle, middle), tuple(centre), size, bounds, settings, rng)
    pieces = tuple(_random_piece(picture, centre, settings, rng) for picture in cutouts)
    return Scene(Layer(photo, camera), pieces)


def random_motion(
    origin: tuple[float, float],
    target: tuple[float, float],
    span: float,
    bounds: np.ndarray,
    settings: BlurSettings,
    rng: np.random.Generator,
) -> RandomMotion:
    """Draw a motion.

    Args:
        origin: See ``RandomMotion``.
        target: See ``RandomMotion``.
        span: Side of the square around ``origin`` whose corners' way is the way gone, pixels.
        bounds: Largest x, y, angle and log of the scale, ``(4,)``; never exceeded.
        settings: What is rendered.
        rng: Source of every random choice.
    """
    points = rng.uniform(-1, 1, (_LOOP_KNOTS, 4))
    knots = np.linspace(0, _LOOP_KNOTS, 64 * _LOOP_KNOTS + 1)
    grid = np.arange(_LOOP_KNOTS + 1)
    curve = CubicSpline(grid, points[grid % _LOOP_KNOTS], bc_type='periodic')
    points *= bounds / np.maximum(1, np.abs(curve(knots)).max(0))  # the curve overshoots points
    path = CubicSpline(grid, points[grid % _LOOP_KNOTS], bc_type='periodic')
    steps = content_steps(_similarity(path(knots), origin, target), square_corners(origin, span))
    lengths = np.concatenate(([0.0], np.cumsum(steps + 1e-9)))  # increasing, even without motion

    gap = settings.speed_gap
    times = np.arange(-2, settings.num_frames + 3 * gap, gap)
    speed = rng.uniform(0, 1, len(times)) ** 2
    slowest = settings.slowest
    speed = slowest + (1 - slowest) * (speed - speed.min()) / np.ptp(speed)
    # On a short path (a photograph hardly larger than the frame) a long blur would go in circles.
    longest = min(rng.uniform(*settings.blur), lengths[-1] / 6)
    speed *= longest / settings.exposure
    # Monotone between its points, this interpolation never falls below the lowest speed.
    way = PchipInterpolator(times, speed).antiderivative()
    return RandomMotion(path, knots, lengths, way, origin, target)


def random_shake(
    origin: tuple[float, float],
    target: tuple[float, float],
    span: float,
    bounds: np.ndarray,
    settings: BlurSettings,
    rng: np.random.Generator,
) -> Shake:
    """Draw how a hand shakes, see :func:`random_motion`; ``settings.shake_gap`` is given."""
    gap = settings.shake_gap
    assert gap is not None
    times = np.arange(-2, settings.num_frames + 3 * gap, gap)
    corner = span / math.sqrt(2)
    # Poses at which corners move by about a pixel, of what may change.
    points = rng.standard_normal((len(times), 4)) * (1, 1, _TURN / corner, _ZOOM / corner)
    points *= bounds > 0
    frames = np.arange(settings.num_frames)[:, None]
    moments = frames + np.linspace(-0.5, 0.5, 33) * settings.exposure
    poses = CubicSpline(times, points)(moments.ravel())
    maps = _similarity(poses, origin, target)
    steps = content_steps(maps, square_corners(origin, span))
    way = np.append(steps, 0).reshape(moments.shape)[:, :-1].sum(1)
    most = np.abs(poses).max(0)
    reach = np.min(bounds[most > 0] / most[most > 0], initial=np.inf)
    strength = min(rng.uniform(*settings.blur) / (way.max() + 1e-9), reach)
    return Shake(CubicSpline(times, strength * points), origin, target)


def _random_piece(
    picture: np.ndarray, centre: np.ndarray, settings: BlurSettings, rng: np.random.Generator
) -> Layer:
    """A piece of a picture, moving near ``centre`` (x, y), a pixel of the background."""
    image = _cut_out(picture, settings.size, rng)
    middle = np.array(image.shape[1::-1]) / 2 - 0.5
    place = centre + rng.uniform(-0.4, 0.4, 2) * settings.size
    # It moves in the scene, on top of the camera's motion, and turns more than a camera does.
    bounds = np.array([*rng.uniform(0.1, 0.4, 2) * settings.size, rng.uniform(0, 0.25), 0.1])
    span = max(image.shape[:2])
    return Layer(image, random_motion(tuple(place), tuple(middle), span, bounds, settings, rng))


def _cut_out(picture: np.ndarray, size: int, rng: np.random.Generator) -> np.ndarray:
    """A foreground piece ``(h, w, 4)``, linear light multiplied by alpha, from 8-bit pixels."""
    diameter = rng.uniform(0.25, 0.55) * size
    if picture.shape[2] == 4:
        alpha = picture[..., 3:].astype(np.float32) / 255
        rgba = np.concatenate((to_linear(picture[..., :3]) * alpha, alpha), axis=2)
        return _framed(_shrink(rgba, min(1, diameter / max(picture.shape[:2]))))
    short = min(picture.shape[:2])
    side = int(rng.uniform(min(short, max(diameter, 0.3 * short)), short))
    top, left = (int(rng.integers(0, length - side + 1)) for length in picture.shape[:2])
    crop = to_linear(picture[top : top + side, left : left + side])
    crop = _shrink(crop, min(1, diameter / side))
    alpha = _blob(crop.shape[0], rng)[..., None]
    return _framed(np.concatenate((crop * alpha, alpha), axis=2))


def _blob(side: int, rng: np.random.Generator) -> np.ndarray:
    """A smooth random shape with soft edges, ``(side, side)`` float32 in [0, 1]."""
    y, x = np.mgrid[:side, :side] - (side - 1) / 2
    angle = np.arctan2(y, x)
    outline = np.ones_like(angle)
    for wave in range(2, 5):
        turn = rng.uniform(0, 2 * math.pi)
        outline += rng.uniform(0, 0.5 / wave) * np.cos(wave * angle + turn)
    outline *= (side / 2 - 1) / outline.max()
    return np.clip((outline - np.hypot(x, y)) / _SOFT_EDGE + 0.5, 0, 1).astype(np.float32)


def _framed(rgba: np.ndarray) -> np.ndarray:
    """Add transparent pixels around, for an alpha that is not zero at the border."""
    return np.pad(rgba, ((2, 2), (2, 2), (0, 0)))


def _shrink(image: np.ndarray, factor: float) -> np.ndarray:
    """Reduce by a factor of at most 1 with an area filter, which does not alias."""
    h, w = (max(1, round(side * factor)) for side in image.shape[:2])
    return image if factor >= 1 else cv2.resize(image, (w, h), interpolation=cv2.INTER_AREA)


def _similarity(
    poses: np.ndarray, origin: tuple[float, float], target: tuple[float, float]
) -> np.ndarray:
    """Maps ``(k, 3, 3)`` of poses ``(k, 4)``: turn and scale about origin, shift to target."""
    x, y, angle, log_scale = poses.T
    scale = np.exp(log_scale)
    cosine, sine = scale * np.cos(angle), scale * np.sin(angle)
    maps = np.zeros((len(poses), 3, 3))
    maps[:, 0, 0], maps[:, 0, 1] = cosine, -sine
    maps[:, 1, 0], maps[:, 1, 1] = sine, cosine
    maps[:, 0, 2] = target[0] + x - cosine * origin[0] + sine * origin[1]
    maps[:, 1, 2] = target[1] + y - sine * origin[0] - cosine * origin[1]
    maps[:, 2, 2] = 1
    return maps
