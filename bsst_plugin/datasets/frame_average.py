"""Blurry frames as averages of successive sharp ones, as GoPro and REDS were made.

A long exposure gathers the light of several short ones. GoPro adds up 7 to 13 frames of a 240 Hz
camera (Nah et al., CVPR 2017); REDS first interpolates 120 Hz video to 1920 Hz, so that fast motion
does not fall apart into copies, and adds up 65 of those, 5 of the original frames and what lies
between them (Nah et al., CVPRW 2019). The sharp frame is the one in the middle.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice, pairwise

import cv2
import numpy as np
import torch

from bsst_plugin.models.flow import DISFlow

_ITERATIONS = 5  # to find where a pixel comes from
_TOLERANCE = 0.5  # pixels by which it may be missed
_FLOOR = 1e-3  # of the trust in a frame: where neither is to be trusted, both count


@dataclass(frozen=True)
class AverageSettings:
    """How sharp frames become a blurry one.

    Args:
        frames: Successive frames for each blurry one, odd; the next takes those after them.
        gamma: Stored values are light to the power ``1 / gamma``. 2.2 makes what GoPro calls
            ``blur_gamma``, 1 averages stored values as its ``blur`` does.
        interpolate: Frames for each original one; above 1, those between are interpolated and
            added up too.
    """

    frames: int = 11
    gamma: float = 2.2
    interpolate: int = 1

    def __post_init__(self) -> None:
        if self.frames < 3 or self.frames % 2 == 0:
            raise ValueError(f'frames must be odd and at least 3, not {self.frames}')
        if not 0.1 <= self.gamma <= 10:
            raise ValueError(f'gamma must be between 0.1 and 10, not {self.gamma}')
        if self.interpolate < 1:
            raise ValueError(f'interpolate must be at least 1, not {self.interpolate}')

    @property
    def light(self) -> np.ndarray:
        """Light ``(256,)`` float32 in [0, 1] of each stored value."""
        return ((np.arange(256) / 255) ** self.gamma).astype(np.float32)


def average_frames(
    frames: Iterable[np.ndarray], settings: AverageSettings
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Make blurry and sharp frames of a video, one after the other.

    The frames of one pair are in memory at a time. Those at the end that are too few for a pair are
    left out.

    Args:
        frames: ``(h, w, 3)`` uint8 RGB, all of one size.
        settings: How many make a blurry one, and how.

    Yields:
        A blurry and a sharp frame, each ``(h, w, 3)`` uint8 RGB.
    """
    light, stream = settings.light, iter(frames)
    while len(group := list(islice(stream, settings.frames))) == settings.frames:
        total = light[group[0]]
        for before, frame in pairwise(group):
            for between in in_between(before, frame, settings):
                total += between
            total += light[frame]
        mean = total / ((settings.frames - 1) * settings.interpolate + 1)
        blurry = np.rint(255 * mean ** (1 / settings.gamma)).astype(np.uint8)
        yield blurry, group[settings.frames // 2]


def in_between(
    first: np.ndarray, second: np.ndarray, settings: AverageSettings
) -> Iterator[np.ndarray]:
    """Interpolate between two frames, at the times s / N for s = 1 to N - 1.

    Both frames are warped to the time in between along their own flow to the other, and blended by
    closeness in time. What one of them does not show, because it is hidden there or outside, is
    taken from the other.

    Args:
        first: ``(h, w, 3)`` uint8.
        second: The next frame.
        settings: N is ``interpolate``.

    Yields:
        Light ``(h, w, 3)`` float32 in [0, 1].
    """
    count = settings.interpolate
    if count == 1:
        return
    flows = _flow(first, second), _flow(second, first)
    lights = settings.light[first], settings.light[second]
    for step in range(1, count):
        time = step / count
        pictures, weights = [], []
        for light, flow, part in zip(lights, flows, (time, 1 - time), strict=True):
            origin, trust = _origin(flow, part)
            pictures.append(_sample(light, origin, cv2.INTER_CUBIC))
            weights.append((1 - part) * np.maximum(trust, _FLOOR))
        share = (weights[1] / (weights[0] + weights[1]))[..., None]  # (h, w, 1)
        yield np.clip(pictures[0] + share * (pictures[1] - pictures[0]), 0, 1)


def _flow(frame: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Flow ``(h, w, 2)`` from a frame to the other, pixels."""
    pair = [torch.from_numpy(f).permute(2, 0, 1)[None].float() / 255 for f in (frame, other)]
    return np.ascontiguousarray(DISFlow().estimate(*pair)[0].permute(1, 2, 0).numpy())


def _origin(flow: np.ndarray, part: float) -> tuple[np.ndarray, np.ndarray]:
    """Where each pixel was before it moved by a part of the flow.

    Returns:
        Position (x, y) ``(h, w, 2)`` in the frame, and how far it is to be trusted, ``(h, w)``.
    """
    # The pixel at p comes from the x with x + part * flow(x) = p. Where nothing moves to, as the
    # frame does not show what comes into view there, this does not settle.
    h, w = flow.shape[:2]
    grid = np.stack(np.meshgrid(np.arange(w), np.arange(h)), -1).astype(np.float32)
    origin = grid - part * flow
    for _ in range(_ITERATIONS):
        before, origin = origin, grid - part * _sample(flow, origin)
    inside = np.clip(origin, 0, np.array([w - 1, h - 1], np.float32))
    return origin, _trust(origin - before) * _trust(origin - inside)


def _sample(
    picture: np.ndarray, position: np.ndarray, interpolation: int = cv2.INTER_LINEAR
) -> np.ndarray:
    """Sample at positions (x, y) ``(h, w, 2)``; outside, the border goes on."""
    return cv2.remap(picture, position, None, interpolation, borderMode=cv2.BORDER_REPLICATE)


def _trust(error: np.ndarray) -> np.ndarray:
    """From 1 down to 0 for vectors ``(..., 2)`` that should be zero."""
    return np.exp(-(error**2).sum(-1) / (2 * _TOLERANCE**2))
