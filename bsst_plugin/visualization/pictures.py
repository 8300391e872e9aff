"""Pictures and videos that show results side by side."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import av
import cv2
import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

# Side of a detail as a part of the frame's.
DETAIL = 0.25


def save_comparison(
    path: str | Path,
    columns: Mapping[str, Sequence[np.ndarray]],
    row_names: Sequence[str],
    column_width: float = 3.0,
) -> None:
    """Save a table of pictures.

    Args:
        path: A file that matplotlib can write, its folder exists.
        columns: For each title the pictures below it, ``(h, w, 3)`` uint8 RGB.
        row_names: A name for each row.
        column_width: Width of a picture in inches, of 120 pixels each.
    """
    first = next(iter(columns.values()))[0]
    width = column_width * len(columns)
    height = column_width * len(row_names) * first.shape[0] / first.shape[1]
    figure = Figure(figsize=(width + 0.4, height + 0.5), layout='constrained')
    grid = figure.subplots(len(row_names), len(columns), squeeze=False)
    for column, (title, pictures) in enumerate(columns.items()):
        grid[0, column].set_title(title)
        for row, picture in enumerate(pictures):
            grid[row, column].imshow(picture, interpolation='lanczos')
            grid[row, column].set_xticks([])
            grid[row, column].set_yticks([])
    for row, name in enumerate(row_names):
        grid[row, 0].set_ylabel(name)
    figure.savefig(path, dpi=120)


def most_changed(before: np.ndarray, after: np.ndarray) -> tuple[slice, slice]:
    """The part of a frame where two pictures of it differ most, a quarter of each side.

    Args:
        before: ``(h, w, 3)`` uint8.
        after: Same shape.

    Returns:
        Its rows and columns.
    """
    height, width = before.shape[:2]
    rows, columns = max(1, int(DETAIL * height)), max(1, int(DETAIL * width))
    change = cv2.absdiff(before, after).sum(2).astype(np.float32)
    sums = cv2.boxFilter(change, -1, (columns, rows), anchor=(0, 0))
    inside = sums[: height - rows + 1, : width - columns + 1]
    top, left = np.unravel_index(int(inside.argmax()), inside.shape)
    return slice(int(top), int(top) + rows), slice(int(left), int(left) + columns)


def save_details(
    path: str | Path,
    title: str,
    pictures: Mapping[str, np.ndarray],
    detail: tuple[slice, slice],
    columns: int = 4,
    width: float = 2.4,
) -> None:
    """Save a frame as a whole and the same detail of several versions of it.

    Args:
        path: A file that matplotlib can write, its folder exists.
        title: Name of the frame.
        pictures: The versions by their titles, ``(h, w, 3)`` uint8 RGB; the first is shown whole.
        detail: Rows and columns of the detail.
        columns: Pictures beside each other.
        width: Width of a picture in inches, of 120 pixels each.
    """
    rows, cols = detail
    whole = next(iter(pictures.values()))
    count = len(pictures) + 1
    columns = min(columns, count)
    lines = -(-count // columns)
    shape = whole.shape[0] / whole.shape[1]
    figure = Figure(figsize=(columns * width, lines * (width * shape + 0.3)), layout='constrained')
    axes = figure.subplots(lines, columns, squeeze=False).flat
    shown = {title: whole, **{name: image[rows, cols] for name, image in pictures.items()}}
    for axis in axes:
        axis.set_axis_off()
    for axis, (name, image) in zip(figure.axes, shown.items(), strict=False):
        axis.imshow(image, interpolation='lanczos')
        axis.set_title(name, fontsize='medium')
    size = (cols.stop - cols.start, rows.stop - rows.start)
    corner = (cols.start - 0.5, rows.start - 0.5)
    figure.axes[0].add_patch(Rectangle(corner, *size, fill=False, edgecolor='orange', linewidth=2))
    figure.savefig(path, dpi=120)


def save_video(path: str | Path, frames: Sequence[np.ndarray], fps: int = 12) -> None:
    """Save an H.264 video that plays everywhere.

    Args:
        path: The file, its ending says the container; its folder exists.
        frames: ``(h, w, 3)`` uint8 RGB; an odd last row or column is cut off, as the pixel format
            needs even sizes.
        fps: Frames per second.
    """
    height, width = (size // 2 * 2 for size in frames[0].shape[:2])
    with av.open(str(path), 'w') as container:
        stream = container.add_stream('libx264', rate=fps, options={'crf': '16'})
        stream.width, stream.height, stream.pix_fmt = width, height, 'yuv420p'
        for frame in frames:
            picture = np.ascontiguousarray(frame[:height, :width])
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format='rgb24')))
        container.mux(stream.encode())
