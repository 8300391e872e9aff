"""A web page about a deblurred video, in one file that needs no other."""

import base64
import html
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from string import Template

import cv2
import matplotlib
import numpy as np
from matplotlib.figure import Figure

from bsst_plugin.files import whole_file

TEMPLATE = Path(__file__).with_name('report.html')
# Larger pictures are reduced: the page carries all of them.
MAX_SIDE = 1600
# Points of the plot; of longer videos the largest value of each stretch is drawn.
MAX_POINTS = 2000

FIGURE = """<figure>
<div class="pair">
<img src="data:image/jpeg;base64,{after}" width="{width}" height="{height}" alt="deblurred">
<img class="before" src="data:image/jpeg;base64,{before}" alt="blurry">
<span class="name left">blurry</span><span class="name right">deblurred</span>
<input type="range" min="0" max="100" step="0.1" value="50" aria-label="blurry part of {name}">
</div>
<figcaption>{name}</figcaption>
</figure>"""


@dataclass(frozen=True)
class Pair:
    """A frame before and after, as the page shows it.

    Attributes:
        name: What to write below it.
        before: The blurry frame, a JPEG file.
        after: The deblurred frame, a JPEG file of the same size.
    """

    name: str
    before: bytes
    after: bytes


def to_jpeg(pixels: np.ndarray) -> bytes:
    """A frame ``(h, w, 3)`` uint8 RGB as a JPEG file for :class:`Pair`."""
    scale = MAX_SIDE / max(pixels.shape[:2])
    if scale < 1:
        pixels = cv2.resize(pixels, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    bgr = cv2.cvtColor(np.ascontiguousarray(pixels), cv2.COLOR_RGB2BGR)
    return cv2.imencode('.jpg', bgr, [cv2.IMWRITE_JPEG_QUALITY, 92])[1].tobytes()


def write_report(
    path: Path,
    title: str,
    pairs: Sequence[Pair],
    seconds: Sequence[float],
    motion: Sequence[float],
    settings: Mapping[str, object],
) -> None:
    """Write the page.

    Args:
        path: The file; it is replaced as a whole.
        title: Heading.
        pairs: Frames to compare.
        seconds: When each frame of the video is shown.
        motion: Length of the motion in each frame, in pixels per frame; empty for no plot.
        settings: What the video was made with.
    """
    figures, width = [], 0
    for pair in pairs:
        image = cv2.imdecode(np.frombuffer(pair.after, np.uint8), cv2.IMREAD_COLOR)
        height, width = image.shape[:2]
        # Small frames are shown larger, or there is nothing to see.
        width, height = (side * max(1, round(480 / image.shape[1])) for side in (width, height))
        before, after = (base64.b64encode(data).decode() for data in (pair.before, pair.after))
        name = html.escape(pair.name)
        figures.append(
            FIGURE.format(before=before, after=after, name=name, width=width, height=height)
        )
    rows = [
        f'<tr><th>{html.escape(key)}</th><td>{html.escape(str(value))}</td></tr>'
        for key, value in settings.items()
    ]
    plot = ''
    if len(motion):
        svg = _plot(np.asarray(seconds), np.asarray(motion))
        plot = f'<h2>Blur over time</h2>\n<div class="plot">\n{svg}\n</div>'
    page = Template(TEMPLATE.read_text('utf-8')).substitute(
        title=html.escape(title),
        figures='\n'.join(figures),
        plot=plot,
        settings='\n'.join(rows),
        width=width,
    )
    with whole_file(path) as file:
        file.write(page.encode())


def _plot(seconds: np.ndarray, motion: np.ndarray) -> str:
    """The motion over time as SVG."""
    stretch = -(-len(motion) // MAX_POINTS)
    starts = np.arange(0, len(motion), stretch)
    with matplotlib.rc_context({'svg.fonttype': 'none', 'svg.hashsalt': 'report'}):
        figure = Figure(figsize=(10, 3), layout='constrained')
        axes = figure.subplots()
        marker = 'o' if len(starts) < 50 else None
        values = np.maximum.reduceat(motion, starts)
        axes.plot(seconds[starts], values, color='#d9730d', marker=marker, markersize=3)
        axes.set_xlabel('time (s)')
        axes.set_ylabel('motion (pixels per frame)')
        axes.set_ylim(bottom=0)
        axes.margins(x=0.01)
        axes.grid(alpha=0.3)
        axes.spines[['top', 'right']].set_visible(False)
        text = io.StringIO()
        figure.savefig(text, format='svg', metadata={'Date': None})
    svg = text.getvalue()
    return svg[svg.index('<svg') :]
