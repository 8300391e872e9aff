import pytest
import torch
import torchvision

from bsst_plugin.models import BlurAwareAlignment, FlowGuidedAlignment
from bsst_plugin.models.alignment import Neighbour
from bsst_plugin.ops import flow_warp

C, GROUPS, H, W = 8, 4, 7, 9


def neighbour(seed, reach=2.0):
    generator = torch.Generator().manual_seed(seed)

    def randn(channels):
        return torch.randn(2, channels, H, W, generator=generator)

    feature, flow = randn(C), reach * randn(2)
    return Neighbour(
        feature,
        flow_warp(feature, flow),
        flow,
        torch.rand(2, 1, H, W, generator=generator),
        (torch.rand(2, 1, H, W, generator=generator) < 0.5).float(),
    )


@pytest.fixture
def inputs():
    """Current feature, its sharp map and both neighbours."""
    return torch.randn(2, C, H, W), torch.rand(2, 1, H, W), neighbour(1), neighbour(2)


def literal(align, current, sharp, first, second, blur_aware):
    """The method as written, with torchvision's deformable convolution."""
    condition = [first.warped, current, second.warped]
    if blur_aware:
        condition += [first.sharp_map, sharp, second.sharp_map, first.valid, second.valid]
    out = align.deform.conv_offset(torch.cat([*condition, first.flow, second.flow], dim=1))
    samples = 9 * GROUPS  # each with an offset (y, x) and a mask
    offset, logits = 5 * torch.tanh(out[:, : 2 * samples]), out[:, 2 * samples :].clone()
    for sample in range(samples):
        neighbour = first if sample < samples // 2 else second
        offset[:, 2 * sample] += neighbour.flow[:, 1]
        offset[:, 2 * sample + 1] += neighbour.flow[:, 0]
        if blur_aware:
            base = 2 * neighbour.sharp_map[:, 0] * neighbour.valid[:, 0] - 1
            logits[:, sample] += 0.1 * base
    return torchvision.ops.deform_conv2d(
        torch.cat((first.feature, second.feature), dim=1),
        offset,
        align.deform.conv.weight,
        align.deform.conv.bias,
        padding=1,
        mask=torch.sigmoid(logits),
    )


@pytest.mark.parametrize('kind', [BlurAwareAlignment, FlowGuidedAlignment])
def test_equals_the_method_on_torchvision_s_convolution(randomise, inputs, kind):
    align = randomise(kind(C, GROUPS))
    expected = literal(align, *inputs, blur_aware=kind is BlurAwareAlignment)
    torch.testing.assert_close(align(*inputs), expected, atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize('kind, condition', [(BlurAwareAlignment, 9), (FlowGuidedAlignment, 4)])
def test_shapes_of_the_released_network(kind, condition):
    align = kind()
    shapes = {name: tuple(p.shape) for name, p in align.named_parameters()}
    assert shapes['deform.conv.weight'] == (192, 384, 3, 3)
    assert shapes['deform.conv_offset.0.weight'] == (192, 3 * 192 + condition, 3, 3)
    assert shapes['deform.conv_offset.6.weight'] == (288 + 144, 192, 3, 3)


def test_fresh_alignment_samples_where_the_flow_points_to():
    """Sharp, valid neighbours and no learned offset: all masks are sigmoid(0.1)."""
    align = BlurAwareAlignment(C, GROUPS)
    first = neighbour(1)
    whole = torch.full((2, 2, H, W), 2.0)
    ones = torch.ones(2, 1, H, W)
    first, second = (Neighbour(f, f, whole, ones, ones) for f in (first.feature, first.warped))
    out = align(torch.randn(2, C, H, W), ones, first, second)
    mask = torch.sigmoid(torch.tensor(0.1))
    x = torch.cat((first.feature, second.feature), 1)
    still = align.deform.conv(mask * x)
    torch.testing.assert_close(out[..., :4, :4], still[..., 2:6, 2:6], atol=1e-4, rtol=1e-4)


def test_absent_neighbour_is_zero():
    absent = Neighbour.absent(neighbour(1))
    for name, value in vars(neighbour(1)).items():
        assert torch.equal(getattr(absent, name), torch.zeros_like(value))


def test_flow_guided_alignment_ignores_sharpness_and_validity(randomise, inputs):
    align = randomise(FlowGuidedAlignment(C, GROUPS))
    current, sharp, first, second = inputs
    out = align(current, sharp, first, second)
    blind = [
        Neighbour(n.feature, n.warped, n.flow, 1 - n.sharp_map, 1 - n.valid)
        for n in (first, second)
    ]
    assert torch.equal(align(current, 1 - sharp, *blind), out)
    aware = randomise(BlurAwareAlignment(C, GROUPS))
    assert not torch.allclose(aware(current, 1 - sharp, *blind), aware(*inputs))


def test_gradients_reach_flows_features_and_sharp_maps(randomise):
    align = randomise(BlurAwareAlignment(C, GROUPS))
    leaves = {
        name: [getattr(neighbour(seed), name).requires_grad_() for seed in (1, 2)]
        for name in ('feature', 'warped', 'flow', 'sharp_map')
    }
    pair = [
        Neighbour(**{name: leaf[i] for name, leaf in leaves.items()}, valid=torch.ones(2, 1, H, W))
        for i in range(2)
    ]
    align(torch.randn(2, C, H, W), torch.rand(2, 1, H, W), *pair).square().sum().backward()
    for name, leaf in leaves.items():
        assert all(x.grad.abs().sum() > 0 for x in leaf), name
