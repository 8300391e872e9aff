"""BasicVSR++ and VRT with the flow of another estimator."""

import pytest
import torch
from mmagic.models.editors.basicvsr_plusplus_net.basicvsr_plusplus_net import BasicVSRPlusPlusNet
from mmagic.registry import MODELS
from mmagic.utils import register_all_modules

SETTINGS = dict(
    BasicVSR=dict(type='FlowBasicVSRPlusPlus', mid_channels=8, num_blocks=1),
    VRT=dict(
        type='FlowVRT',
        channels=8,
        refine_channels=8,
        depths=[2] * 7,
        refine_depths=[1, 1, 1],
        num_heads=2,
        window=(2, 2, 2),
        deform_groups=2,
    ),
)


def build(name):
    register_all_modules(init_default_scope=True)
    return MODELS.build(dict(SETTINGS[name], flow_estimator=dict(type='DISFlow'))).eval()


@pytest.mark.parametrize('name', SETTINGS)
@pytest.mark.parametrize('shape', [(1, 1, 16, 16), (2, 3, 18, 33)])
def test_any_size_in_and_out(name, shape, randomise):
    n, t, h, w = shape
    net = randomise(build(name))
    clip = torch.rand(n, t, 3, h, w)
    with torch.no_grad():
        out = net(clip)
        assert out.shape == clip.shape and torch.isfinite(out).all()
        assert (out - clip).abs().max() > 1e-3
        # Kernels for one clip and for two add up in another order.
        torch.testing.assert_close(net(clip[:1]), out[:1], atol=1e-4, rtol=1e-4)
    assert not any('spynet' in key for key in net.state_dict())


@torch.no_grad()
def test_basicvsrpp_is_that_of_mmagic(moving_clip, randomise):
    clip = moving_clip(3, 256, 256, (3, 1))
    theirs = randomise(BasicVSRPlusPlusNet(8, 1, is_low_res_input=False)).eval()
    flows = []
    compute = theirs.compute_flow
    theirs.compute_flow = lambda lqs: flows.append(tuple(compute(lqs))) or flows[-1]
    expected = theirs(clip)
    ours = build('BasicVSR')
    ours.load_state_dict(theirs.state_dict(), strict=False)
    torch.testing.assert_close(ours(clip, flows[0]), expected, atol=1e-5, rtol=1e-5)


def test_vrt_starts_with_the_blurry_frames():
    clip = torch.rand(1, 2, 3, 32, 32)
    with torch.no_grad():
        assert torch.equal(build('VRT')(clip), clip)


@torch.no_grad()
def test_flow_at_each_scale_is_in_its_pixels():
    net = build('VRT')
    flow = torch.tensor([1.5, -0.5]).view(1, 1, 2, 1, 1).expand(2, 3, 2, 8, 16)
    net.motion_estimator.forward = lambda frames: (flow, -flow)
    to_previous, to_next = net.flows(torch.rand(2, 4, 3, 32, 64))
    for scale, level, back in zip((1, 2, 4, 8), to_previous, to_next, strict=True):
        assert level.shape == (2, 3, 2, 32 // scale, 64 // scale)
        torch.testing.assert_close(level[..., 0, 0], flow[..., 0, 0] * 4 / scale)
        assert torch.equal(back, -level)
