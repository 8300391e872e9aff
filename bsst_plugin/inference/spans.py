"""Overlapping spans of an axis, and what each weighs where it meets its neighbours.

Space and time are cut alike: tiles are spans of rows and columns, clips are spans of frames.
"""

import math
from typing import Literal

import torch
from torch import Tensor

#: ``'cut'`` drops half of the overlap from each side of a border and averages what still
#: overlaps; ``'smooth'`` fades from one span to the next over the overlap (raised cosine).
Merge = Literal['cut', 'smooth']


def plan_spans(total: int, length: int, overlap: int, align: int = 1) -> list[slice]:
    """Spans of one length that cover an axis.

    Args:
        total: Length of the axis, at least 1.
        length: Length of a span. A shorter axis is one span.
        overlap: What neighbours share, in [0, length); the last two may share more.
        align: Spans start at multiples of it, if ``length - overlap`` is one. The last span ends
            with the axis, so that it is up to ``align - 1`` shorter than the others.

    Returns:
        The spans in order: one every ``length - overlap``, and one that ends with the axis.
    """
    last = max(0, total - length)
    last += -last % align
    starts = [*range(0, last, length - overlap), last]
    return [slice(start, min(start + length, total)) for start in starts]


def merge_weight(span: slice, total: int, overlap: int, merge: Merge) -> Tensor:
    """Weight of each position of a span in the mean over all spans.

    Args:
        span: One of :func:`plan_spans`.
        total: Length of the axis; there is no border at its ends.
        overlap: As in :func:`plan_spans`.
        merge: See :data:`Merge`.

    Returns:
        ``(length of the span,)`` float32 in [0, 1]; above 0 everywhere for ``'smooth'``, and
        for each position in at least one span for ``'cut'``.
    """
    position = torch.arange(overlap)
    if merge == 'cut':
        ramp = (position >= overlap // 2).float()
    else:
        ramp = torch.sin((position + 0.5) / max(overlap, 1) * math.pi / 2).square()
    length = span.stop - span.start
    weight = torch.ones(length)
    if span.start > 0:
        weight[:overlap] *= ramp
    if span.stop < total:
        weight[length - overlap :] *= ramp.flip(0)
    return weight
