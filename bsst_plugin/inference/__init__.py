"""Deblurring frames and videos larger than what fits into memory."""

from bsst_plugin.inference.clips import MARGIN, Window, deblur_clips, join_clips, scored_windows
from bsst_plugin.inference.spans import merge_weight, plan_spans
from bsst_plugin.inference.tiling import (
    Tiling,
    deblur_clip,
    estimate_flows,
    plan_tiles,
)

__all__ = [
    'MARGIN',
    'Tiling',
    'Window',
    'deblur_clip',
    'deblur_clips',
    'estimate_flows',
    'join_clips',
    'merge_weight',
    'plan_spans',
    'plan_tiles',
    'scored_windows',
]
