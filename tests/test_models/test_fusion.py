import itertools
import math

import pytest
import torch
import torch.nn.functional as F
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode

from bsst_plugin.models import SwinFusion
from bsst_plugin.models.fusion import SwinBlock

WINDOW = (2, 4, 4)


def naive_attention(block, x):
    """Shifted window attention of one clip (t, h, w, c), token by token."""
    size, channels = x.shape[:3], x.shape[3]
    window = [min(s, w) for s, w in zip(size, block.window, strict=True)]
    # Half a window, but not along an axis on which the clip is a single window.
    shift = [
        w // 2 if block.shifted and s > w else 0 for s, w in zip(size, block.window, strict=True)
    ]
    padded = [math.ceil(s / w) * w for s, w in zip(size, window, strict=True)]
    full = torch.zeros(*padded, channels, dtype=x.dtype)
    full[: size[0], : size[1], : size[2]] = x
    query, key, value = block.qkv(full.flatten(0, 2)).chunk(3, dim=1)

    positions = list(itertools.product(*map(range, padded)))
    members = {}  # tokens that see each other
    for token, position in enumerate(positions):
        moved = [(p - s) % e for p, s, e in zip(position, shift, padded, strict=True)]
        cell = tuple(m // w for m, w in zip(moved, window, strict=True))
        wrapped = tuple(p < s for p, s in zip(position, shift, strict=True))
        inside = tuple(m % w for m, w in zip(moved, window, strict=True))
        members.setdefault((cell, wrapped), []).append((token, inside))

    out = torch.zeros_like(full).flatten(0, 2)
    wt, wh, ww = block.window
    for group in members.values():
        tokens = [token for token, _ in group]
        bias = torch.zeros(len(group), len(group), block.num_heads, dtype=x.dtype)
        for (a, (_, (t1, y1, x1))), (b, (_, (t2, y2, x2))) in itertools.product(
            enumerate(group), repeat=2
        ):
            row = ((t1 - t2 + wt - 1) * (2 * wh - 1) + y1 - y2 + wh - 1) * (2 * ww - 1)
            bias[a, b] = block.relative_position_bias[row + x1 - x2 + ww - 1]
        for head, part in enumerate(torch.arange(channels).chunk(block.num_heads)):
            q, k, v = (m[tokens][:, part] for m in (query, key, value))
            weights = (q @ k.T / math.sqrt(len(part)) + bias[..., head]).softmax(1)
            for token, mixed in zip(tokens, weights @ v, strict=True):
                out[token, part] = mixed
    out = block.proj(out).view_as(full)
    return out[: size[0], : size[1], : size[2]]


def layer_norm(norm, x):
    return F.layer_norm(x, x.shape[-1:], norm.weight, norm.bias, 1e-5)


def naive_block(block, x):
    x = x + naive_attention(block, layer_norm(block.norm1, x))
    first, _, second = block.mlp
    return x + second(F.gelu(first(layer_norm(block.norm2, x))))


@pytest.mark.parametrize('shifted', [False, True])
@pytest.mark.parametrize(
    'size',
    [(2, 8, 8), (4, 8, 12), (3, 6, 9), (1, 4, 4), (1, 7, 8), (5, 3, 10), (2, 1, 2)],
    ids=str,
)
@torch.no_grad()
def test_block_equals_a_loop_over_tokens(randomise, size, shifted):
    block = randomise(SwinBlock(6, 3, WINDOW, shifted, 2.0)).double()
    x = torch.randn(2, *size, 6, dtype=torch.float64)
    expected = torch.stack([naive_block(block, clip) for clip in x])
    torch.testing.assert_close(block(x), expected, atol=1e-9, rtol=0)


@pytest.mark.parametrize('t', [1, 3])
@torch.no_grad()
def test_fusion_is_conv_norm_groups_norm(randomise, t):
    fusion = SwinFusion(8, 4, conv_groups=2, num_groups=2, depth=2, num_heads=2, window=WINDOW)
    fusion = randomise(fusion).double()
    features = torch.randn(1, t, 8, 6, 9, dtype=torch.float64)
    frames = []
    for frame in features[0]:
        halves = [
            F.conv2d(part[None], weight, bias, padding=1)
            for part, weight, bias in zip(
                frame.chunk(2), fusion.conv.weight.chunk(2), fusion.conv.bias.chunk(2), strict=True
            )
        ]
        frames.append(torch.cat(halves, 1)[0].permute(1, 2, 0))
    x = layer_norm(fusion.norm_in, torch.stack(frames))
    for group in fusion.groups:
        y = x
        for index, block in enumerate(group.blocks):
            assert block.shifted == (index == 1)
            y = naive_block(block, y)
        x = x + group.linear(y)
    expected = layer_norm(fusion.norm_out, x).permute(0, 3, 1, 2)[None]
    torch.testing.assert_close(fusion(features), expected, atol=1e-9, rtol=0)


@torch.no_grad()
def test_clips_of_a_batch_do_not_mix(randomise):
    fusion = SwinFusion(8, 4, conv_groups=1, num_heads=2, window=WINDOW)
    fusion = randomise(fusion).double()
    features = torch.randn(2, 3, 8, 5, 6, dtype=torch.float64)
    alone = torch.cat([fusion(clip[None]) for clip in features])
    torch.testing.assert_close(fusion(features), alone, atol=1e-12, rtol=0)


def test_training_after_inference_mode(randomise):
    fusion = randomise(SwinFusion(8, 4, conv_groups=1, num_heads=2, window=(2, 6, 6)))
    features = torch.randn(1, 3, 8, 7, 13)
    with torch.inference_mode():
        fusion(features)
    fusion(features).sum().backward()


def test_real_tensors_after_fake_ones(randomise):
    """Tools that count operations, and compilers, run a network on tensors without values."""
    fusion = randomise(SwinFusion(8, 4, conv_groups=1, num_heads=2, window=(2, 5, 5)))
    with FakeTensorMode(allow_non_fake_inputs=True):
        fusion(torch.randn(1, 3, 8, 6, 11))
    with torch.no_grad():
        out = fusion(torch.randn(1, 3, 8, 6, 11))
    assert not isinstance(out, FakeTensor)
