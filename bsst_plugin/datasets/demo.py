"""The clips that demo and contest train on."""

import os

from .blur_synthesis import BlurSettings
from .render import render_dataset

DEMO_CLIPS = {'train': 24, 'test': 12}
#: Short clips, as training sees 6 frames at a time, and a strong shake that never quite rests: in
#: minutes a network learns to sharpen, but not yet to leave alone what is sharp already.
DEMO_SETTINGS = BlurSettings(num_frames=12, blur=(14.0, 26.0), slowest=0.25)


def render_demo_clips(dst: str | os.PathLike[str]) -> bool:
    """Render them into a folder, see :func:`render_dataset`; False if they are there already."""
    return render_dataset(dst, clips=DEMO_CLIPS, settings=DEMO_SETTINGS)
