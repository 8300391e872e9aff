"""Pictures and videos that show results side by side."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import av
import numpy as np
from matplotlib.figure import Figure


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
