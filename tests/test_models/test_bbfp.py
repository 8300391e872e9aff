import pytest
import torch

from bsst_plugin.models import BBFP
from bsst_plugin.models.alignment import Neighbour
from bsst_plugin.ops import flow_consistency, flow_warp

C, H, W = 4, 6, 8


def build(branches=4, kind='BlurAwareAlignment'):
    return BBFP(C, branches, dict(type=kind, deform_groups=2))


def make_inputs(n, t, seed=0):
    """Encoder features, flows forward and backward, sharp map; the flows nearly consistent."""
    generator = torch.Generator().manual_seed(seed)

    def randn(*shape):
        return torch.randn(*shape, generator=generator)

    forward = 1.5 * randn(n, t - 1, 2, 1, 1) + 0.3 * randn(n, t - 1, 2, H, W)
    backward = -forward + 0.3 * randn(n, t - 1, 2, H, W)
    sharp_map = torch.rand(n, t, 1, H, W, generator=generator)
    return randn(n, t, C, H, W), forward, backward, sharp_map


def literal(net, features, forward, backward, sharp):
    """The recurrence on plain frame indices."""
    t = features.shape[1]
    branches = [{i: features[:, i] for i in range(t)}]
    for j in range(len(net.bodies)):
        backwards = j % 2 == 0
        done = {}
        for i in range(t - 1, -1, -1) if backwards else range(t):
            before, before2 = (i + 1, i + 2) if backwards else (i - 1, i - 2)
            prop = torch.zeros_like(features[:, i])
            if before in done:
                if backwards:
                    flow1, opp1 = backward[:, i], forward[:, i]
                else:
                    flow1, opp1 = forward[:, i - 1], backward[:, i - 1]
                first = Neighbour(
                    done[before],
                    flow_warp(done[before], flow1),
                    flow1,
                    flow_warp(sharp[:, before], flow1),
                    flow_consistency(flow1, opp1),
                )
                if before2 in done:
                    if backwards:
                        flow0, opp0 = backward[:, i + 1], forward[:, i + 1]
                    else:
                        flow0, opp0 = forward[:, i - 2], backward[:, i - 2]
                    flow2 = flow1 + flow_warp(flow0, flow1)
                    opp2 = opp1 + flow_warp(opp0, opp1)
                    second = Neighbour(
                        done[before2],
                        flow_warp(done[before2], flow2),
                        flow2,
                        flow_warp(sharp[:, before2], flow2),
                        flow_consistency(flow2, opp2),
                    )
                else:
                    one, two, plane = (torch.zeros(len(prop), c, H, W) for c in (1, 2, C))
                    second = Neighbour(plane, plane, two, one, one)
                current = branches[-1][i]
                prop = net.alignments[j](current, sharp[:, i], first, second)
            gathered = [branch[i] for branch in branches] + [prop]
            done[i] = prop + net.bodies[j](torch.cat(gathered, 1))
        branches.append(done)
    return torch.stack([torch.cat([b[i] for b in branches], 1) for i in range(t)], 1)


@pytest.mark.parametrize('t', [1, 2, 3, 5])
@torch.no_grad()
def test_equals_the_recurrence(randomise, t):
    net = randomise(build())
    inputs = make_inputs(2, t)
    out = net(*inputs)
    assert out.shape == (2, t, 5 * C, H, W)
    assert net.out_channels == 5 * C
    expected = literal(net, *inputs)
    assert expected.abs().max() < 1e4
    torch.testing.assert_close(out, expected, atol=1e-5, rtol=1e-4)


@torch.no_grad()
def test_flows_of_the_inputs_pass_and_fail_the_check():
    """Else the tests of this file would not see what validity does."""
    _, forward, backward, _ = make_inputs(2, 5)
    valid = flow_consistency(forward.flatten(0, 1), backward.flatten(0, 1))
    assert 0.2 < valid.mean() < 0.95


@torch.no_grad()
def test_information_travels_in_the_direction_of_the_branch(randomise):
    net = randomise(build(branches=2))
    features, *rest = make_inputs(1, 4)
    before = net(features, *rest)
    features[:, 2] += 1
    moved = [(a != b).any().item() for a, b in zip(net(features, *rest)[0], before[0], strict=True)]
    assert moved == [True] * 4
    first_branch = slice(C, 2 * C)
    changed = (net(features, *rest) != before)[0, :, first_branch].flatten(1).any(1).tolist()
    assert changed == [True, True, True, False]  # backward in time: frame 3 came before


@torch.no_grad()
def test_batch_of_two_equals_two_batches_of_one(randomise):
    net = randomise(build(branches=2))
    inputs = make_inputs(2, 3)
    together = net(*inputs)
    for clip in range(2):
        alone = net(*(x[clip : clip + 1] for x in inputs))
        torch.testing.assert_close(together[clip : clip + 1], alone, atol=1e-5, rtol=1e-4)


@torch.no_grad()
def test_flow_guided_alignment_makes_the_backbone_blind_to_blur(randomise):
    net = randomise(build(2, 'FlowGuidedAlignment'))
    features, forward, backward, sharp_map = make_inputs(1, 3)
    out = net(features, forward, backward, sharp_map)
    assert torch.equal(net(features, forward, backward, 1 - sharp_map), out)
    aware = randomise(build(2))
    assert not torch.equal(
        aware(features, forward, backward, 1 - sharp_map),
        aware(features, forward, backward, sharp_map),
    )


def test_gradients_reach_flows(randomise):
    """The refined flows are learned through the alignment."""
    net = randomise(build(branches=2))
    features, forward, backward, sharp_map = make_inputs(1, 4)
    forward.requires_grad_()
    backward.requires_grad_()
    net(features, forward, backward, sharp_map).square().mean().backward()
    for flow in (forward, backward):
        assert (flow.grad.flatten(2).abs().sum(2) > 0).all()


def test_channels_last_is_kept():
    """What LayerNorms and 1 x 1 convolutions have to copy otherwise, frame by frame."""
    features, *motion = make_inputs(1, 3)
    last = features[0].contiguous(memory_format=torch.channels_last)
    with torch.no_grad():
        out = build()(last[None], *motion)
    assert out[0].is_contiguous(memory_format=torch.channels_last)
