import pytest
import torch
import torch.nn.functional as F

from bsst_plugin.models.correction import agreement
from bsst_plugin.models.mixture import mixture, strength
from bsst_plugin.models.motion_path import neighbour_differences, path_corrections
from bsst_plugin.models.second_pass import SecondPass


@pytest.fixture
def given_to_it():
    """Two clips of two frames: frames, first residual, feature, candidates, ways, flows."""
    torch.manual_seed(0)
    frames = torch.rand(4, 3, 36, 40)
    first = 0.1 * torch.randn(4, 3, 36, 40)
    candidates = 0.1 * torch.randn(4, 3, 5, 36, 40)
    ways = tuple(torch.randn(2, 4, 2, 9, 10))
    flows = tuple(torch.randn(2, 2, 1, 2, 9, 10))
    return frames, first, torch.randn(4, 6, 9, 10), candidates, ways, flows


def test_fresh_one_leaves_the_first_mixture(given_to_it):
    assert torch.equal(SecondPass(5, 6, 1).eval()(*given_to_it), given_to_it[1])


def test_it_is_its_description(given_to_it, randomise):
    second = randomise(SecondPass(5, 6, 1)).eval()
    frames, first, feature, candidates, (velocity, path), flows = given_to_it
    restored = frames + first
    moved = neighbour_differences(restored.view(2, 2, 3, 36, 40), *flows)[:, :, 2:]
    parts = (
        candidates,
        path_corrections(frames, restored, path, ((2.2, 1.0), (1.0, 1.0))),
        path_corrections(frames, restored, velocity, ((2.2, 0.65), (1.0, 1.0))),
        first[:, :, None],
        moved,
    )
    mixed = torch.cat(parts, 2)
    around = F.unfold(F.pad(frames, (2, 2, 2, 2), mode='replicate'), 5).view(4, 3, 25, 36, 40)
    detail = frames - around.mean(2)
    judged = second.judge(agreement(torch.cat((mixed, detail[:, :, None]), 2)))
    judged = F.interpolate(judged, scale_factor=4, mode='bilinear')[..., :9, :10]
    seen = F.pixel_unshuffle(second.see(4 * mixed.flatten(1, 2)), 4)
    gap = (moved[:, :, 0] - moved[:, :, 1])[:, :, None]
    inputs = torch.cat((seen, strength(torch.cat((mixed, gap), 2)), feature), 1)
    x = second.blocks(F.leaky_relu(second.to_quarter(inputs) + judged, 0.1))
    weights = second.to_weights(x) + second.judged_to_weights(F.leaky_relu(judged, 0.1))
    out = second(*given_to_it)
    torch.testing.assert_close(out, first + mixture(mixed, weights), atol=1e-4, rtol=1e-3)
    with torch.no_grad():  # frame by frame
        torch.testing.assert_close(second(*given_to_it), out, atol=1e-4, rtol=1e-3)


def test_first_mixture_learns_from_all_that_is_made_of_it(given_to_it, randomise):
    second = randomise(SecondPass(5, 6, 1)).eval()
    for parameter in second.judge.parameters():  # agreement carries no gradient
        torch.nn.init.zeros_(parameter)
    frames, first, *rest = given_to_it
    frames = 0.3 + 0.4 * frames  # nothing is clipped
    first = (0.3 * first).requires_grad_()

    def error(first):
        return second(frames, first, *rest).square().mean()

    (gradient,) = torch.autograd.grad(error(first), first)
    way = torch.randn_like(first)
    with torch.no_grad():
        slope = (error(first + 3e-3 * way) - error(first - 3e-3 * way)) / 6e-3
    assert slope.item() == pytest.approx((gradient * way).sum().item(), rel=0.02)


def test_everything_learns(given_to_it, randomise):
    second = randomise(SecondPass(5, 6, 1))
    second(*given_to_it).sum().backward()
    assert all(p.grad.any() for p in second.parameters())
