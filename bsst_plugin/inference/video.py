"""Deblurring a video frame by frame from its source, in memory that its length does not change."""

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import chain, islice, starmap
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bsst_plugin.errors import UserError
from bsst_plugin.inference.clip_plan import ClipPlan
from bsst_plugin.inference.clips import OVERLAP, join_clips
from bsst_plugin.inference.memory import release_memory
from bsst_plugin.inference.spans import plan_spans
from bsst_plugin.inference.tiling import Flows, deblur_clip, estimate_flows, plan_tiles
from bsst_plugin.video import Frame, FrameSource
from bsst_plugin.visualization.views import View

# Networks take no smaller frames.
MIN_SIZE = 16
# As many neighbours as a look at a single frame needs.
SAMPLE_FRAMES = 12


@dataclass
class FinishedClip:
    """What is finished once a clip was deblurred.

    Attributes:
        index: Number of the clip.
        start: Index of the first frame.
        frames: The frames that are finished, as they were.
        deblurred: The same frames, sharp.
        motion: Root mean square of the motion in each of these frames, in pixels per frame; empty
            if the network estimates no flow.
        views: For each view that was asked for, a picture of each of these frames, ``(h, w, 3)``
            uint8.
        tail: ``(1, o, 3, h, w)`` float32, what the network made of the frames that the next clip
            adds to.
    """

    index: int
    start: int
    frames: list[Frame]
    deblurred: list[Frame] = field(default_factory=list)
    motion: list[float] = field(default_factory=list)
    views: dict[str, list[np.ndarray]] = field(default_factory=dict)
    tail: Tensor = field(default_factory=lambda: torch.empty(0))


