"""VRT, against what the authors' implementation computes and against plain loops."""

import copy
import itertools
import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mmagic.models.editors.basicvsr.basicvsr_net import SPyNet
from mmagic.registry import MODELS

from bsst_plugin.checkpoints.vrt import convert_vrt, rename
from bsst_plugin.models import VRT
from bsst_plugin.models.vrt import attention
from bsst_plugin.models.vrt.attention import TMSABlock, sine_position
from bsst_plugin.models.vrt.spynet import PyramidSPyNet
from bsst_plugin.models.vrt.warping import warp_corners

DATA = Path(__file__).resolve().parents[1] / 'data' / 'vrt'
KEYS = json.loads((DATA / 'released_keys.json').read_text())
REDUCED = dict(
    channels=24,
    refine_channels=30,
    depths=[2] * 7,
    refine_depths=[2] * 3,
    num_heads=3,
    mutual_ratio=0.5,
    deform_groups=4,
)
TINY = dict(
    type='VRT',
    channels=8,
    refine_channels=8,
    depths=[3] * 7,
    refine_depths=[2, 2, 2],
    num_heads=2,
    window=(4, 2, 2),
    deform_groups=2,
)


@pytest.fixture(scope='module')
def formula(load_script):
    """The module that makes the weights and clips behind the fixtures."""
    return load_script(DATA / 'formula.py')


@pytest.fixture(scope='module')
def build(randomise):
    """Make a tiny network with flows and offsets of some pixels; arguments replace settings."""

    def make(**settings):
        net = randomise(MODELS.build({**copy.deepcopy(TINY), **settings})).eval()
        for module in net.spynet.basic_module:
            module.basic_module[-1].conv.weight.data *= 0.1
        for stage in net.stages:
            stage.warping.deform.conv_offset[-1].weight.data *= 0.1
        return net

    return make


@pytest.fixture(scope='module')
def net(build):
    return build()


def fill(net, formula):
    """Give a network the formula's weights, under the names of the released checkpoints."""
    state = net.state_dict()
    params = {}
    for name, shape in KEYS.items():
        new = rename(name)
        if new in state and not name.startswith(('spynet.mean', 'spynet.std')):
            own = tuple(state[new].shape)
            # Single frames are convolved in 3-D there.
            own = own if len(shape) < 5 else (*own[:2], 1, *own[2:])
            params[name] = formula.weight(name, own)
    params['spynet.mean'], params['spynet.std'] = net.spynet.mean, net.spynet.std
    net.load_state_dict(convert_vrt(params), strict=True)
    return net.eval()


def record(net, clip):
    """Run the network; what each stage gives, under the names of the fixtures."""
    stages, hooks = {}, []

    def watch(module, name):
        hooks.append(module.register_forward_hook(lambda _, i, out: stages.update({name: out})))

    watch(net.embed, 'embed')
    for index, stage in enumerate(net.stages, start=1):
        watch(stage.mutual_group.blocks[-1], f'stage{index}_mutual')
        watch(stage.self_group.blocks[-1], f'stage{index}_self')
        watch(stage, f'stage{index}')
    for index, group in enumerate(net.refine, start=1):
        watch(group, f'stage8_{index}')
    with torch.no_grad():
        stages['output'] = net(clip)
        flows = net.flows(clip)
    for hook in hooks:
        hook.remove()
    stages['embed'] = stages['embed'].permute(0, 2, 3, 1)
    for direction, scales in zip(('forward', 'backward'), flows, strict=True):
        stages.update({f'flow_{direction}_{2**i}': flow for i, flow in enumerate(scales)})
    return {name: value.contiguous().numpy() for name, value in stages.items()}


def check(net, clip, fixture):
    stages = record(net, clip)
    with np.load(DATA / fixture) as expected:
        assert {name for name in expected.files if '__' not in name} == set(stages)
        for name, value in stages.items():
            assert value.size == np.prod(expected[f'{name}__shape']), name
            value = value.reshape(-1)[expected[f'{name}__idx']]
            assert np.abs(expected[name]).mean() > 0.03, name
            assert np.abs(value - expected[name]).max() < 1e-4, name


