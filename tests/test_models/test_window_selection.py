import math
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bsst_plugin.models import (
    BlurAwareSelection,
    DenseSelection,
    RandomSelection,
    ReleasedSelection,
)


def places(token_blur, window):
    n, _, rows, columns = token_blur.shape
    return np.ndindex(n, rows // window[0], columns // window[1])


def definition(token_blur, window, block, theta, query_ratio, key_ratio):
    t = token_blur.shape[1]
    chosen = {}
    for clip, i, j in places(token_blur, window):
        u = []
        for frame in range(t):
            blur = 0.0
            for y in range(i * window[0], (i + 1) * window[0]):
                for x in range(j * window[1], (j + 1) * window[1]):
                    blur = max(blur, token_blur[clip, frame, y, x].item())
            u.append(blur)
        if max(u) < theta:
            continue
        blurriest = sorted(range(t), key=lambda f: (-u[f], f))  # noqa: B023
        parity = [f for f in range(t) if f % 2 == block % 2] or list(range(t))
        sharpest = sorted(parity, key=lambda f: (u[f], f))  # noqa: B023
        k_q, k_kv = (max(math.ceil(Fraction(r) * t), 1) for r in (query_ratio, key_ratio))
        chosen[clip, i, j] = blurriest[:k_q], sharpest[:k_kv]
    return chosen


@st.composite
def token_blurs(draw, max_t=9):
    """Blur of few distinct values, so that ties are common."""
    n, t = draw(st.integers(1, 2)), draw(st.integers(1, max_t))
    window = draw(st.sampled_from([(2, 2), (4, 4), (2, 4)]))
    shape = (n, t, window[0] * draw(st.integers(1, 3)), window[1] * draw(st.integers(1, 3)))
    rng = np.random.RandomState(draw(st.integers(0, 9999)))
    levels = draw(st.integers(1, 8))
    sparse = rng.rand(*shape) < draw(st.sampled_from([0.05, 0.5, 1.0]))
    blur = rng.randint(0, levels + 1, shape) / levels * sparse
    return torch.from_numpy(blur.astype(np.float32)), window


@settings(max_examples=80, deadline=None)
@given(
    blur=token_blurs(),
    block=st.integers(0, 5),
    theta=st.sampled_from([0.0, 0.25, 0.5, 1.0]),
    query_ratio=st.sampled_from([0.0, 0.25, 0.5, 1.0]),
    key_ratio=st.sampled_from([0.0, 0.25, 0.5, 1.0]),
)
def test_blur_aware_selection_is_its_definition(
    as_dict, blur, block, theta, query_ratio, key_ratio
):
    token_blur, window = blur
    selection = BlurAwareSelection(theta, query_ratio, key_ratio)(token_blur, window, block)
    expected = definition(token_blur, window, block, theta, query_ratio, key_ratio)
    assert as_dict(selection) == expected


def test_the_paper_s_settings_are_the_defaults(as_dict):
    token_blur = torch.rand(1, 8, 8, 16) * (torch.rand(1, 8, 1, 1) < 0.5)
    selection = BlurAwareSelection()(token_blur, (8, 8), 1)
    assert as_dict(selection) == definition(token_blur, (8, 8), 1, 0.3, 0.5, 0.5)
    assert selection.query_frames.shape[1] == 4
    assert selection.key_frames.shape[1] == 4


@pytest.mark.parametrize('theta', [0.3, 0.5])
def test_a_window_as_blurry_as_theta_is_blurry(theta):
    token_blur = torch.zeros(1, 3, 4, 8)
    token_blur[0, 2, 1, 6] = theta
    token_blur[0, 0, 0, 0] = np.nextafter(np.float32(theta), np.float32(0)).item()
    selection = BlurAwareSelection(theta)(token_blur, (4, 4), 0)
    assert selection.places.tolist() == [[0, 0, 1]]


@pytest.mark.parametrize('block', [0, 1])
def test_ties_go_to_the_earlier_frame_of_a_long_clip_too(as_dict, block):
    """Short clips would be sorted in order by chance."""
    selection = BlurAwareSelection()(torch.ones(1, 96, 4, 4), (4, 4), block)
    expected = (list(range(48)), list(range(block, 96, 2)))
    assert as_dict(selection) == {(0, 0, 0): expected}


def test_one_frame_answers_itself_in_odd_blocks_too(as_dict):
    selection = BlurAwareSelection()(torch.ones(1, 1, 4, 4), (4, 4), 1)
    assert as_dict(selection) == {(0, 0, 0): ([0], [0])}


@settings(max_examples=80, deadline=None)
@given(
    blur=token_blurs(max_t=18),
    block=st.integers(0, 5),
    kind=st.sampled_from([BlurAwareSelection, DenseSelection, ReleasedSelection]),
)
def test_every_index_is_valid_and_no_frame_comes_twice(as_dict, blur, block, kind):
    token_blur, window = blur
    n, t, rows, columns = token_blur.shape
    grid = (n, rows // window[0], columns // window[1])
    selection = kind()(token_blur, window, block)
    assert selection.places.dtype == torch.int64
    assert len(set(map(tuple, selection.places.tolist()))) == len(selection.places)
    for place, (queries, keys) in as_dict(selection).items():
        assert all(0 <= index < size for index, size in zip(place, grid, strict=True))
        for frames in (queries, keys):
            assert len(frames) >= 1
            assert len(set(frames)) == len(frames)
            assert set(frames) <= set(range(t))


@settings(max_examples=20, deadline=None)
@given(blur=token_blurs(), block=st.integers(0, 3))
def test_dense_selection_takes_everything(as_dict, blur, block):
    token_blur, window = blur
    everyone = list(range(token_blur.shape[1]))
    expected = {place: (everyone, everyone) for place in places(token_blur, window)}
    assert as_dict(DenseSelection()(token_blur, window, block)) == expected


@settings(max_examples=20, deadline=None)
@given(blur=token_blurs(), block=st.integers(0, 3))
def test_masks_draw_the_selection(as_dict, blur, block):
    token_blur, window = blur
    n, t, rows, columns = token_blur.shape
    grid = (rows // window[0], columns // window[1])
    selection = BlurAwareSelection()(token_blur, window, block)
    masks = selection.masks(n, t, *grid)
    chosen = as_dict(selection)
    for clip, frame, i, j in np.ndindex(n, t, *grid):
        for mask, frames in zip(masks, chosen.get((clip, i, j), ([], [])), strict=True):
            assert mask[clip, frame, i, j] == (frame in frames)


def released(token_blur, window, num_blocks, theta=0.3):
    """The released code, with the tensor that it reuses from block to block."""
    n, t, rows, columns = token_blur.shape
    m, n_w = rows // window[0], columns // window[1]
    blur = torch.zeros(n, t, 1, m, n_w)
    for clip, frame, i, j in np.ndindex(n, t, m, n_w):
        tile = token_blur[
            clip,
            frame,
            i * window[0] : (i + 1) * window[0],
            j * window[1] : (j + 1) * window[1],
        ]
        blur[clip, frame, 0, i, j] = tile.mean()
    u = blur.clone()
    blocks = []
    for block in range(num_blocks):
        own, other = list(range(block % 2, t, 2)), list(range(1 - block % 2, t, 2))
        k = len(own) // 2
        u[:, other] = 0  # never restored
        v = 1 - u
        v[:, other] = 0
        queries = torch.argsort(u, 1, True)[:, :k, 0]
        keys = torch.argsort(v, 1, True)[:, :k, 0]
        chosen = {}
        for clip, i, j in np.ndindex(n, m, n_w):
            if any(blur[clip, frame, 0, i, j] > theta for frame in own):
                chosen[clip, i, j] = (
                    queries[clip, :, i, j].tolist(),
                    keys[clip, :, i, j].tolist(),
                )
        blocks.append(chosen)
    return blocks


@pytest.mark.parametrize('t', [4, 8, 12, 16])
@pytest.mark.parametrize('seed', [0, 1, 2])
def test_released_selection_is_the_released_code(as_dict, t, seed):
    rng = np.random.RandomState(seed)
    level = rng.rand(2, t, 4, 4).repeat(4, axis=2).repeat(4, axis=3)
    token_blur = torch.from_numpy((0.7 * level * rng.rand(2, t, 16, 16)).astype(np.float32))
    expected = released(token_blur, (4, 4), 4)
    assert 0 < len(expected[0])
    selection = ReleasedSelection()
    for block in (2, 0, 3, 1):  # the order of the calls does not matter here
        assert as_dict(selection(token_blur, (4, 4), block)) == expected[block]


def test_released_selection_needs_more_than_theta_in_the_parity_of_the_block():
    token_blur = torch.zeros(1, 4, 2, 6)
    token_blur[0, 1] = 0.5
    token_blur[0, 2, :, 2:4] = 0.75
    selection = ReleasedSelection(0.5)
    assert selection(token_blur, (2, 2), 0).places.tolist() == [[0, 0, 1]]
    assert selection(token_blur, (2, 2), 1).places.tolist() == []


def test_released_selection_of_a_clip_does_not_depend_on_the_batch(as_dict):
    token_blur = torch.rand(3, 8, 8, 8)
    for block in range(3):
        together = as_dict(ReleasedSelection()(token_blur, (4, 4), block))
        for clip in range(3):
            alone = as_dict(ReleasedSelection()(token_blur[clip : clip + 1], (4, 4), block))
            assert alone == {(0, *p[1:]): f for p, f in together.items() if p[0] == clip}


@pytest.mark.parametrize('t', [1, 2, 5, 8])
def test_random_selection_is_a_fixed_share_without_a_look_at_the_blur(t):
    select = RandomSelection(0.5)
    blur = torch.rand(2, t, 16, 24)
    first, again = select(blur, (8, 8), 0), select(1 - blur, (8, 8), 0)
    for name in ('places', 'query_frames', 'key_frames'):
        assert torch.equal(getattr(first, name), getattr(again, name))
    # 3 of the 6 places in each clip, half of the frames at each, all different.
    assert first.places[:, 0].tolist() == [0] * 3 + [1] * 3
    assert len({tuple(place) for place in first.places.tolist()}) == 6
    assert (first.places[:, 1] < 2).all() and (first.places[:, 2] < 3).all()
    for frames in (first.query_frames, first.key_frames):
        assert frames.shape == (6, -(-t // 2))
        assert all(len(set(row)) == len(row) and max(row) < t for row in frames.tolist())
    # A clip gets the same choice alone and in a batch; another block or seed another one.
    alone = select(blur[1:], (8, 8), 0)
    assert torch.equal(alone.query_frames, first.query_frames[3:])
    if t == 8:
        for other in (select(blur, (8, 8), 1), RandomSelection(0.5, seed=9)(blur, (8, 8), 0)):
            assert not torch.equal(other.query_frames, first.query_frames)
