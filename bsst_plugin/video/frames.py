"""Frames, how they are shown, and what reads and writes them."""

import os
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np

# Colour codes of the video standards (ITU-T H.273, as FFmpeg numbers them).
BT709, UNSPECIFIED, BT601 = 1, 2, 5
LIMITED_RANGE, FULL_RANGE = 1, 2


@dataclass(frozen=True)
class Frame:
    """A frame of a video.

    Attributes:
        pixels: ``(h, w, 3)`` RGB, uint8 or uint16, as stored, not turned.
        name: Name of its file in a folder of frames.
        alpha: ``(h, w)`` of the same type where the file has transparency.
        grey: Whether the file has one channel.
    """

    pixels: np.ndarray
    name: str
    alpha: np.ndarray | None = None
    grey: bool = False


@dataclass(frozen=True)
class Look:
    """How the pixels of a video are to be shown.

    Attributes:
        pix_fmt: FFmpeg's name of the pixel format.
        colorspace: Code of the matrix between RGB and YUV.
        primaries: Code of the primaries.
        transfer: Code of the transfer function.
        range: 1 for limited, 2 for full range, 0 if not said.
        aspect: Width of a pixel over its height, None if not said.
        matrix: FFmpeg's display matrix, None for upright frames.
    """

    pix_fmt: str = 'yuv420p'
    colorspace: int = BT709
    primaries: int = BT709
    transfer: int = BT709
    range: int = LIMITED_RANGE
    aspect: Fraction | None = None
    matrix: tuple[int, ...] | None = None


class FrameSource(ABC):
    """Frames in order, and when each of them is shown.

    Attributes:
        path: Where they are.
        size: Height and width in pixels.
        deep: Whether pixels have 16 bits.
        names: A file name for each frame.
        look: How to show them.
        times: When each frame is shown, in units of ``time_base``.
        end: When the last one is over.
        time_base: Seconds per unit of time.
        rate: Frames per second, on average.
        broken: Pieces that could not be decoded and are left out, frames as a rule.
    """

    path: Path
    size: tuple[int, int]
    deep: bool
    names: list[str]
    look: Look
    times: list[int]
    end: int
    time_base: Fraction
    rate: Fraction
    broken: int = 0

    @abstractmethod
    def frames(self, start: int = 0) -> Iterator[Frame]:
        """Read the frames from the one with index ``start`` on.

        Raises:
            UserError: A frame cannot be read.
        """

    @property
    @abstractmethod
    def files(self) -> dict[str, tuple[int, int]]:
        """Size and time of change of each file that is read, to notice another input."""


class FrameWriter(ABC):
    """Frames of an output, clip by clip.

    Until :meth:`finish` everything is in the folder ``partial``.

    Args:
        target: Where the output will be.
        partial: Folder for what is unfinished, on the same disk as ``target``; exists when the
            first clip is written.
    """

    def __init__(self, target: Path, partial: Path) -> None:
        self.target, self.partial = target, partial

    @abstractmethod
    def write_clip(self, clip: int, frames: Sequence[Frame]) -> None:
        """Write the frames that clip number ``clip`` finished, again if they were written."""

    @abstractmethod
    def finish(self, clips: int) -> list[str]:
        """Put the output of so many clips in place.

        Returns:
            Lines to tell the user: what could not be kept.
        """


def to_8_bits(pixels: np.ndarray) -> np.ndarray:
    """Pixels of 16 bits as pixels of 8 bits; others as they are."""
    return pixels if pixels.dtype == np.uint8 else np.rint(pixels / 257).astype(np.uint8)


def upright(pixels: np.ndarray, matrix: tuple[int, ...] | None) -> np.ndarray:
    """Turn and mirror pixels as a display matrix says, by multiples of 90 degrees.

    Args:
        pixels: ``(h, w, ...)``.
        matrix: FFmpeg's display matrix (a, b, u, c, d, v, x, y, w): the pixel at (x, y) goes to
            (a x + c y, b x + d y). None leaves the pixels as they are.

    Returns:
        ``(h, w, ...)`` or ``(w, h, ...)``.
    """
    if matrix is None:
        return pixels
    a, b, _, c, d = matrix[:5]
    turned = abs(b) > abs(a)
    if turned:
        pixels = pixels.swapaxes(0, 1)
    if (c if turned else a) < 0:
        pixels = pixels[:, ::-1]
    if (b if turned else d) < 0:
        pixels = pixels[::-1]
    return np.ascontiguousarray(pixels)


def stamp(path: Path) -> tuple[int, int]:
    """Size and time of change of a file."""
    status = os.stat(path)
    return status.st_size, status.st_mtime_ns
