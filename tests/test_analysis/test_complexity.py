import pytest
import torch
import torch.nn.functional as F
from mmagic.registry import MODELS
from mmcv.ops import ModulatedDeformConv2dPack
from torch import nn

from bsst_plugin.analysis.complexity import (
    ALL,
    count_gmac_per_frame,
    count_macs,
    count_parameters,
)


class Every(nn.Module):
    """One of each kind of product, on images (b, 8, 6, 6)."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(8, 8, 3, padding=1, groups=2, bias=False)
        self.linear = nn.Linear(8, 12)
        self.inside = nn.Sequential(ModulatedDeformConv2dPack(8, 4, 3, padding=1, bias=False))

    def forward(self, x):
        x = self.conv(x)
        tokens = x.flatten(2).transpose(1, 2)[:, None]
        F.scaled_dot_product_attention(self.linear(tokens), self.linear(tokens), tokens)
        return self.inside(x)


def test_every_product_counts():
    pixels = 2 * 6 * 6
    macs = count_macs(Every(), torch.rand(2, 8, 6, 6))
    attention = pixels * 36 * (12 + 8)  # query with key, weights with value
    offsets = pixels * 27 * 8 * 9
    rest = pixels * 8 * 4 * 9 + 2 * pixels * 8 * 12 + attention + offsets
    deform = pixels * 4 * 8 * 9
    assert macs[ALL]['rest'] * 1e9 == pytest.approx(rest)
    for module in (ALL, 'Every', 'Every.inside', 'Every.inside.0'):
        assert macs[module]['deform'] * 1e9 == pytest.approx(deform)
    assert macs['Every.inside']['rest'] * 1e9 == pytest.approx(offsets)
    assert macs['Every.linear']['rest'] * 1e9 == pytest.approx(2 * pixels * 8 * 12)


def test_no_hook_is_left():
    net = Every()
    count_macs(net, torch.rand(1, 8, 6, 6))
    with pytest.raises(RuntimeError):
        count_macs(net, torch.rand(1, 3, 6, 6))
    assert not net.inside[0]._forward_hooks


def test_tensors_without_memory_give_the_same_count(tiny_generator):
    flow = torch.rand(1, 1, 2, 16, 16)
    generator = tiny_generator(neck=None)  # whatever the content
    real = count_macs(MODELS.build(generator), torch.rand(1, 2, 3, 64, 64), (flow, flow))
    net = MODELS.build(generator).to('meta')
    flow = flow.to('meta')
    meta = count_macs(net, torch.rand(1, 2, 3, 64, 64, device='meta'), (flow, flow))
    assert sum(meta[ALL].values()) == pytest.approx(sum(real[ALL].values()), rel=1e-9)


def test_frozen_flow_is_left_out(tiny_generator):
    clip = torch.rand(1, 3, 3, 64, 64)
    generator = tiny_generator(neck=None)  # whatever the flow
    expected = count_gmac_per_frame(MODELS.build(generator), clip)
    with_spynet = MODELS.build({**generator, 'flow_estimator': dict(type='SPyNetFlow')})
    for parameter in with_spynet.flow_estimator.parameters():
        nn.init.constant_(parameter, 1e-6)  # some weights, so that none are downloaded
    assert sum(count_macs(with_spynet, clip)[ALL].values()) > 1.5 * 3 * expected
    assert count_gmac_per_frame(with_spynet, clip) == pytest.approx(expected, rel=1e-9)
    assert count_parameters(with_spynet) == count_parameters(MODELS.build(generator))
    assert count_parameters(with_spynet) < sum(p.numel() for p in with_spynet.parameters())
