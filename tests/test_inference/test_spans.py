import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from bsst_plugin.inference import merge_weight, plan_spans


@st.composite
def plans(draw):
    """Total, length and overlap of an axis."""
    length = draw(st.integers(1, 40))
    return draw(st.integers(1, 150)), length, draw(st.integers(0, length - 1))


@given(plans())
def test_spans_start_every_step_and_the_last_ends_with_the_axis(plan):
    total, length, overlap = plan
    spans = plan_spans(total, length, overlap)
    assert spans[0].start == 0 and spans[-1].stop == total
    assert all(span.stop - span.start == min(length, total) for span in spans)
    assert all(span.start == i * (length - overlap) for i, span in enumerate(spans[:-1]))
    # No span is contained in another, and neighbours share at least the overlap.
    for one, two in zip(spans, spans[1:], strict=False):
        assert one.start < two.start and one.stop < two.stop
        assert one.stop - two.start >= overlap


@given(st.integers(1, 400), st.integers(8, 30), st.integers(0, 7))
def test_aligned_spans(total, length, overlap):
    spans = plan_spans(total, 4 * length, 4 * overlap, align=4)
    assert all(span.start % 4 == 0 for span in spans)
    assert spans[0].start == 0 and spans[-1].stop == total
    assert all(span.stop - span.start == 4 * length for span in spans[:-1])
    last = spans[-1].stop - spans[-1].start
    assert last == total if total <= 4 * length else 4 * length - 3 <= last <= 4 * length
    for one, two in zip(spans, spans[1:], strict=False):
        assert one.stop - two.start >= 4 * overlap


def test_tiles_of_the_protocol_on_720p():
    assert [span.start for span in plan_spans(720, 256, 64, align=4)] == [0, 192, 384, 464]
    columns = [span.start for span in plan_spans(1280, 256, 64, align=4)]
    assert columns == [0, 192, 384, 576, 768, 960, 1024]


@pytest.mark.parametrize('merge', ['cut', 'smooth'])
@given(plan=plans())
def test_every_position_has_weight(merge, plan):
    total, length, overlap = plan
    weights = torch.zeros(total)
    for span in plan_spans(total, length, overlap):
        weight = merge_weight(span, total, overlap, merge)
        assert weight.shape == (span.stop - span.start,)
        assert weight.min() >= 0 and weight.max() <= 1
        assert merge == 'cut' or weight.min() > 0
        weights[span] += weight
    assert weights.min() > 0


def test_cut_drops_half_the_overlap_at_interior_borders():
    first, middle, last = plan_spans(28, 12, 4)
    cut = [0] * 2 + [1] * 8 + [0] * 2
    assert merge_weight(middle, 28, 4, 'cut').tolist() == cut
    assert merge_weight(first, 28, 4, 'cut').tolist() == [1] * 2 + cut[2:]
    assert merge_weight(last, 28, 4, 'cut').tolist() == cut[:10] + [1] * 2


def test_smooth_fades_of_neighbours_add_up_to_one():
    first, second = plan_spans(56, 32, 8)
    fade_out = merge_weight(first, 56, 8, 'smooth')[-8:]
    fade_in = merge_weight(second, 56, 8, 'smooth')[:8]
    torch.testing.assert_close(fade_out + fade_in, torch.ones(8))
    assert (fade_in.diff() > 0).all() and fade_in[0] < 0.02
