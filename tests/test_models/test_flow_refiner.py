import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision.ops import deform_conv2d

from bsst_plugin.models import FlowRefiner


@pytest.fixture(scope='module')
def refiner(randomise):
    """Random weights; the last layer's are small, so that corrections are about a pixel."""
    refiner = randomise(FlowRefiner()).eval()
    for parameter in refiner.decode[-1].parameters():
        parameter.data *= 0.2
    return refiner


def make_inputs(n, t, h, w, seed=0):
    """Blur map, forward flows, backward flows."""
    generator = torch.Generator().manual_seed(seed)
    flows = 2 * torch.randn(2, n, t - 1, 2, h, w, generator=generator)
    return torch.rand(n, t, 1, h, w, generator=generator), flows[0], flows[1]


@settings(max_examples=15, deadline=None)
@given(
    n=st.integers(1, 3),
    t=st.sampled_from([2, 3, 5]),
    h=st.integers(1, 8),
    w=st.integers(1, 8),
)
@torch.no_grad()
def test_flows_keep_their_shape(refiner, n, t, h, w):
    inputs = make_inputs(n, t, 4 * h, 4 * w)
    for out, flows in zip(refiner(*inputs), inputs[1:], strict=True):
        assert out.shape == flows.shape
        assert out.dtype == torch.float32
        assert out.isfinite().all()
        assert not torch.equal(out, flows)


@pytest.mark.parametrize('t', [2, 5])
@torch.no_grad()
def test_a_fresh_refiner_changes_nothing(t):
    inputs = make_inputs(2, t, 8, 12)
    for out, flows in zip(FlowRefiner()(*inputs), inputs[1:], strict=True):
        assert torch.equal(out, flows)


@torch.no_grad()
def test_zero_weights_of_the_last_layer_change_nothing(randomise):
    refiner = randomise(FlowRefiner())
    for parameter in refiner.decode[-1].parameters():
        parameter.zero_()
    inputs = make_inputs(1, 3, 12, 8)
    for out, flows in zip(refiner(*inputs), inputs[1:], strict=True):
        assert torch.equal(out, flows)


# A reference that goes through the frames one by one: 3-D convolutions as sums of 2-D ones over
# the frames they reach, torchvision's deformable convolution, everything on plain indices.


def lrelu(x, slope=0.2):
    return F.leaky_relu(x, slope)


def spatial(conv, x, **kwargs):
    """A 3-D convolution of depth 1 on one frame."""
    return F.conv2d(x, conv.weight[:, :, 0], conv.bias, **kwargs)


def p3d(block, frames, stride):
    frames = [lrelu(spatial(block[0], x, stride=stride, padding=1)) for x in frames]
    weight, bias = block[2].weight[..., 0], block[2].bias  # (c, c, 3, 1)
    out = []
    for i in range(len(frames)):
        total = bias.view(1, -1, 1, 1)
        for tap, j in enumerate((i - 2, i, i + 2)):
            if 0 <= j < len(frames):
                total = total + F.conv2d(frames[j], weight[:, :, tap, :, None])
        out.append(total)
    return out


def align(deform, first, second, current):
    x = torch.cat((first, current, second), 1)
    for conv in (deform.conv_offset[0], deform.conv_offset[2], deform.conv_offset[4]):
        x = lrelu(F.conv2d(x, conv.weight, conv.bias, padding=1), 0.1)
    last = deform.conv_offset[6]
    x = F.conv2d(x, last.weight, last.bias, padding=1)
    offset, mask = 5 * torch.tanh(x[:, :288]), torch.sigmoid(x[:, 288:])
    weight, bias = deform.conv.weight, deform.conv.bias
    return deform_conv2d(torch.cat((first, second), 1), offset, weight, bias, padding=1, mask=mask)


def propagate(module, inputs, order, others):
    done, visited = {}, []
    for i in order:
        prop = torch.zeros_like(inputs[i])
        if visited:
            first = done[visited[-1]]
            second = done[visited[-2]] if len(visited) > 1 else torch.zeros_like(first)
            prop = align(module.deform, first, second, inputs[i])
        x = torch.cat([inputs[i], *(other[i] for other in others), prop], 1)
        x = lrelu(F.conv2d(x, module.update[0].weight, module.update[0].bias, padding=1), 0.1)
        done[i] = prop + F.conv2d(x, module.update[2].weight, module.update[2].bias, padding=1)
        visited.append(i)
    return done