def test_reduced_network_equals_the_original(formula):
    """Windows shifted in time, windows that do not fit, frames that SPyNet resizes."""
    check(fill(VRT(**REDUCED), formula), formula.clip(12, 72, 64, seed=67), 'reduced_t12.npz')


@pytest.mark.slow
def test_released_network_equals_the_original(formula):
    check(fill(VRT(), formula), formula.clip(6, 72, 64, seed=26), 'full_t6.npz')


def test_released_network_has_the_released_size():
    with torch.device('meta'):
        net = VRT()
    assert sum(p.numel() for p in net.parameters()) == 18_320_007  # published: 18.3 M
    assert sum(p.numel() for p in net.spynet.parameters()) == 1_440_300


@settings(max_examples=6, deadline=None)
@given(n=st.integers(1, 2), t=st.integers(1, 6), h=st.integers(16, 32), w=st.integers(16, 32))
def test_output_has_the_shape_of_the_input(net, n, t, h, w):
    lqs = torch.rand(n, t, 3, h, w)
    with torch.no_grad():
        out = net(lqs)
    assert out.shape == lqs.shape
    assert out.isfinite().all()
    assert not torch.equal(out, lqs)


@pytest.mark.parametrize('t, padded', [(1, 2), (3, 4), (5, 8)])
@torch.no_grad()
def test_clips_are_mirrored_to_whole_windows(net, t, padded):
    """What a clip of another size gives is what the clip mirrored by hand gives."""
    lqs = torch.rand(1, t, 3, 21, 26)
    by_hand = torch.cat((lqs, lqs.flip(1)), 1)[:, :padded]
    by_hand = torch.cat((by_hand, by_hand.flip(3)), 3)[..., :24, :]
    by_hand = torch.cat((by_hand, by_hand.flip(4)), 4)[..., :32]
    torch.testing.assert_close(net(lqs), net(by_hand)[:, :t, :, :21, :26], atol=1e-5, rtol=1e-4)


