import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bsst_plugin.models import BlurMapEstimator


def flows(n, t, h=4, w=5, seed=0):
    rng = np.random.RandomState(seed)
    return [torch.from_numpy(rng.randn(n, t - 1, 2, h, w).astype(np.float32)) for _ in range(2)]


def eq2(forward, backward, reduction):
    """Eq. 1 and 2, pixel by pixel; forward[i] leads from frame i+1 to i, backward[i] back."""
    n, steps, _, h, w = forward.shape
    out = np.zeros((n, steps + 1, 1, h, w))
    for b, frame, i, j in np.ndindex(n, steps + 1, h, w):
        lengths = []
        if frame < steps:
            x, y = backward[b, frame, :, i, j].tolist()
            lengths.append(x * x + y * y)
        if frame > 0:
            x, y = forward[b, frame - 1, :, i, j].tolist()
            lengths.append(x * x + y * y)
        total = sum(lengths)
        out[b, frame, 0, i, j] = total if reduction == 'sum' else total / max(len(lengths), 1)
    for b in range(n):
        low, high = out[b].min(), out[b].max()
        out[b] = (out[b] - low) / (high - low) if high > low else 0
    return out


@pytest.mark.parametrize('reduction', ['sum', 'mean'])
@pytest.mark.parametrize('t', [1, 2, 3, 5])
def test_equals_eq2(reduction, t):
    forward, backward = flows(2, t)
    got = BlurMapEstimator(reduction)(forward, backward)
    assert got.shape == (2, t, 1, 4, 5)
    assert got.dtype == torch.float32
    np.testing.assert_allclose(got, eq2(forward, backward, reduction), atol=1e-6)


def test_the_paper_s_sum_is_the_default():
    forward, backward = flows(1, 3)
    default = BlurMapEstimator()(forward, backward)
    assert torch.equal(default, BlurMapEstimator('sum')(forward, backward))
    assert not torch.allclose(default, BlurMapEstimator('mean')(forward, backward))


@pytest.mark.parametrize('reduction', ['sum', 'mean'])
@pytest.mark.parametrize('t', [1, 2, 3])
def test_static_clip_is_sharp_everywhere(reduction, t):
    none = torch.zeros(1, t - 1, 2, 4, 4)
    assert torch.equal(BlurMapEstimator(reduction)(none, none), torch.zeros(1, t, 1, 4, 4))


def test_clip_of_equal_blur_is_sharp_everywhere():
    same = torch.full((1, 1, 2, 4, 4), 3.0)
    assert torch.equal(BlurMapEstimator()(same, -same), torch.zeros(1, 2, 1, 4, 4))


@settings(max_examples=25, deadline=None)
@given(
    t=st.integers(1, 6),
    scale=st.sampled_from([1e-6, 1e-3, 1.0, 1e4]),
    reduction=st.sampled_from(['sum', 'mean']),
    seed=st.integers(0, 99),
)
def test_each_clip_spans_0_to_1_whatever_its_neighbours(t, scale, reduction, seed):
    small, large = flows(1, t, seed=seed), [scale * f for f in flows(1, t, seed=seed + 1)]
    estimator = BlurMapEstimator(reduction)
    both = estimator(*(torch.cat(pair) for pair in zip(small, large, strict=True)))
    for clip, alone in zip(both, (estimator(*small), estimator(*large)), strict=True):
        assert torch.equal(clip, alone[0])
        assert clip.min() == 0
        assert clip.max() == (1 if t > 1 else 0)


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
def test_half_precision_flows_do_not_overflow(dtype):
    forward, backward = ((100 * f).to(dtype) for f in flows(1, 3))
    forward[0, 0, 0, 0, 0] = 400  # its square is beyond float16
    got = BlurMapEstimator()(forward, backward)
    assert got.dtype == torch.float32
    np.testing.assert_allclose(got, eq2(forward, backward, 'sum'), atol=1e-5)


def test_unknown_reduction_is_refused():
    with pytest.raises(ValueError, match='median'):
        BlurMapEstimator('median')
