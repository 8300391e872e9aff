"""The web page, looked at with a browser."""

import re
import shutil
import subprocess
from pathlib import Path

import cv2
import numpy as np
import pytest

from bsst_plugin.visualization.report import MAX_POINTS, MAX_SIDE, Pair, to_jpeg, write_report

BROWSER = shutil.which('chromium') or shutil.which('chromium-browser') or shutil.which('chrome')
NEEDS_BROWSER = pytest.mark.skipif(BROWSER is None, reason='needs chromium')
RED, GREEN = (np.full((120, 160, 3), colour, np.uint8) for colour in ((220, 0, 0), (0, 160, 0)))


def page(path: Path, pairs: int = 2, count: int = 50) -> str:
    made = [Pair(f'frame {i} <b>', to_jpeg(RED), to_jpeg(GREEN)) for i in range(pairs)]
    seconds = np.arange(count) / 25
    settings = {'input': 'my <video> & sound.mp4', 'frames at a time': 24}
    motion = 3 + 2 * np.sin(seconds)
    write_report(path, 'my <video> & sound.mp4, deblurred', made, seconds, motion, settings)
    return path.read_text('utf-8')


def browse(page: Path, *arguments: str) -> str:
    """Open a page in a headless browser; its standard output."""
    command = [BROWSER, '--headless', '--no-sandbox', '--disable-gpu', '--hide-scrollbars']
    command += [f'--user-data-dir={page.parent / "profile"}', *arguments, page.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout


def screenshot(page: Path) -> np.ndarray:
    picture = page.with_suffix('.png')
    browse(page, '--window-size=1200,1000', f'--screenshot={picture}')
    return cv2.imread(str(picture))[..., ::-1].astype(int)


def areas(picture: np.ndarray) -> tuple[int, int]:
    """Red and green pixels of a screenshot."""
    near = [np.abs(picture - colour).max(2) < 12 for colour in (RED[0, 0], GREEN[0, 0])]
    return int(near[0].sum()), int(near[1].sum())


def test_page_needs_nothing_else_and_is_replaced_as_a_whole(tmp_path):
    path = tmp_path / 'index.html'
    path.write_text('old')
    text = page(path)
    assert not re.search(r'(src|href)="(?!data:)', re.sub(r'xlink:href="#|href="#', '', text))
    assert '@import' not in text and 'url(#' in text
    assert 'my &lt;video&gt; &amp; sound.mp4' in text and '<video>' not in text
    assert '<b>' not in text
    assert list(tmp_path.iterdir()) == [path]


def test_large_frames_are_reduced_and_many_points_joined(tmp_path):
    frame = np.zeros((3000, 1000, 3), np.uint8)
    image = cv2.imdecode(np.frombuffer(to_jpeg(frame), np.uint8), cv2.IMREAD_COLOR)
    assert image.shape[0] == MAX_SIDE and image.shape[1] == pytest.approx(MAX_SIDE / 3, abs=1)
    assert len(page(tmp_path / 'a.html', 1, 100_000)) < 60 * MAX_POINTS


def test_no_motion_no_plot(tmp_path):
    write_report(tmp_path / 'a.html', 'a', [Pair('b', to_jpeg(RED), to_jpeg(RED))], [0], [], {})
    assert '<svg' not in (tmp_path / 'a.html').read_text()


@NEEDS_BROWSER
def test_slider_uncovers_the_deblurred_frame(tmp_path):
    text = page(tmp_path / 'index.html')
    red, green = areas(screenshot(tmp_path / 'index.html'))
    assert red > 50_000 and red == pytest.approx(green, rel=0.1)
    for value, share in ((100, 1.0), (0, 0.0), (25, 0.25)):
        moved = tmp_path / f'{value}.html'
        script = f"""<script>
            for (const slider of document.querySelectorAll('input')) {{
              slider.value = {value};
              slider.dispatchEvent(new Event('input'));
            }}</script>"""
        moved.write_text(text.replace('</body>', script + '</body>'), 'utf-8')
        now_red, now_green = areas(screenshot(moved))
        assert now_red / (now_red + now_green) == pytest.approx(share, abs=0.05)


@NEEDS_BROWSER
def test_what_the_browser_makes_of_the_page(tmp_path):
    page(tmp_path / 'index.html')
    dom = browse(tmp_path / 'index.html', '--dump-dom')
    assert dom.count('style="--cut: 50%') == 2  # the script ran
    assert dom.count('<figure>') == 2 and '<svg' in dom
    assert '<th>frames at a time</th><td>24</td>' in dom
    picture = screenshot(tmp_path / 'index.html')
    curve = np.abs(picture - (217, 115, 13)).max(2) < 20
    assert curve.sum() > 300  # the plot is seen