@torch.no_grad()
def test_small_frames_are_mirrored_again_and_again(build):
    """The smallest of the four scales holds a whole window."""
    net = build(window=(2, 8, 8))
    lqs = torch.rand(1, 2, 3, 16, 17)
    tall = torch.cat((lqs, lqs.flip(3)) * 2, 3)
    by_hand = torch.cat((tall, tall.flip(4)) * 2, 4)[..., :64]
    torch.testing.assert_close(net(lqs), net(by_hand)[..., :16, :17], atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize('t', [1, 6])
@torch.no_grad()
def test_batch_of_two_equals_two_batches_of_one(net, t):
    lqs = torch.rand(2, t, 3, 24, 32)
    alone = torch.cat([net(clip[None]) for clip in lqs])
    torch.testing.assert_close(net(lqs), alone, atol=1e-4, rtol=1e-3)


def test_gradients_reach_every_parameter(net):
    net = copy.deepcopy(net)
    lqs = torch.rand(1, 8, 3, 24, 32)
    (net(lqs) - torch.rand_like(lqs)).abs().mean().backward()
    without = [
        name
        for name, parameter in net.named_parameters()
        if parameter.grad is None or not parameter.grad.abs().sum() > 0
    ]
    assert without == []
    assert all(parameter.grad.isfinite().all() for parameter in net.parameters())


def test_computing_blocks_anew_changes_no_gradient(build, monkeypatch):
    runs, forward = [], TMSABlock.forward
    monkeypatch.setattr(
        TMSABlock, 'forward', lambda block, x: (runs.append(block), forward(block, x))[1]
    )
    lqs, gradients, number = torch.rand(1, 2, 3, 16, 16), [], []
    for with_cp in (False, True):
        net = build(with_cp=with_cp)
        net(lqs).square().mean().backward()
        gradients.append(net.embed.weight.grad)
        number.append(len(runs))
        runs.clear()
    torch.testing.assert_close(*gradients)
    assert number == [27, 54]


def test_depth_is_stochastic_in_training_only(build):
    """The rate grows from 0 to the one that is set; both groups of a stage start alike."""
    net = build(drop_path_rate=0.26)
    rates = [block.drop_path.p for block in net.modules() if isinstance(block, TMSABlock)]
    starts = [0.01 * i for i in range(0, 21, 3)]
    expected = [rate for start in starts for rate in (start, start + 0.01, start)]
    np.testing.assert_allclose(rates, [*expected, 0.21, 0.22, 0.23, 0.24, 0.25, 0.26])
    block, x = net.refine[-1].blocks[-1], torch.rand(40, 2, 2, 2, 8)
    with torch.no_grad():
        assert torch.equal(block(x), block(x))
        block.train()
        changed = (block(x) != block(x)).flatten(1).any(1)
    assert 5 < changed.sum() < 40


@torch.no_grad()
def test_working_in_parts_changes_nothing(net, monkeypatch):
    lqs = torch.rand(1, 6, 3, 16, 24)
    whole = net(lqs)
    sizes = []
    forward = attention.GatedMLP._transform
    monkeypatch.setattr(
        attention.GatedMLP, '_transform', lambda mlp, x: (sizes.append(len(x)), forward(mlp, x))[1]
    )
    monkeypatch.setattr(attention, 'MAX_TOKENS', 100)
    torch.testing.assert_close(net(lqs), whole, atol=1e-5, rtol=1e-4)
    assert max(sizes) == 100


@torch.no_grad()
def test_bfloat16_autocast_stays_near_float32():
    psnrs = []
    for _ in range(5):  # some weights of so small a network make more of rounding than others
        net = MODELS.build(copy.deepcopy(TINY)).eval()
        lqs = torch.rand(1, 4, 3, 24, 24)
        exact = net(lqs)
        with torch.autocast('cpu', torch.bfloat16):
            out = net(lqs)
        psnrs.append(-10 * torch.log10((out.float() - exact).square().mean()))
    assert torch.stack(psnrs).median() > 45


@pytest.mark.parametrize('size', [(15, 32), (32, 8)])
def test_too_small_frames_are_refused(net, size):
    with pytest.raises(ValueError, match=f'16 x 16.*{size[0]} x {size[1]}'):
        net(torch.rand(1, 2, 3, *size))


def naive_attention(block, x):
    """Attention of one clip (t, h, w, c) whose windows are 2 x 2 x 2, token by token."""
    size, channels = x.shape[:3], x.shape[3]
    shift = [1 if block.shifted and s > 2 else 0 for s in size]
    padded = [s + s % 2 for s in size]
    full = torch.zeros(*padded, channels, dtype=x.dtype)
    full[: size[0], : size[1], : size[2]] = x
    out = torch.zeros_like(full)
    encoding = sine_position(2, 2, channels).to(x.dtype)

    def place(position):
        """Window of a token, where in it the token is, and at which end of the clip."""
        moved = [(p - s) % e for p, s, e in zip(position, shift, padded, strict=True)]
        wrapped = [p < s for p, s in zip(position, shift, strict=True)]
        return [m // 2 for m in moved], [m % 2 for m in moved], wrapped

    def attend(query, keys, values, bias):
        parts = []
        for head, part in enumerate(torch.arange(channels).chunk(block.num_heads)):
            logits = keys[:, part] @ query[part] / math.sqrt(len(part)) + bias[:, head]
            parts.append(logits.softmax(0) @ values[:, part])
        return torch.cat(parts)

    positions = list(itertools.product(*map(range, padded)))
    for position in positions:
        window, inside, wrapped = place(position)
        members = [(other, *place(other)) for other in positions if place(other)[0] == window]
        seen = [member for member in members if member[3] == wrapped]
        _, keys, values = block.qkv(torch.stack([full[m[0]] for m in seen])).chunk(3, 1)
        delta = [[a - b + 1 for a, b in zip(inside, m[2], strict=True)] for m in seen]
        bias = block.relative_position_bias[[(dt * 3 + dy) * 3 + dx for dt, dy, dx in delta]]
        mixed = [attend(block.qkv(full[position]).chunk(3)[0], keys, values, bias)]
        if block.mutual:
            # The other frame's token at this place asks this frame's tokens.
            other = next(m for m in members if m[2] == [1 - inside[0], *inside[1:]])
            asked = [m for m in members if m[2][0] == inside[0] and m[3][1:] == wrapped[1:]]
            codes = torch.stack([encoding[m[2][1] * 2 + m[2][2]] for m in asked])
            tokens = torch.stack([full[m[0]] for m in asked]) + codes
            _, keys, values = block.mutual_qkv(tokens).chunk(3, 1)
            query = block.mutual_qkv(full[other[0]] + encoding[inside[1] * 2 + inside[2]])
            none = torch.zeros(len(asked), block.num_heads, dtype=x.dtype)
            mixed.insert(0, attend(query.chunk(3)[0], keys, values, none))
        out[position] = block.proj(torch.cat(mixed))
    return out[: size[0], : size[1], : size[2]]


@pytest.mark.parametrize('mutual', [False, True])
@pytest.mark.parametrize('shifted', [False, True])
@pytest.mark.parametrize('size', [(2, 4, 4), (4, 3, 5), (4, 2, 6)], ids=str)
@torch.no_grad()
def test_block_equals_a_loop_over_tokens(randomise, size, shifted, mutual):
    block = TMSABlock(8, 2, (2, 2, 2), shifted, mutual)
    block = randomise(block).double()
    x = torch.randn(2, *size, 8, dtype=torch.float64)
    y = x + torch.stack([naive_attention(block, clip) for clip in block.norm1(x)])
    z = block.norm2(y)
    gate = torch.nn.functional.gelu(block.mlp.gate(z))
    expected = y + block.mlp.out(gate * block.mlp.value(z))
    # A wrong end of the clip is masked by -100, not -inf.
    torch.testing.assert_close(block(x), expected, atol=1e-6, rtol=0)


def test_position_is_sines_and_cosines_of_row_and_column():
    encoding = sine_position(2, 3, 8)
    for row, column, channel in itertools.product(range(2), range(3), range(8)):
        position, size = ((row, 2), (column, 3))[channel // 4]
        frequency = 10_000 ** (-(channel % 4 // 2 * 2) / 4)
        angle = 2 * math.pi * (position + 1) / size * frequency
        expected = math.cos(angle) if channel % 2 else math.sin(angle)
        assert abs(encoding[row * 3 + column, channel] - expected) < 1e-5


def test_odd_channels_have_no_position():
    with pytest.raises(ValueError, match='multiple of 4, not 6'):
        sine_position(2, 2, 6)


@torch.no_grad()
def test_corners_are_the_four_pixels_around():
    frames = torch.randn(1, 2, 5, 6)
    flow = 3 * torch.randn(1, 2, 5, 6)
    flow[..., 0] = flow[..., 0].round()  # on a pixel all corners are the same
    out = warp_corners(frames, flow).view(4, 2, 5, 6)
    for y, x in itertools.product(range(5), range(6)):
        column, row = x + flow[0, 0, y, x].item(), y + flow[0, 1, y, x].item()
        corners = itertools.product(
            (math.floor(column), math.ceil(column)), (math.floor(row), math.ceil(row))
        )
        for index, (c, r) in enumerate(corners):
            inside = 0 <= c < 6 and 0 <= r < 5
            expected = frames[0, :, r, c] if inside else torch.zeros(2)
            assert torch.equal(out[index, :, y, x], expected)


@pytest.mark.parametrize('size', [(64, 96), (40, 72)], ids=str)
@torch.no_grad()
def test_finest_flow_is_that_of_mmagic(randomise, size):
    net = randomise(PyramidSPyNet())
    reference = SPyNet(pretrained=None)
    reference.load_state_dict(net.state_dict(), strict=True)
    first, second = torch.rand(2, 2, 3, *size)
    flows = net(first, second)
    expected = reference(first, second)
    assert [flow.shape[-1] for flow in flows] == [size[1] // s for s in (1, 2, 4, 8)]
    assert torch.equal(flows[0], expected)
