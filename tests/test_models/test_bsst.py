import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from bsst_plugin.models import BSST, DenseSelection
from bsst_plugin.models.bsst import (
    BSSTBlock,
    FusionFeedForward,
    PatchComposition,
    PatchEmbedding,
)

PATCHES = [(5, 2), (3, 2), (3, 1), (7, 3)]
TINY = dict(channels=4, dim=8, num_heads=2, window=(4, 4), pool=(2, 2), hidden_channels=3)


def fold(patches, size, patch, stride):
    """Columns of patches to an image of ``size``, overlaps added."""
    return F.fold(patches, size, patch, padding=patch // 2, stride=stride)


def unfold(x, patch, stride):
    return F.unfold(x, patch, padding=patch // 2, stride=stride)


def linear(layer, x):
    """A linear layer on the channels of (b, c, l)."""
    return F.linear(x.transpose(1, 2), layer.weight, layer.bias).transpose(1, 2)


@pytest.mark.parametrize('patch, stride', PATCHES)
def test_patch_embedding_is_unfold_and_linear(randomise, patch, stride):
    layer = randomise(PatchEmbedding(3, 7, patch, stride))
    x = torch.randn(2, 3, 4 * stride, 6 * stride)
    expected = linear(layer, unfold(x, patch, stride)).view(2, 7, 4, 6)
    torch.testing.assert_close(layer(x), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize('patch, stride', PATCHES)
def test_patch_composition_is_linear_and_fold(randomise, patch, stride):
    layer = randomise(PatchComposition(7, 3, patch, stride))
    tokens = torch.randn(2, 7, 4, 6)
    size = (4 * stride, 6 * stride)
    expected = fold(linear(layer, tokens.flatten(2)), size, patch, stride)
    torch.testing.assert_close(layer(tokens), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize('patch, stride', PATCHES)
def test_feed_forward_is_fold_divide_unfold_gelu(randomise, patch, stride):
    layer = randomise(FusionFeedForward(6, 3, patch, stride))
    tokens = torch.randn(2, 3, 4, 5, 6)
    size = (4 * stride, 5 * stride)
    x = linear(layer.fc1, tokens.flatten(0, 1).flatten(1, 2).transpose(1, 2))
    x = fold(x, size, patch, stride) / fold(torch.ones_like(x), size, patch, stride)
    x = linear(layer.fc2, F.gelu(unfold(x, patch, stride)))
    expected = x.transpose(1, 2).view(2, 3, 4, 5, 6)
    torch.testing.assert_close(layer(tokens), expected, atol=1e-5, rtol=1e-5)


def test_token_blur_is_average_pooled():
    blur_map = torch.rand(2, 3, 1, 16, 24)
    expected = torch.nn.AvgPool2d(5, 2, 2)(blur_map.view(6, 1, 16, 24)).view(2, 3, 8, 12)
    torch.testing.assert_close(BSST(**TINY).token_blur(blur_map), expected)


def test_block_is_norm_attention_norm_feed_forward(randomise):
    block = randomise(BSSTBlock(8, 2, (4, 4), (2, 2), 3, 5, 2))
    x = torch.randn(1, 2, 4, 8, 8)
    selection = DenseSelection()(torch.zeros(1, 2, 4, 8), (4, 4), 0)
    norm1 = F.layer_norm(x, (8,), block.norm1.weight, block.norm1.bias, 1e-5)
    y = x + block.attention(norm1, selection)
    norm2 = F.layer_norm(y, (8,), block.norm2.weight, block.norm2.bias, 1e-5)
    torch.testing.assert_close(block(x, selection), y + block.ffn(norm2))


def test_order_of_the_parts(randomise):
    net = randomise(BSST(**TINY, depth=3))
    seen = []

    def dense(token_blur, window, index):
        seen.append((token_blur, window, index))
        return DenseSelection()(token_blur, window, index)

    net.selection = dense
    feature, blur_map = torch.randn(2, 3, 4, 8, 16), torch.rand(2, 3, 1, 8, 16)
    tokens = linear(net.soft_split, unfold(feature.view(6, 4, 8, 16), 5, 2))
    tokens = tokens.transpose(1, 2).view(2, 3, 4, 8, 8)
    for block in net.blocks:
        tokens = block(tokens, DenseSelection()(torch.zeros(2, 3, 4, 8), (4, 4), 0))
    patches = linear(net.soft_composition, tokens.view(6, 32, 8).transpose(1, 2))
    composed = net.compose_conv(fold(patches, (8, 16), 5, 2))
    expected = net.refine(net.merge(feature.view(6, 4, 8, 16), composed)).view(2, 3, 4, 8, 16)
    torch.testing.assert_close(net(feature, blur_map), expected, atol=1e-4, rtol=1e-4)
    assert [(window, index) for _, window, index in seen] == [((4, 4), i) for i in range(3)]
    for token_blur, *_ in seen:
        torch.testing.assert_close(token_blur, net.token_blur(blur_map))


@settings(max_examples=15, deadline=None)
@given(
    n=st.integers(1, 2),
    t=st.integers(1, 6),
    rows=st.integers(1, 3),
    columns=st.integers(1, 3),
    level=st.sampled_from([0.0, 0.31, 1.0]),
    kind=st.sampled_from(['BlurAwareSelection', 'DenseSelection', 'ReleasedSelection']),
)
def test_any_multiple_of_the_divisor(n, t, rows, columns, level, kind):
    net = BSST(**TINY, depth=2, selection=dict(type=kind))
    assert net.size_divisor == (8, 8)
    feature = torch.randn(n, t, 4, 8 * rows, 8 * columns)
    with torch.no_grad():
        out = net(feature, level * torch.rand(n, t, 1, 8 * rows, 8 * columns))
    assert out.shape == feature.shape
    assert out.isfinite().all()
