import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bsst_plugin.ops import flow_consistency, flow_warp


def bilinear(image, y, x):
    """``image`` (c, h, w) at one position, zero outside."""
    out = np.zeros(image.shape[0])
    for row in (math.floor(y), math.floor(y) + 1):
        for column in (math.floor(x), math.floor(x) + 1):
            if 0 <= row < image.shape[1] and 0 <= column < image.shape[2]:
                out += (1 - abs(y - row)) * (1 - abs(x - column)) * image[:, row, column]
    return out


def warp_by_loop(x, flow):
    out = np.zeros(x.shape)
    for b, i, j in np.ndindex(x.shape[0], *x.shape[2:]):
        out[b, :, i, j] = bilinear(x[b], i + float(flow[b, 1, i, j]), j + float(flow[b, 0, i, j]))
    return out


@settings(max_examples=30, deadline=None)
@given(
    n=st.integers(1, 2),
    h=st.integers(2, 9),
    w=st.integers(2, 9),
    size=st.sampled_from([0.3, 3.0, 100.0]),
    seed=st.integers(0, 99),
)
def test_flow_warp_is_bilinear_interpolation(n, h, w, size, seed):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(n, 3, h, w, generator=generator)
    flow = size * torch.randn(n, 2, h, w, generator=generator)
    expected = warp_by_loop(x.numpy().astype(float), flow.numpy())
    np.testing.assert_allclose(flow_warp(x, flow), expected, atol=1e-4)


@pytest.mark.parametrize('size', [(1, 6), (6, 1), (1, 1)])
def test_flow_warp_of_one_row_or_column(size):
    x = torch.rand(1, 1, *size) + 1
    flow = torch.tensor([0.5, -2.0]).view(1, 2, 1, 1).expand(1, 2, *size)
    np.testing.assert_allclose(flow_warp(x, flow), warp_by_loop(x.numpy(), flow), atol=1e-5)


@pytest.mark.parametrize('dx, dy', [(0, 0), (3, 0), (0, -2), (-5, 4), (40, 0)])
def test_integer_flow_shifts(dx, dy):
    x = torch.randint(1, 100, (1, 2, 12, 20)).float()
    flow = torch.tensor([dx, dy]).float().view(1, 2, 1, 1).expand(1, 2, 12, 20)
    expected = torch.zeros_like(x)
    for i in range(12):
        for j in range(20):
            if 0 <= i + dy < 12 and 0 <= j + dx < 20:
                expected[:, :, i, j] = x[:, :, i + dy, j + dx]
    torch.testing.assert_close(flow_warp(x, flow), expected, atol=1e-3, rtol=0)


def test_half_precision_input_keeps_its_dtype_but_not_its_positions():
    """bfloat16 has 8 bits: it cannot tell column 510 from column 512."""
    x = torch.randint(128, 256, (1, 2, 4, 512)).bfloat16()
    still = torch.zeros(1, 2, 4, 512, dtype=torch.bfloat16)
    warped = flow_warp(x, still)
    assert warped.dtype == torch.bfloat16
    assert torch.equal(warped, x)
    with torch.autocast('cpu', torch.bfloat16):
        assert torch.equal(flow_warp(x, still), x)


def test_flow_warp_passes_gradients_to_both_inputs():
    x = torch.randn(1, 2, 5, 6, requires_grad=True)
    flow = torch.randn(1, 2, 5, 6, requires_grad=True)
    flow_warp(x, flow).square().sum().backward()
    assert x.grad.abs().sum() > 0
    assert flow.grad.abs().sum() > 0


@settings(max_examples=20, deadline=None)
@given(size=st.sampled_from([0.2, 0.6, 2.0, 10.0]), seed=st.integers(0, 99))
def test_flow_consistency_is_the_inequality(size, seed):
    rng = np.random.RandomState(seed)
    flow = (size * rng.randn(2, 2, 5, 7)).astype(np.float32)
    opposite = (-flow + 0.4 * rng.randn(2, 2, 5, 7)).astype(np.float32)
    returning = warp_by_loop(opposite.astype(float), flow)
    valid = flow_consistency(torch.from_numpy(flow), torch.from_numpy(opposite))
    assert valid.shape == (2, 1, 5, 7)
    for b, i, j in np.ndindex(2, 5, 7):
        f, back = flow[b, :, i, j].astype(float), returning[b, :, i, j]
        gap = ((f + back) ** 2).sum()
        limit = 0.01 * ((f**2).sum() + (back**2).sum()) + 0.5
        if abs(gap - limit) > 1e-3:  # nearer than that, rounding decides
            assert valid[b, 0, i, j] == float(gap < limit)


def test_flow_consistency_knows_both_outcomes_and_has_no_gradient():
    flow = torch.full((1, 2, 8, 8), 2.0, requires_grad=True)
    there_and_back = flow_consistency(flow, -flow)
    assert there_and_back[0, 0, :6, :6].all()  # the others return from outside the frame
    assert not there_and_back[0, 0, 6:].any()
    assert not flow_consistency(flow, flow).any()
    assert not there_and_back.requires_grad
