import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from mmagic.registry import MODELS
from torch import nn

from bsst_plugin.errors import UserError
from bsst_plugin.inference import Tiling, deblur_clip, estimate_flows, tiling
from bsst_plugin.models import DISFlow

MERGES = pytest.mark.parametrize('merge', ['cut', 'smooth'])
SIZES = st.tuples(st.integers(1, 150), st.integers(1, 150))


class Function(nn.Module):
    """A network without flow that calls a function and keeps the shapes that it saw."""

    def __init__(self, function):
        super().__init__()
        self.function = function
        self.shapes = []

    def forward(self, lqs):
        self.shapes.append(tuple(lqs.shape))
        return self.function(lqs)


class Coordinates(nn.Module):
    """Flow that says where in the frame it lies; checks that it is asked for whole frames."""

    def __init__(self, size):
        super().__init__()
        self.size = size
        self.frames = []

    def forward(self, lqs):
        n, t, _, h, w = lqs.shape
        assert (h, w) == self.size
        self.frames.append(t)
        rows, columns = torch.arange(-(-h // 4.0)), torch.arange(-(-w // 4.0))
        flow = torch.stack(torch.meshgrid(rows, columns, indexing='ij'))
        flow = flow.expand(n, t - 1, *flow.shape)
        return flow, flow + 1000


class FlowViewer(nn.Module):
    """A network whose output is the flow it is given: forward in R and G, backward in B."""

    def __init__(self, size):
        super().__init__()
        self.flow_estimator = Coordinates(size)

    def forward(self, lqs, flows):
        h, w = lqs.shape[-2:]
        forward, backward = (f.repeat_interleave(4, -1).repeat_interleave(4, -2) for f in flows)
        assert -(-h // 4) * 4 == forward.shape[-2] and -(-w // 4) * 4 == forward.shape[-1]
        output = torch.cat([forward, backward[:, :, :1]], 2)[..., :h, :w]
        return torch.cat([output, output[:, -1:]], 1)


@MERGES
@given(size=SIZES, clip=st.tuples(st.integers(1, 2), st.integers(1, 3)))
@settings(max_examples=25, deadline=None)
def test_identity_stays(merge, size, clip):
    lqs = torch.rand(*clip, 3, *size)
    out = deblur_clip(Function(nn.Identity()), lqs, tiling=Tiling(64, 16, merge))
    torch.testing.assert_close(out, lqs, atol=3e-7, rtol=0)


@pytest.mark.parametrize('size', [(112, 160), (200, 132), (64, 64), (40, 52)])
def test_cut_is_the_protocol_of_the_paper_done_literally(size):
    h, w = size
    tile, overlap = 64, 16
    drop = overlap // 2

    def starts(total):
        out, start = [], 0
        while start + tile < total:
            out.append(start)
            start += tile - overlap
        return [*out, max(0, total - tile)]

    def noise():
        """Something else for each tile, so that it shows which one a pixel comes from."""
        generator = torch.Generator().manual_seed(0)
        return lambda lqs: torch.rand(lqs.shape, generator=generator)

    lqs, network = torch.zeros(1, 2, 3, h, w), noise()
    total, count = torch.zeros_like(lqs), torch.zeros(h, w)
    for top in starts(h):
        for left in starts(w):
            bottom, right = min(top + tile, h), min(left + tile, w)
            output = network(lqs[..., top:bottom, left:right])
            for y in range(top + drop * (top > 0), bottom - drop * (bottom < h)):
                for x in range(left + drop * (left > 0), right - drop * (right < w)):
                    total[..., y, x] += output[..., y - top, x - left]
                    count[y, x] += 1
    out = deblur_clip(Function(noise()), lqs, tiling=Tiling(tile, overlap, 'cut'))
    torch.testing.assert_close(out, total / count)


@given(size=SIZES)
@settings(max_examples=25, deadline=None)
def test_local_network_gives_what_it_gives_on_whole_frames(size):
    convolutions = [nn.Conv2d(3, 3, 3, padding=1) for _ in range(8)]
    network = Function(lambda x: nn.Sequential(*convolutions)(x.flatten(0, 1)).unflatten(0, (1, 2)))
    lqs = torch.rand(1, 2, 3, *size)
    with torch.no_grad():
        whole = network(lqs)
    # It sees 8 pixels around each, which is what a tile drops.
    out = deblur_clip(network, lqs, tiling=Tiling(48, 16, 'cut'))
    torch.testing.assert_close(out, whole)


# In a frame of 300 pixels the last tile overlaps the two before it, which differ by 2.
@pytest.mark.parametrize('width, difference', [(288, 1), (300, 2)])
def test_smooth_leaves_no_step_at_the_borders_of_tiles(width, difference):
    class Brighter(nn.Module):
        calls = 0

        def forward(self, lqs):
            self.calls += 1
            return lqs * 0 + self.calls

    lqs = torch.zeros(1, 1, 3, 64, width)
    steps = {
        merge: deblur_clip(Brighter(), lqs, tiling=Tiling(64, 32, merge)).diff().max()
        for merge in ('cut', 'smooth')
    }
    assert steps['cut'] >= 0.5
    # The steepest pixel of a raised cosine over 32 pixels takes pi / 64 of the difference.
    assert steps['smooth'] < 1.01 * difference * math.pi / 64


@MERGES
@given(size=SIZES)
@settings(max_examples=25, deadline=None)
def test_flow_of_a_tile_is_that_of_its_pixels(merge, size):
    h, w = size
    network = FlowViewer(size)
    lqs = torch.rand(1, 3, 3, h, w)
    out = deblur_clip(network, lqs, tiling=Tiling(48, 16, merge))
    assert network.flow_estimator.frames == [3]  # once, on whole frames
    y, x = (torch.arange(side) // 4 for side in size)
    expected = torch.stack(torch.broadcast_tensors(y[:, None], x, y[:, None] + 1000)).float()
    torch.testing.assert_close(out, expected.expand(1, 3, 3, h, w), atol=1e-3, rtol=0)


def test_given_flows_are_used():
    network = FlowViewer((64, 64))
    flows = network.flow_estimator(torch.zeros(1, 2, 3, 64, 64))
    given_flows = (flows[0] + 5, flows[1])
    out = deblur_clip(network, torch.zeros(1, 2, 3, 64, 64), given_flows, Tiling(32, 8))
    torch.testing.assert_close(out[0, 0, 0, :, 0], torch.arange(64) // 4 + 5.0)
    assert network.flow_estimator.frames == [2]


@pytest.mark.parametrize('t', [1, 2, 7, 8, 9, 15, 16, 40])
def test_flows_in_parts_are_the_flows_of_the_clip(t):
    network = nn.Module()
    network.flow_estimator = nn.Identity()
    network.flow_estimator.forward = lambda lqs: (lqs[:, 1:, :2] - lqs[:, :-1, :2], lqs[:, 1:, :2])
    lqs = torch.rand(2, t, 3, 4, 4)
    forward, backward = estimate_flows(network, lqs)
    assert torch.equal(forward, lqs.diff(dim=1)[:, :, :2])
    assert torch.equal(backward, lqs[:, 1:, :2])


def test_network_without_flow_gets_tiles_of_the_full_size():
    network = Function(lambda x: x)
    deblur_clip(network, torch.rand(1, 2, 3, 101, 75), tiling=Tiling(64, 16))
    assert set(network.shapes) == {(1, 2, 3, 64, 64)}


def test_bsstnet_on_one_tile_and_on_many(tiny_generator, moving_clip, randomise):
    network = randomise(MODELS.build(tiny_generator())).eval()
    lqs = moving_clip(3, 58, 90, (2, 1))
    with torch.no_grad():
        whole = network(lqs)
    torch.testing.assert_close(deblur_clip(network, lqs, tiling=Tiling(92, 16)), whole)
    tiled = deblur_clip(network, lqs, tiling=Tiling(48, 16, 'smooth'))
    assert tiled.shape == whole.shape and tiled.isfinite().all()
    # The last tile, alone: rows 12 to 57 and columns 44 to 89.
    flows = [f[..., 3:15, 11:23] for f in network.flow_estimator(lqs)]
    with torch.no_grad():
        corner = network(lqs[..., 12:, 44:], flows)
    torch.testing.assert_close(tiled[..., 48:, 80:], corner[..., 36:, 36:])


def test_half_precision_outputs_are_joined_in_float32():
    network = Function(lambda x: (x + 1).half())
    lqs = torch.rand(1, 1, 3, 40, 100)
    out = deblur_clip(network, lqs, tiling=Tiling(32, 16, 'smooth'))
    assert out.dtype == torch.float32
    torch.testing.assert_close(out, lqs + 1, atol=1e-3, rtol=0)


class SmallMemory(Function):
    """Runs out of memory on tiles above a size."""

    def __init__(self, largest):
        super().__init__(self.blur)
        self.largest = largest

    def blur(self, lqs):
        if max(lqs.shape[-2:]) > self.largest:
            raise torch.cuda.OutOfMemoryError('too large')
        return F.avg_pool3d(lqs, (1, 3, 3), 1, (0, 1, 1), count_include_pad=False)


def test_tile_is_halved_when_memory_runs_out(monkeypatch):
    said = []
    monkeypatch.setattr(tiling, 'print_log', lambda line, **_: said.append(line))
    lqs = torch.rand(1, 2, 3, 150, 300)
    network = SmallMemory(64)
    cut = Tiling(256, 64)
    out = deblur_clip(network, lqs, tiling=cut)
    torch.testing.assert_close(out, SmallMemory(1000).blur(lqs))
    assert (cut.tile, cut.overlap) == (64, 32)
    assert len(said) == 2 and 'tiles of 128' in said[0] and 'tiles of 64' in said[1]
    # The next clip starts with what fitted.
    network.shapes.clear()
    deblur_clip(network, lqs, tiling=cut)
    assert {shape[-1] for shape in network.shapes} == {64}


class LargeFlow(nn.Module):
    """A network whose estimator has memory for frames of some size."""

    def __init__(self, largest):
        super().__init__()
        self.flow_estimator = DISFlow()
        self.flow_estimator.estimate = self.estimate
        self.largest = largest

    def estimate(self, first, second):
        if first.shape[-1] * first.shape[-2] > self.largest:
            raise torch.cuda.OutOfMemoryError('too large')
        return first[:, :2] + 1


def test_flow_is_that_of_smaller_frames_when_memory_runs_out(monkeypatch):
    said = []
    monkeypatch.setattr(tiling, 'print_log', lambda line, **_: said.append(line))
    network = LargeFlow(4000)
    lqs = torch.rand(1, 3, 3, 512, 384)
    forward, backward = estimate_flows(network, lqs)
    assert forward.shape == backward.shape == (1, 2, 2, 128, 96)
    # Flow is that of frames half as large; twice they are halved again.
    assert network.flow_estimator.max_pixels == 512 * 384 // 8**2
    assert len(said) == 2 and 'flow is estimated on frames of' in said[0]
    with pytest.raises(UserError, match='out of GPU memory'):
        estimate_flows(LargeFlow(10), lqs)


def test_small_frames_are_halved_too():
    cut = Tiling(256, 64)
    lqs = torch.rand(1, 1, 3, 100, 80)
    out = deblur_clip(SmallMemory(50), lqs, tiling=cut)
    torch.testing.assert_close(out, SmallMemory(1000).blur(lqs))
    assert cut.tile == 48


def test_memory_too_small_for_the_smallest_tile():
    with pytest.raises(UserError, match='out of GPU memory even with tiles of 32'):
        deblur_clip(SmallMemory(10), torch.rand(1, 1, 3, 128, 100))


@pytest.mark.parametrize(
    'wrong, named',
    [
        (dict(tile=16), 'tile=16'),
        (dict(tile=255), 'tile=255'),
        (dict(tile=64, overlap=64), 'overlap=64'),
        (dict(overlap=-4), 'overlap=-4'),
        (dict(overlap=30), 'overlap=30'),
        (dict(merge='mean'), "merge='mean'"),
    ],
)
def test_wrong_settings_are_named(wrong, named):
    with pytest.raises(UserError, match=named):
        Tiling(**wrong)
