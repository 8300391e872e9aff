import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from bsst_plugin.inference import (
    Tiling,
    clips,
    deblur_clips,
    join_clips,
    plan_spans,
    scored_windows,
)


def test_windows_of_the_protocol():
    windows = scored_windows(100)
    assert [window.frames for window in windows] == [slice(0, 48), slice(44, 92), slice(52, 100)]
    assert [list(window.scored) for window in windows] == [
        list(range(2, 46)),
        list(range(46, 90)),
        list(range(90, 98)),
    ]


@pytest.mark.parametrize('length', [5, 6, 12, 24, 36, 48, 60])
def test_every_frame_from_the_third_to_the_third_last_is_scored_once(length):
    for total in range(5, 201):
        windows = scored_windows(total, length)
        scored = [frame for window in windows for frame in window.scored]
        assert scored == list(range(2, total - 2)), total
        for index, window in enumerate(windows):
            assert window.frames.stop - window.frames.start == min(length, total)
            assert len(window.scored) > 0
            # Two frames at each end of the window are not scored.
            assert window.frames.start + 2 <= window.scored.start
            assert window.scored.stop <= window.frames.stop - 2
            # No earlier window could have scored any of its frames.
            for earlier in windows[:index]:
                assert window.scored.start >= earlier.frames.stop - 2


@pytest.mark.parametrize('total', [1, 2, 3, 4])
def test_too_short_videos_are_scored_on_all_frames(total):
    (window,) = scored_windows(total)
    assert window.frames == slice(0, total) and list(window.scored) == list(range(total))


@given(st.integers(1, 80), st.integers(0, 4), st.integers(1, 20))
def test_other_margins(total, margin, more):
    windows = scored_windows(total, 2 * margin + more, margin)
    scored = [frame for window in windows for frame in window.scored]
    outer = margin if total > 2 * margin else 0
    assert scored == list(range(outer, total - outer))


class OverTime(nn.Module):
    """Mean of each frame and its two neighbours on both sides; replicates the ends."""

    def __init__(self):
        super().__init__()
        self.lengths = []

    def forward(self, lqs):
        self.lengths.append(lqs.shape[1])
        t = lqs.shape[1]
        index = (torch.arange(t)[:, None] + torch.arange(-2, 3)).clamp(0, t - 1)
        return lqs[:, index].mean(2)


@given(t=st.integers(1, 60), length=st.integers(5, 24))
@settings(max_examples=40, deadline=None)
def test_clips_are_cut_where_the_windows_of_the_protocol_are_scored(t, length):
    network, lqs = OverTime(), torch.rand(1, t, 3, 4, 5)
    whole = network(lqs)
    out = deblur_clips(network, lqs, num_frames=length)
    torch.testing.assert_close(out, whole)
    assert max(network.lengths[1:]) <= length


@given(t=st.integers(1, 50), length=st.integers(2, 20), data=st.data(), n=st.sampled_from([1, 2]))
@settings(max_examples=40, deadline=None)
def test_joined_clips_are_the_weighted_mean_of_all_clips(t, length, data, n):
    overlap = data.draw(st.integers(0, length - 1))
    spans = plan_spans(t, length, overlap)
    outputs = [torch.rand(n, span.stop - span.start, 3, 2, 2) for span in spans]
    total, weights = torch.zeros(n, t, 3, 2, 2), torch.zeros(t)
    for span, output in zip(spans, outputs, strict=True):
        weight = clips.merge_weight(span, t, overlap, 'smooth')
        for i, frame in enumerate(range(span.start, span.stop)):
            total[:, frame] += weight[i] * output[:, i]
            weights[frame] += weight[i]
    joined = torch.cat(list(join_clips(spans, outputs, overlap, 'smooth')), 1)
    torch.testing.assert_close(joined, total / weights.view(-1, 1, 1, 1))


def test_finished_frames_are_handed_out_before_the_next_clip_is_asked_for():
    spans = plan_spans(40, 12, 4)
    asked = []

    def outputs():
        for span in spans:
            asked.append(span)
            yield torch.full((1, 12, 3, 1, 1), float(len(asked)))

    frames = 0
    for index, finished in enumerate(join_clips(spans, outputs(), 4, 'smooth')):
        frames += finished.shape[1]
        assert len(asked) == index + 1
        assert frames == ([*(span.start for span in spans), 40])[index + 1]
    assert frames == 40


def test_smooth_clips_leave_no_step():
    class Brighter(nn.Module):
        calls = 0

        def forward(self, lqs):
            self.calls += 1
            return lqs * 0 + self.calls

    lqs = torch.zeros(1, 40, 3, 2, 2)
    out = deblur_clips(Brighter(), lqs, tiling=Tiling(merge='smooth'), num_frames=12)
    brightness = out[0, :, 0, 0, 0]
    # Clips differ by 1; half of the fade's four steps are the steepest, below 0.4 each.
    assert brightness.diff().max() < 0.4
    cut = deblur_clips(Brighter(), lqs, num_frames=12)[0, :, 0, 0, 0]
    assert cut.diff().max() == 1


def test_given_flows_are_cut_in_time():
    class Viewer(nn.Module):
        flow_estimator = None

        def forward(self, lqs, flows):
            forward, backward = flows
            assert forward.shape[1] == backward.shape[1] == lqs.shape[1] - 1
            seen = torch.cat([forward, backward[:, :, :1]], 2).repeat_interleave(4, -1)
            return F.pad(seen.repeat_interleave(4, -2), (0, 0, 0, 0, 0, 0, 0, 1))

    t = 20
    number = torch.arange(t - 1.0).view(1, -1, 1, 1, 1).expand(1, t - 1, 2, 2, 2)
    out = deblur_clips(
        Viewer(), torch.zeros(1, t, 3, 8, 8), flows=(number, number + 100), num_frames=9
    )
    torch.testing.assert_close(out[0, : t - 1, 0, 0, 0], torch.arange(t - 1.0))
    torch.testing.assert_close(out[0, : t - 1, 2, 0, 0], torch.arange(t - 1.0) + 100)