class VideoDeblurring:
    """The clips of a video, deblurred one after the other.

    Clips overlap in time and tiles in space; both fade into each other.

    Args:
        network: Maps ``(n, t, 3, h, w)`` in [0, 1] to the same shape; on the device where it
            shall run.
        source: The video.
        plan: How to cut it; its tiles become smaller when a GPU runs out of memory.
        amp: Type of autocast, None for none.
        views: What to draw beside the result, by name; for networks that estimate flow.
        on_progress: Called with the number of frames that were done since the last call, which
            need not be whole.
    """

    def __init__(
        self,
        network: nn.Module,
        source: FrameSource,
        plan: ClipPlan,
        amp: torch.dtype | None = None,
        views: Mapping[str, View] | None = None,
        on_progress: Callable[[float], None] = lambda frames: None,
    ) -> None:
        self.network, self.source, self.plan, self.amp = network, source, plan, amp
        self.views, self.on_progress = dict(views or {}), on_progress
        self.total = len(source.times)
        self.device = next(network.parameters(), torch.empty(0)).device
        estimator: Any = getattr(network, 'flow_estimator', None)
        self.has_flow = estimator is not None
        if estimator is not None and plan.flow_pixels is not None:
            estimator.max_pixels = plan.flow_pixels
        overlap = min(OVERLAP, plan.num_frames - 1)
        self.clips = plan_spans(self.total, plan.num_frames, overlap)
        self.overlap = overlap

    def read_until(self, clip: int) -> int:
        """Number of frames that were read when clip number ``clip`` - 1 was finished."""
        return self.clips[clip - 1].stop if clip else 0

    def start_of(self, clip: int) -> int:
        """Index of the first frame that clip number ``clip`` finishes."""
        return self.clips[clip].start if clip < len(self.clips) else self.total

    def run(
        self, first: int = 0, tails: Mapping[int, Tensor] | None = None
    ) -> Iterator[FinishedClip]:
        """Deblur.

        Args:
            first: Number of the clip to begin with.
            tails: :attr:`FinishedClip.tail` of the ``OVERLAP`` clips before it.

        Yields:
            The clips as they are finished.

        Raises:
            UserError: A frame cannot be read, or memory does not suffice.
        """
        if first == len(self.clips):
            return
        # So many share frames with the next one at most: clips of 5 frames are one frame apart.
        before = max(first - OVERLAP, 0)
        finished: deque[FinishedClip] = deque()
        outputs = chain(
            (self._padded_tail(clip, (tails or {})[clip]) for clip in range(before, first)),
            self._outputs(first, finished),
        )
        joined = join_clips(self.clips[before:], outputs, self.overlap, 'smooth')
        for frames in islice(joined, first - before, None):
            clip = finished.popleft()
            pairs = zip(frames[0], clip.frames, strict=True)
            clip.deblurred = list(starmap(_to_frame, pairs))
            del frames, pairs
            yield clip
            del clip  # only the next one is needed while it is made
            release_memory()

    def sample(self, index: int) -> tuple[Frame, Frame]:
        """A frame as it is and sharp, from a clip of its own, for a look before the run."""
        length = min(self.plan.num_frames, SAMPLE_FRAMES)
        start = max(0, min(index - length // 2, self.total - length))
        frames = list(islice(self.source.frames(start), length))
        out = self._deblur(frames, FinishedClip(0, start, []))
        frame = frames[index - start]
        return frame, _to_frame(out[0, index - start], frame)

    def _outputs(self, first: int, finished: deque[FinishedClip]) -> Iterator[Tensor]:
        """What the network makes of each clip, ``(1, t, 3, h, w)``."""
        source = self.source.frames(self.clips[first].start)
        buffer: deque[Frame] = deque()
        for index in range(first, len(self.clips)):
            span = self.clips[index]
            stop = self.clips[index + 1].start if index + 1 < len(self.clips) else span.stop
            if index > first:
                for _ in range(span.start - self.clips[index - 1].start):
                    buffer.popleft()
            buffer.extend(islice(source, span.stop - span.start - len(buffer)))
            if len(buffer) < span.stop - span.start:
                raise UserError(f'{self.source.path}: ends earlier than before; has it changed?')
            done = stop - span.start
            clip = FinishedClip(index, span.start, list(buffer)[:done])
            out = self._deblur(buffer, clip)
            clip.tail = out[:, done:].clone()
            finished.append(clip)
            yield out
            del out

    def _deblur(self, frames: Sequence[Frame], clip: FinishedClip) -> Tensor:
        """Run the network on a clip, and note what was asked for of the frames it finishes."""
        lqs = _to_tensor(frames)
        height, width = lqs.shape[-2:]
        pad = (0, max(MIN_SIZE - width, 0), 0, max(MIN_SIZE - height, 0))
        if any(pad):
            lqs = F.pad(lqs[0], pad, mode='replicate')[None]
        with (
            torch.no_grad(),
            torch.autocast(self.device.type, self.amp, enabled=self.amp is not None),
            self._progress(lqs, len(clip.frames)),
        ):
            flows = estimate_flows(self.network, lqs) if self.has_flow else None
            release_memory()  # what the estimator freed would add to what the network takes
            if flows is not None:
                done = len(clip.frames)
                clip.motion = _motion(flows)[:done]
                for name, view in self.views.items():
                    pictures = view(self.network, lqs, flows, self.plan.tiling)[:done]
                    clip.views[name] = [picture[:height, :width] for picture in pictures]
            out = deblur_clip(self.network, lqs, flows, self.plan.tiling)
        return out[..., :height, :width]

    @contextmanager
    def _progress(self, lqs: Tensor, frames: int) -> Iterator[None]:
        """Report progress tile by tile."""
        height, width = lqs.shape[-2:]
        tiles = len(list(plan_tiles(height, width, self.plan.tiling, align=4)))
        left = float(frames)

        def advance(*_: object) -> None:
            nonlocal left
            step = min(frames / tiles, left)  # tiles may be done again, smaller
            left -= step
            self.on_progress(step)

        hook = self.network.register_forward_hook(advance)
        try:
            yield
        finally:
            hook.remove()
        self.on_progress(left)

    def _padded_tail(self, clip: int, tail: Tensor) -> Tensor:
        """The tail of a clip in its place; the frames before it are finished."""
        span = self.clips[clip]
        frames = tail.new_zeros((1, span.stop - span.start, *tail.shape[2:]))
        frames[:, frames.shape[1] - tail.shape[1] :] = tail
        return frames


def _to_tensor(frames: Sequence[Frame]) -> Tensor:
    """``(1, t, 3, h, w)`` float32 in [0, 1]."""
    height, width = frames[0].pixels.shape[:2]
    out = torch.empty((1, len(frames), 3, height, width))
    for index, frame in enumerate(frames):
        out[0, index] = torch.from_numpy(frame.pixels.astype(np.float32)).permute(2, 0, 1)
        out[0, index] /= np.iinfo(frame.pixels.dtype).max
    return out


def _to_frame(pixels: Tensor, frame: Frame) -> Frame:
    """The frame with other pixels, ``(3, h, w)`` in [0, 1]."""
    kind = frame.pixels.dtype
    rounded = pixels.clamp(0, 1).mul_(np.iinfo(kind).max).round_().permute(1, 2, 0).numpy()
    return replace(frame, pixels=np.ascontiguousarray(rounded, dtype=kind))


def _motion(flows: Flows) -> list[float]:
    """Root mean square of the motion to both neighbours of each frame, in pixels."""
    to_previous, to_next = (16 * flow[0].square().sum(1).mean((1, 2)) for flow in flows)  # (t-1,)
    if not len(to_next):
        return [0.0]
    inner = (to_previous[:-1] + to_next[1:]) / 2
    return torch.cat((to_next[:1], inner, to_previous[-1:])).sqrt().tolist()
