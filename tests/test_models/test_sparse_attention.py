import math
import os
import shutil

import pytest
import torch
import torch.nn.functional as F

from bsst_plugin.models import BlurAwareSelection, DenseSelection
from bsst_plugin.models.sparse_attention import SparseWindowAttention

CHANNELS, HEADS, WINDOW, POOL = 8, 2, (4, 4), (2, 2)
GRID = (8, 12)  # tokens: 2 x 3 windows


@pytest.fixture(scope='module')
def attention(randomise):
    return randomise(SparseWindowAttention(CHANNELS, HEADS, WINDOW, POOL)).double().eval()


def patchy_blur(n, t, seed=0):
    """Token blur in which about half of the window places are blurry."""
    generator = torch.Generator().manual_seed(seed)
    blur = torch.rand(n, t, *GRID, generator=generator)
    blurry = torch.arange(n * 6).view(n, 1, 2, 3) % 2 == 0
    blurry = blurry.repeat_interleave(4, 2).repeat_interleave(4, 3)
    return blur * torch.where(blurry, 1.0, 0.2)


def naive(attention, tokens, chosen, ring):
    """Each query token against all tokens of the clip, masked; ``tokens`` (n, t, M, N, c)."""
    n, t, rows, columns, c = tokens.shape
    (wh, ww), (ph, pw), (rh, rw) = attention.window, attention.pool.kernel_size, ring
    mixed = torch.zeros_like(tokens)
    for clip in range(n):
        x = tokens[clip]
        # All candidates of the clip: the tokens with a border of zeros, then the pooled ones.
        pooled = torch.zeros(t, rows // ph, columns // pw, c, dtype=x.dtype)
        for frame, i, j in torch.cartesian_prod(*map(torch.arange, pooled.shape[:3])).tolist():
            patch = x[frame, i * ph : (i + 1) * ph, j * pw : (j + 1) * pw]
            weight = attention.pool.weight[:, 0].permute(1, 2, 0)
            pooled[frame, i, j] = (patch * weight).sum((0, 1)) + attention.pool.bias
        candidates = []
        for layer in (attention.key, attention.value):
            inside = torch.zeros(t, rows + 2 * rh, columns + 2 * rw, c, dtype=x.dtype)
            inside[:, rh : rh + rows, rw : rw + columns] = layer(x)
            candidates.append(torch.cat((inside.flatten(0, 2), layer(pooled).flatten(0, 2))))
        keys, values = candidates
        queries = attention.query(x)
        for frame in range(t):
            for i in range(rows // wh):
                for j in range(columns // ww):
                    own = torch.zeros(t, rows + 2 * rh, columns + 2 * rw, dtype=torch.bool)
                    pool = torch.zeros(pooled.shape[:3], dtype=torch.bool)
                    top, left = i * wh, j * ww  # in padded tokens: the ring's corner
                    asks, answers = chosen.get((clip, i, j), ([], []))
                    if frame in asks:
                        own[answers, top : top + wh + 2 * rh, left : left + ww + 2 * rw] = True
                        pool[answers] = True
                    else:
                        others = [f for f in range(t) if f not in asks]
                        size = math.ceil(t / 4)
                        group = others.index(frame) // size
                        group = others[group * size : (group + 1) * size]
                        own[group, top + rh : top + rh + wh, left + rw : left + rw + ww] = True
                    allowed = torch.cat((own.flatten(), pool.flatten()))
                    q = queries[frame, top : top + wh, left : left + ww].flatten(0, 1)
                    parts = []
                    for head in torch.arange(c).chunk(attention.num_heads):
                        scores = q[:, head] @ keys[:, head].T / math.sqrt(len(head))
                        scores[:, ~allowed] = -math.inf
                        parts.append(scores.softmax(1) @ values[:, head])
                    out = torch.cat(parts, 1).view(wh, ww, c)
                    mixed[clip, frame, top : top + wh, left : left + ww] = out
    return attention.proj(mixed)


@pytest.mark.parametrize('block', [0, 1])
@pytest.mark.parametrize('t', [1, 2, 3, 5, 8])
@pytest.mark.parametrize(
    'choose',
    [BlurAwareSelection(), BlurAwareSelection(0.9, 0.25, 1.0), DenseSelection()],
    ids=['blur-aware', 'few queries', 'dense'],
)
@torch.no_grad()
def test_equals_masked_softmax_over_all_tokens(as_dict, attention, choose, t, block):
    tokens = torch.randn(1, t, *GRID, CHANNELS, dtype=torch.float64)
    selection = choose(patchy_blur(1, t), WINDOW, block)
    assert len(selection.places) > 0
    expected = naive(attention, tokens, as_dict(selection), ring=(2, 2))
    torch.testing.assert_close(attention(tokens, selection), expected, atol=1e-10, rtol=0)


@torch.no_grad()
def test_windows_need_not_be_square(as_dict, randomise):
    attention = randomise(SparseWindowAttention(6, 3, (2, 4), (2, 4))).double()
    tokens = torch.randn(1, 4, 4, 12, 6, dtype=torch.float64)
    selection = BlurAwareSelection()(torch.rand(1, 4, 4, 12) ** 8, (2, 4), 0)
    expected = naive(attention, tokens, as_dict(selection), ring=(1, 2))
    torch.testing.assert_close(attention(tokens, selection), expected, atol=1e-10, rtol=0)


@torch.no_grad()
def test_paper_s_window_ring_and_pool(as_dict, randomise):
    """8 x 8 windows, 4 tokens around them, 4 x 4 tokens to a pooled one."""
    attention = randomise(SparseWindowAttention(4, 1)).double()
    tokens = torch.randn(1, 2, 16, 16, 4, dtype=torch.float64)
    selection = DenseSelection()(torch.zeros(1, 2, 16, 16), (8, 8), 0)
    expected = naive(attention, tokens, as_dict(selection), ring=(4, 4))
    torch.testing.assert_close(attention(tokens, selection), expected, atol=1e-10, rtol=0)


@torch.no_grad()
def test_groups_of_the_example_in_the_method(attention):
    """t = 8, queries {2, 6}: the others attend in groups (0, 1), (3, 4), (5, 7)."""
    blur = torch.zeros(1, 8, *GRID)
    blur[0, [2, 6]] = 1
    selection = BlurAwareSelection(query_ratio=0.25)(blur, WINDOW, 0)
    tokens = torch.randn(1, 8, *GRID, CHANNELS, dtype=torch.float64)
    before = attention(tokens, selection)
    tokens[:, 7, 4:8, 4:8] += 1  # neither a query nor a key frame
    moved = (attention(tokens, selection) != before).any(-1)[0]  # (t, M, N)
    assert moved.any(-1).any(-1).tolist() == [f in (5, 7) for f in range(8)]
    assert moved[5].nonzero().amin(0).tolist() == [4, 4]
    assert moved[5].nonzero().amax(0).tolist() == [7, 7]


@pytest.mark.parametrize('t', [1, 3, 8])
@torch.no_grad()
def test_batch_of_two_equals_two_batches_of_one(attention, t):
    tokens = torch.randn(2, t, *GRID, CHANNELS, dtype=torch.float64)
    blur = torch.cat((patchy_blur(1, t, 1), patchy_blur(1, t, 2).flip(3)))
    blur[1, :, :4] = 0  # the clips differ in the number of their places, too
    choose = BlurAwareSelection()
    together = attention(tokens, choose(blur, WINDOW, 0))
    for clip in range(2):
        part = slice(clip, clip + 1)
        alone = attention(tokens[part], choose(blur[part], WINDOW, 0))
        torch.testing.assert_close(together[part], alone, atol=1e-12, rtol=0)


def count(monkeypatch, attention, tokens, selection):
    """Query tokens, key tokens and their products, as given to the attention kernel."""
    calls = []
    kernel = F.scaled_dot_product_attention

    def spy(query, key, value, **kwargs):
        batch = query.shape[0]
        assert key.shape == value.shape
        calls.append(
            (
                batch * query.shape[-2],
                batch * key.shape[-2],
                batch * query.shape[-2] * key.shape[-2],
            )
        )
        return kernel(query, key, value, **kwargs)

    with monkeypatch.context() as patch, torch.no_grad():
        patch.setattr(F, 'scaled_dot_product_attention', spy)
        attention(tokens, selection)
    return [sum(column) for column in zip(*calls, strict=True)]


@pytest.mark.parametrize('t', [4, 8])
def test_cost_falls_with_the_number_of_selected_places(monkeypatch, attention, t):
    tokens = torch.randn(1, t, *GRID, CHANNELS, dtype=torch.float64)
    costs = []
    for selected in range(7):
        blur = torch.zeros(1, t, 6)
        blur[..., :selected] = 1
        blur = blur.view(1, t, 2, 3).repeat_interleave(4, 2).repeat_interleave(4, 3)
        selection = BlurAwareSelection()(blur, WINDOW, 0)
        assert len(selection.places) == selected
        costs.append(count(monkeypatch, attention, tokens, selection))

    window, enlarged, pooled = 16, 64, 24
    group, k = t // 4, t // 2  # frames of a group; queries and keys of a place
    for selected, (queries, keys, products) in enumerate(costs):
        rest = 6 * t - selected * k  # windows that are not queries
        assert queries == 6 * t * window  # every token asks exactly once
        assert keys == selected * k * (enlarged + pooled) + rest * window
        assert products == (
            selected * (k * window) * (k * (enlarged + pooled)) + rest * window * group * window
        )


def test_gradients_reach_tokens_and_parameters(attention):
    tokens = torch.randn(2, 5, *GRID, CHANNELS, dtype=torch.float64, requires_grad=True)
    selection = BlurAwareSelection()(patchy_blur(2, 5), WINDOW, 0)
    attention.zero_grad()
    attention(tokens, selection).square().sum().backward()
    assert (tokens.grad.abs().sum(-1) > 0).all()
    for name, parameter in attention.named_parameters():
        # Softmax does not see what is added to all scores alike, but pooled and zero keys differ.
        assert parameter.grad.abs().sum() > 0, name


def test_autocast_stays_near_float32(attention):
    layer = SparseWindowAttention(CHANNELS, HEADS, WINDOW, POOL)
    layer.load_state_dict(attention.state_dict())
    tokens = torch.randn(1, 5, *GRID, CHANNELS)
    selection = BlurAwareSelection()(patchy_blur(1, 5), WINDOW, 0)
    with torch.no_grad():
        exact = layer(tokens, selection)
        with torch.autocast('cpu', torch.bfloat16):
            out = layer(tokens, selection)
    assert (out - exact).abs().max() < 0.05 * exact.abs().max()


@pytest.mark.slow
@pytest.mark.skipif(
    shutil.which(os.environ.get('CXX', 'g++')) is None, reason='torch.compile needs a C++ compiler'
)
@torch.no_grad()
def test_torch_compile_gives_the_same(randomise):
    layer = randomise(SparseWindowAttention(CHANNELS, HEADS, WINDOW, POOL))
    torch._dynamo.reset()
    compiled = torch.compile(layer)
    before = torch._dynamo.utils.counters['stats']['unique_graphs']
    for theta in (0.3, 0.9):  # another number of places
        tokens = torch.randn(1, 4, *GRID, CHANNELS)
        selection = BlurAwareSelection(theta)(patchy_blur(1, 4), WINDOW, 0)
        assert len(selection.places) > 0
        expected = layer(tokens, selection)
        torch.testing.assert_close(compiled(tokens, selection), expected, atol=1e-5, rtol=1e-5)
    assert torch._dynamo.utils.counters['stats']['unique_graphs'] > before
