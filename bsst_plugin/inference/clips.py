"""Videos of any length in bounded memory: which frames the network sees at a time."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from bsst_plugin.inference.spans import Merge, merge_weight, plan_spans
from bsst_plugin.inference.tiling import Flows, Tiling, deblur_clip

#: Frames at each end of a clip that see too little of their past or future.
MARGIN = 2
#: Frames that neighbouring clips share.
OVERLAP = 2 * MARGIN


@dataclass(frozen=True)
class Window:
    """A clip of a video in evaluation.

    Args:
        frames: The frames that the network sees.
        scored: Those of them that are scored, as indices of the video.
    """

    frames: slice
    scored: range


def scored_windows(total: int, length: int = 48, margin: int = MARGIN) -> list[Window]:
    """Windows of the paper's evaluation.

    A window starts every ``length - 2 * margin`` frames and the last one ends with the video. The
    outer ``margin`` frames of a window are not scored, and a frame covered twice is scored in the
    earlier window: of 100 frames, windows of 48 score 2-45, 46-89 and 90-97.

    Args:
        total: Frames of the video, at least 1.
        length: Frames of a window, more than ``2 * margin``; a shorter video is one window.
        margin: Frames at each end of a window that are not scored.

    Returns:
        The windows in order. A video of up to ``2 * margin`` frames, which would leave none to
        score, is scored on all.
    """
    if total <= 2 * margin:
        return [Window(slice(0, total), range(total))]
    windows: list[Window] = []
    scored = margin
    for frames in plan_spans(total, length, 2 * margin):
        windows.append(Window(frames, range(scored, frames.stop - margin)))
        scored = frames.stop - margin
    return windows


def deblur_clips(
    network: nn.Module,
    lqs: Tensor,
    flows: Flows | None = None,
    tiling: Tiling | None = None,
    num_frames: int | None = None,
) -> Tensor:
    """Run a network on a video clip by clip, and on each clip tile by tile.

    Args:
        network: See :func:`deblur_clip`.
        lqs: ``(n, t, 3, h, w)``, blurry frames in [0, 1].
        flows: See :func:`deblur_clip`.
        tiling: See :func:`deblur_clip`; clips are merged as tiles are.
        num_frames: Frames of a clip, None for all; neighbours share ``OVERLAP`` of them.

    Returns:
        ``(n, t, 3, h, w)`` float32 on the device of ``lqs``.
    """
    tiling = Tiling() if tiling is None else tiling
    clips = plan_spans(lqs.shape[1], num_frames or lqs.shape[1], OVERLAP)
    outputs = (
        deblur_clip(network, lqs[:, clip], _cut_flows(flows, clip), tiling) for clip in clips
    )
    return torch.cat(list(join_clips(clips, outputs, OVERLAP, tiling.merge)), dim=1)


def join_clips(
    clips: list[slice], outputs: Iterable[Tensor], overlap: int, merge: Merge
) -> Iterator[Tensor]:
    """Join clips that overlap, holding one clip and what the next one will add to.

    Args:
        clips: From :func:`plan_spans`.
        outputs: Frames of each clip, ``(n, t, c, h, w)`` float32; taken one at a time and changed.
        overlap: Frames that clips share.
        merge: How to join them.

    Yields:
        Frames ``(n, t, c, h, w)`` float32, as soon as they are finished: joined along t they are
        the video.
    """
    total = clips[-1].stop
    outputs = iter(outputs)
    begun: tuple[Tensor, Tensor] | None = None  # what earlier clips add to the next, and weights
    for index, clip in enumerate(clips):
        # While the next clip is computed, nothing is held but what is begun: no zip, which keeps
        # what it gave last, and names are dropped.
        frames = next(outputs)
        weight = merge_weight(clip, total, overlap, merge).to(frames.device)  # (t,)
        frames *= weight.view(-1, 1, 1, 1)
        if begun is not None:
            shared = len(begun[1])
            frames[:, :shared] += begun[0]
            weight[:shared] += begun[1]
        stop = clips[index + 1].start if index + 1 < len(clips) else total
        done = stop - clip.start
        begun = frames[:, done:].clone(), weight[done:]
        finished = frames[:, :done]
        finished /= weight[:done].view(-1, 1, 1, 1)
        yield finished
        del frames, finished


def _cut_flows(flows: Flows | None, clip: slice) -> Flows | None:
    if flows is None:
        return None
    flows_forward, flows_backward = (flow[:, clip.start : clip.stop - 1] for flow in flows)
    return flows_forward, flows_backward
