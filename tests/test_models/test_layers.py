import pytest
import torch
import torch.nn.functional as F
from torch import nn

from bsst_plugin.models.layers import (
    CAB,
    ChannelAttention,
    GatedCAB,
    LayerNorm2d,
    in_chunks,
    leaky_relu,
)


def test_layer_norm_2d_is_layer_norm_over_channels(randomise):
    norm = randomise(LayerNorm2d(6))
    reference = nn.LayerNorm(6, eps=1e-6)
    reference.load_state_dict(norm.state_dict())
    x = 100 + 3 * torch.randn(2, 6, 5, 7)
    expected = reference(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
    torch.testing.assert_close(norm(x), expected, atol=1e-4, rtol=1e-4)


def test_layer_norm_2d_keeps_statistics_in_float32():
    x = (300 + torch.randn(1, 64, 2, 2)).to(torch.float16)
    out = LayerNorm2d(64)(x)
    assert out.dtype == torch.float16
    expected = F.layer_norm(x.float().permute(0, 2, 3, 1), (64,), eps=1e-6).permute(0, 3, 1, 2)
    torch.testing.assert_close(out.float(), expected, atol=5e-3, rtol=5e-3)


def channel_attention(module, x):
    reduce, _, expand, _ = module.weights
    means = x.mean((2, 3))
    hidden = F.relu(means @ reduce.weight[:, :, 0, 0].T)
    return x * torch.sigmoid(hidden @ expand.weight[:, :, 0, 0].T)[:, :, None, None]


def test_channel_attention(randomise):
    module = randomise(ChannelAttention(5))
    x = torch.randn(2, 5, 4, 6)
    torch.testing.assert_close(module(x), channel_attention(module, x))


def test_cab_is_its_description(randomise):
    block = randomise(CAB(4))
    x = torch.randn(2, 4, 6, 5)
    first, _, second = block.body
    y = F.conv2d(x, first.weight, padding=1)
    y = F.conv2d(F.leaky_relu(y, 0.1), second.weight, padding=1)
    expected = channel_attention(block.attention, y) + x
    torch.testing.assert_close(block(x), expected, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize('kernel_size', [3, 5])
@pytest.mark.parametrize('extra_channels', [0, 2, 4])
def test_gated_cab_is_its_description(randomise, kernel_size, extra_channels):
    block = randomise(GatedCAB(4, kernel_size, extra_channels))
    x = torch.randn(2, 4, 6, 5)
    parts, y = [x], x
    if extra_channels:
        parts.append(torch.randn(2, extra_channels, 6, 5))
        own = F.conv2d(parts[1], block.extra.weight, padding=1, groups=extra_channels)
        y = torch.cat((x, own), 1)
    y = F.layer_norm(
        y.permute(0, 2, 3, 1), (4 + extra_channels,), block.norm.weight, block.norm.bias, 1e-6
    ).permute(0, 3, 1, 2)
    y = F.conv2d(y, block.expand.weight)
    y = y + F.conv2d(y, block.mix.weight, padding=1, groups=8)
    y = y[:, :4] * y[:, 4:]
    y = (
        F.conv2d(y, block.mix_large.weight, padding=kernel_size // 2, groups=4)
        + F.conv2d(y, block.mix_small.weight, padding=1, groups=4)
        + y
    )
    y = F.conv2d(y, block.expand_gate.weight)
    y = channel_attention(block.attention, y[:, :4] * torch.sigmoid(y[:, 4:]))
    expected = x + F.conv2d(y, block.project.weight) * block.beta
    assert block.mix_large.kernel_size == (kernel_size, kernel_size)
    torch.testing.assert_close(block(*parts), expected, atol=1e-5, rtol=1e-4)


def test_fresh_gated_cab_is_the_identity():
    x = torch.randn(1, 4, 5, 5)
    assert torch.equal(GatedCAB(4, extra_channels=2)(x, torch.randn(1, 2, 5, 5)), x)


def test_slope_of_the_released_network():
    assert leaky_relu()(torch.tensor(-1.0)).item() == pytest.approx(-0.1)


@pytest.mark.parametrize('memory_format', [torch.contiguous_format, torch.channels_last])
def test_chunks_make_no_difference(memory_format):
    x = torch.randn(5, 3, 128, 100).contiguous(memory_format=memory_format)
    seen = []

    def function(first, second):
        seen.append(len(first))
        return (first * second[:, :, None, None]).contiguous(memory_format=memory_format)

    weights = torch.randn(5, 3)
    expected = function(x, weights)
    with torch.no_grad():
        out = in_chunks(function, x, weights)
    assert seen == [5, 1, 1, 1, 1, 1]  # a single one is enough for the cache
    assert torch.equal(out, expected)
    assert out.is_contiguous(memory_format=memory_format)


def test_chunks_of_small_items():
    with torch.no_grad():
        tokens = torch.randn(7, 128 * 64, 2)
        out = in_chunks(lambda part: part[:, :1] + len(part), tokens, positions=128 * 64)
    assert torch.equal(out, tokens[:, :1] + torch.tensor([2] * 6 + [1])[:, None, None])


def test_gradients_need_the_whole_batch():
    x = torch.randn(3, 1, 256, 256, requires_grad=True)
    out = in_chunks(lambda part: part * len(part), x)
    assert torch.equal(out, 3 * x)
