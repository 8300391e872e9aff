"""The paper's and the released network on clips of any length, size, number and precision."""

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from mmagic.registry import MODELS
from mmengine.config import Config

from bsst_plugin.ops.precision import bfloat16_is_fast

CONFIGS = Path(__file__).resolve().parents[2] / 'configs'
NETWORKS = ['bsstnet_gopro.py', 'bsstnet_gopro_released.py']
LENGTHS = [1, 2, 3, 5, 7, 24, 49]
SLOW = pytest.mark.slow
BFLOAT16 = bfloat16_is_fast()
SIZES = [(16, 16), (250, 334), (180, 320), (320, 180)]
NARROW = dict(
    encoder=dict(shallow_channels=16, channels=24),
    backbone=dict(channels=24),
    fusion=dict(in_channels=5 * 24, channels=24),
    neck=dict(channels=24, dim=32, hidden_channels=4),
    decoder=dict(channels=24, shallow_channels=16),
)


def build(formula, name, narrow):
    """A network of a config; its weights have the scale of the parity fixtures'."""
    cfg = Config.fromfile(CONFIGS / name)
    if narrow:
        cfg.merge_from_dict(dict(model=dict(generator=NARROW)))
    generator = cfg.model.generator
    generator.flow_estimator = dict(type='DISFlow')
    net = MODELS.build(generator).eval()
    for key, parameter in net.named_parameters():
        parameter.data = torch.from_numpy(np.asarray(formula.weight(key, tuple(parameter.shape))))
    for parameter in net.flow_refiner.decode[-1].parameters() if net.flow_refiner else ():
        parameter.data *= 0.3  # corrections of some pixels
    return net


@pytest.fixture(scope='module', params=NETWORKS)
def net(request, formula):
    return build(formula, request.param, narrow=True)


@pytest.fixture(scope='module', params=NETWORKS)
def full_net(request, formula):
    return build(formula, request.param, narrow=False)


def make_clip(t, h, w, seed=0):
    """Smooth frames ``(1, t, 3, h, w)`` and smooth flows of some pixels here and there."""
    rng = np.random.RandomState(seed)

    def smooth(values, size):
        return F.interpolate(torch.from_numpy(values).float(), size, mode='bilinear')[None]

    frames = smooth(rng.rand(t, 3, -(-h // 8), -(-w // 8)), (h, w))
    flows = rng.choice([-3, 3], (2, t - 1, 2, 4, 4)) * (rng.rand(2, t - 1, 1, 4, 4) < 0.5)
    flows = flows * [0, 0, 1, 1]  # the left side stands still
    quarter = (-(-h // 4), -(-w // 4))
    if t == 1:
        return frames, *torch.zeros(2, 1, 0, 2, *quarter)
    return frames, *(smooth(f, quarter) for f in flows)


def make_batch(n, t, h, w):
    clips = [make_clip(t, h, w, seed) for seed in range(n)]
    return [torch.cat(parts) for parts in zip(*clips, strict=True)]


@torch.no_grad()
def run(net, clip, autocast=False):
    with torch.autocast('cpu', torch.bfloat16, enabled=autocast):
        out = net(clip[0], (clip[1], clip[2]))
    assert out.shape == clip[0].shape
    assert out.dtype == torch.float32
    assert out.isfinite().all()
    assert (out - clip[0]).abs().mean() > 0.01  # the network has something to say
    return out


def psnr(a, b):
    return -10 * (a.clamp(0, 1) - b.clamp(0, 1)).square().mean().log10().item()


def check_clip(net, t, size):
    """A clip in float32 and in half precision."""
    clip = make_clip(t, *size)
    full = run(net, clip)
    # Without instructions for it a CPU takes a hundred times as long: short small clips of the
    # narrow networks have to do.
    padded = (size[0] + -size[0] % 64) * (size[1] + -size[1] % 64)
    narrow = net.encoder.to_quarter[0].out_channels < 100
    if BFLOAT16 or (narrow and t * padded <= 8 * 64 * 64):
        assert psnr(run(net, clip, autocast=True), full) >= 45


def check_batch(net, n, t, size):
    """A batch is its clips, one by one."""
    batch = make_batch(n, t, *size)
    together = run(net, batch)
    for i in range(n):
        alone = run(net, [x[i : i + 1] for x in batch])
        assert (together[i : i + 1] - alone).abs().max() < 1e-4


@pytest.mark.parametrize('t', [t if t < 10 else pytest.param(t, marks=SLOW) for t in LENGTHS])
def test_any_length(net, t):
    check_clip(net, t, (16, 16))


@pytest.mark.parametrize('size', SIZES[1:], ids=str)
def test_any_size(net, size):
    check_clip(net, 2, size)


@pytest.mark.parametrize('n, t', [(2, 1), (3, 2), (2, 5), pytest.param(3, 24, marks=SLOW)])
def test_any_number(net, n, t):
    check_batch(net, n, t, (40, 70))


@SLOW
def test_many_large_frames(net):
    check_clip(net, 24, (250, 334))


@torch.no_grad()
def test_both_kinds_of_windows_are_there(net):
    """Otherwise the tests above would say little of the sparse attention."""
    frames, *flows = make_clip(7, 180, 320)
    for selection in net.neck.select(net.motion(frames, flows)[2]):
        assert 0 < len(selection.places) < 3 * 5


@SLOW
@pytest.mark.parametrize(
    't, size', [(1, (16, 16)), (3, (16, 16)), (24, (16, 16)), (1, (250, 334)), (2, (128, 80))]
)
def test_full_width(full_net, t, size):
    check_clip(full_net, t, size)


@SLOW
def test_batch_at_full_width(full_net):
    check_batch(full_net, 3, 5, (16, 16))