def upsample(conv, x):
    x = F.interpolate(x, scale_factor=2, mode='bilinear', align_corners=True)
    return F.conv2d(x, conv.weight, conv.bias, padding=1)


def refine_one_direction(net, maps, flows):
    """Lists of ``(1, 1, h, w)`` and ``(1, 2, h, w)``, in the order in which the network runs."""
    frames = [torch.cat(pair, 1) for pair in zip(maps, flows, strict=True)]
    padded = [F.pad(x, (2, 2, 2, 2), mode='replicate') for x in frames]
    frames = [lrelu(spatial(net.downsample[0], x, stride=2)) for x in padded]
    frames = [lrelu(x) for x in p3d(net.encode[0], frames, 1)]
    encoded = [lrelu(x) for x in p3d(net.encode[2], frames, 2)]
    inputs = encoded
    for index, d in ((0, 3), (2, 2), (4, 1)):
        inputs = [lrelu(spatial(net.dilated[index], x, padding=d, dilation=d)) for x in inputs]
    steps = range(len(inputs))
    backward = propagate(net.backward_prop, inputs, reversed(steps), [])
    forward = propagate(net.forward_prop, inputs, steps, [backward])
    out = []
    for i in steps:
        both = torch.cat((backward[i], forward[i]), 1)
        x = F.conv2d(both, net.fuse.weight, net.fuse.bias) + inputs[i] + encoded[i]
        x = lrelu(F.conv2d(x, net.decode[0].weight, net.decode[0].bias, padding=1))
        x = lrelu(upsample(net.decode[2], x))
        x = lrelu(F.conv2d(x, net.decode[4].weight, net.decode[4].bias, padding=1))
        out.append(flows[i] + upsample(net.decode[6], x))
    return out


@pytest.mark.parametrize('t', [2, 3, 5])
@torch.no_grad()
def test_equals_a_loop_over_the_frames(refiner, t):
    blur_map, forward, backward = make_inputs(1, t, 12, 20)
    got_forward, got_backward = refiner(blur_map, forward, backward)
    # Frame i to frame i + 1, with the blur of frame i + 1.
    expected = refine_one_direction(
        refiner,
        [blur_map[:, i + 1] for i in range(t - 1)],
        [backward[:, i] for i in range(t - 1)],
    )
    assert (got_backward - backward).abs().mean() > 0.1
    torch.testing.assert_close(got_backward, torch.stack(expected, 1), atol=1e-4, rtol=1e-4)
    # Frame i + 1 to frame i, with the blur of frame i, from the end of the clip to its start.
    expected = refine_one_direction(
        refiner,
        [blur_map[:, i] for i in range(t - 2, -1, -1)],
        [forward[:, i] for i in range(t - 2, -1, -1)],
    )
    torch.testing.assert_close(got_forward, torch.stack(expected[::-1], 1), atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_a_clip_in_reverse_swaps_the_directions(refiner):
    """The flow of the reversed clip from frame i to i + 1 is the clip's from i + 1 to i."""
    blur_map, forward, backward = make_inputs(1, 4, 8, 8)
    got = refiner(blur_map, forward, backward)
    swapped = refiner(blur_map.flip(1), backward.flip(1), forward.flip(1))
    torch.testing.assert_close(swapped[0].flip(1), got[1], atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(swapped[1].flip(1), got[0], atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_clips_of_a_batch_are_refined_alone(refiner):
    inputs = make_inputs(3, 4, 8, 12)
    together = refiner(*inputs)
    for clip in range(3):
        alone = refiner(*(x[clip : clip + 1] for x in inputs))
        for got, expected in zip(together, alone, strict=True):
            torch.testing.assert_close(got[clip : clip + 1], expected, atol=1e-4, rtol=1e-4)


def test_gradients_reach_every_parameter(randomise):
    refiner = randomise(FlowRefiner())
    inputs = make_inputs(2, 4, 8, 8)
    sum(flows.square().mean() for flows in refiner(*inputs)).backward()
    for name, parameter in refiner.named_parameters():
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.abs().sum() > 0, name


@torch.no_grad()
def test_flows_stay_float32_under_autocast(refiner):
    inputs = make_inputs(1, 3, 16, 16)
    exact = refiner(*inputs)
    with torch.autocast('cpu', torch.bfloat16):
        out = refiner(*inputs)
    for got, expected in zip(out, exact, strict=True):
        assert got.dtype == torch.float32
        # The correction is computed in half precision, the flow is not rounded to it.
        assert (got - expected).abs().max() < 0.05 * expected.abs().max()
