import pytest
import torch
import torch.nn.functional as F
import torchvision
from hypothesis import given, settings
from hypothesis import strategies as st

from bsst_plugin.ops import deform_conv2d


def reference(x, offset, mask, weight, bias):
    return torchvision.ops.deform_conv2d(x, offset, weight, bias, padding=1, mask=mask)


def make_inputs(n, groups, per_group, c_out, h, w, reach, seed=0):
    """x, offset, mask, weight, bias."""
    generator = torch.Generator().manual_seed(seed)
    shapes = [
        (n, groups * per_group, h, w),
        (n, 18 * groups, h, w),
        (n, 9 * groups, h, w),
        (c_out, groups * per_group, 3, 3),
        (c_out,),
    ]
    x, offset, mask, weight, bias = (torch.randn(s, generator=generator) for s in shapes)
    return x, reach * offset, mask.sigmoid(), weight / (groups * per_group) ** 0.5, bias


@settings(max_examples=40, deadline=None)
@given(
    n=st.integers(1, 2),
    groups=st.sampled_from([1, 2, 16]),
    per_group=st.integers(1, 2),
    c_out=st.integers(1, 5),
    h=st.integers(2, 8),
    w=st.integers(2, 8),
    reach=st.sampled_from([0.0, 0.7, 4.0, 100.0]),
    seed=st.integers(0, 99),
)
def test_values_equal_torchvision(n, groups, per_group, c_out, h, w, reach, seed):
    inputs = make_inputs(n, groups, per_group, c_out, h, w, reach, seed)
    # A position is known to 1e-6 only; weights of 1 / sqrt(channels) keep that below 1e-5.
    torch.testing.assert_close(deform_conv2d(*inputs), reference(*inputs), atol=2e-5, rtol=1e-5)


@pytest.mark.parametrize('groups', [1, 2, 16])
@pytest.mark.parametrize('h, w, reach', [(6, 9, 1.0), (9, 4, 5.0), (5, 5, 30.0)])
def test_gradients_equal_torchvision(groups, h, w, reach):
    inputs = make_inputs(2, groups, 2, 4, h, w, reach)
    upstream = torch.randn(2, 4, h, w)
    grads = []
    for function in (deform_conv2d, reference):
        leaves = [tensor.clone().requires_grad_() for tensor in inputs]
        function(*leaves).backward(upstream)
        grads.append([leaf.grad for leaf in leaves])
    for name, got, expected in zip(('x', 'offset', 'mask', 'weight', 'bias'), *grads, strict=True):
        torch.testing.assert_close(
            got, expected, atol=1e-4, rtol=1e-4, msg=lambda m, name=name: f'{name}: {m}'
        )


def test_without_offsets_it_is_a_convolution():
    x, offset, mask, weight, bias = make_inputs(2, 2, 3, 4, 7, 5, 0.0)
    out = deform_conv2d(x, offset, torch.ones_like(mask), weight, bias)
    torch.testing.assert_close(out, F.conv2d(x, weight, bias, padding=1), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize('h, w', [(1, 6), (6, 1), (1, 1)])
def test_one_row_or_column(h, w):
    inputs = make_inputs(1, 2, 2, 3, h, w, 1.0)
    torch.testing.assert_close(deform_conv2d(*inputs), reference(*inputs), atol=1e-4, rtol=1e-4)


def test_half_precision_stays_near_float32():
    inputs = make_inputs(1, 2, 4, 4, 8, 8, 2.0)
    exact = deform_conv2d(*inputs)
    x, offset, mask, weight, bias = inputs
    with torch.autocast('cpu', torch.bfloat16):
        out = deform_conv2d(x.bfloat16(), offset, mask, weight, bias)
    assert out.dtype == torch.bfloat16
    assert (out.float() - exact).abs().max() < 0.03 * exact.abs().max()
