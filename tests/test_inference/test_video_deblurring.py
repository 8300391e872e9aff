"""The streaming engine against the networks run on whole videos."""

import sys
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from mmagic.registry import MODELS
from torch import nn

from bsst_plugin.errors import UserError
from bsst_plugin.inference import Tiling, deblur_clips
from bsst_plugin.inference.clip_plan import ClipPlan
from bsst_plugin.inference.video import VideoDeblurring
from bsst_plugin.video import Frame, FrameSource, Look, open_source

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from video_files import moving_frames, write_folder  # noqa: E402


class Frames(FrameSource):
    """Frames in memory; knows how far it was read."""

    def __init__(self, frames: list) -> None:
        self.path, self.pixels = Path('memory'), frames
        self.size, self.deep = frames[0].shape[:2], frames[0].dtype == np.uint16
        self.names = [f'{index}.png' for index in range(len(frames))]
        self.look, self.time_base, self.rate = Look(), Fraction(1, 25), Fraction(25)
        self.times, self.end, self.read = list(range(len(frames))), len(frames), 0

    def frames(self, start=0):
        for index in range(start, len(self.pixels)):
            self.read = index + 1
            yield Frame(self.pixels[index], self.names[index])

    @property
    def files(self):
        return {}


class Add(nn.Module):
    """A network without flow that adds a constant to what it sees, and counts its calls."""

    def __init__(self, value: float) -> None:
        super().__init__()
        self.value, self.calls = nn.Parameter(torch.tensor(value)), 0

    def forward(self, lqs):
        self.calls += 1
        assert min(lqs.shape[-2:]) >= 16
        return lqs + self.value


@pytest.fixture(scope='module')
def network(tiny_generator, randomise):
    net = randomise(MODELS.build(tiny_generator())).eval()
    net.decoder.to_frame.weight.data *= 0.1
    return net


def plan(num_frames=8, tile=64, overlap=16):
    return ClipPlan(num_frames, Tiling(tile, overlap, 'smooth'))


def deblur(network, source, plan, **settings):
    deblurring = VideoDeblurring(network, source, plan, **settings)
    return [frame.pixels for clip in deblurring.run() for frame in clip.deblurred]


@pytest.mark.parametrize('total', [1, 2, 5, 8, 9, 13])
def test_equals_the_whole_video_at_once(network, total):
    frames = moving_frames(total, 72, 100)
    cut = plan(min(8, total))
    out = deblur(network, Frames(frames), cut)
    lqs = torch.from_numpy(np.stack(frames)).permute(0, 3, 1, 2)[None] / 255
    expected = deblur_clips(network, lqs, tiling=cut.tiling, num_frames=cut.num_frames)
    expected = (expected[0].clamp(0, 1) * 255).permute(0, 2, 3, 1).detach().numpy()
    # A clip's flow is estimated in the clip here and there: the same.
    assert len(out) == total
    assert np.abs(np.stack(out) - expected).max() < 0.51
    assert np.abs(np.stack(out) - np.stack(frames).astype(int)).max() > 3


def test_16_bits_keep_their_precision(network):
    frames = [frame.astype(np.uint16) * 257 + 100 for frame in moving_frames(3, 32, 32)]
    out = deblur(Add(1 / 65535), Frames(frames), plan(3))
    for pixels, frame in zip(out, frames, strict=True):
        assert pixels.dtype == np.uint16 and (pixels == np.minimum(frame + 1, 65535)).all()


@pytest.mark.parametrize('size', [(1, 1), (2, 40), (15, 16), (33, 17)])
def test_small_and_odd_frames(network, size):
    frames = [frame[: size[0], : size[1]] for frame in moving_frames(3, 48, 48)]
    out = deblur(network, Frames(frames), plan(3))
    assert [pixels.shape for pixels in out] == [(*size, 3)] * 3
    out = deblur(Add(0.0), Frames(frames), plan(3))
    assert all((pixels == frame).all() for pixels, frame in zip(out, frames, strict=True))


def test_reads_no_further_than_it_needs():
    source = Frames(moving_frames(40, 16, 16))
    run = VideoDeblurring(Add(0.0), source, plan(8)).run()
    for index in range(1, 6):
        clip = next(run)
        assert source.read == 8 + 4 * (index - 1)
        assert clip.start == 4 * (index - 1) and len(clip.frames) == 4


@pytest.mark.parametrize('total, num_frames', [(9, 8), (12, 8), (14, 8), (9, 5), (13, 6), (6, 3)])
def test_going_on_gives_the_same_bytes(network, total, num_frames):
    source = Frames(moving_frames(total, 48, 48))
    clips = list(VideoDeblurring(network, source, plan(num_frames)).run())
    for first in range(1, len(clips) + 1):
        tails = {index: clips[index].tail for index in range(max(first - 4, 0), first)}
        later = list(VideoDeblurring(network, source, plan(num_frames)).run(first, tails))
        assert [clip.index for clip in later] == list(range(first, len(clips)))
        for clip, again in zip(clips[first:], later, strict=True):
            assert torch.equal(clip.tail, again.tail) and clip.motion == again.motion
            for frame, other in zip(clip.deblurred, again.deblurred, strict=True):
                assert (frame.pixels == other.pixels).all() and frame.name == other.name


def test_progress_adds_up_to_the_frames(network):
    steps = []
    source = Frames(moving_frames(13, 72, 100))
    deblur(network, source, plan(), on_progress=steps.append)
    assert sum(steps) == pytest.approx(13) and len(steps) > 3 * 4  # 4 tiles or more in each clip


def test_motion_in_pixels(network):
    source = Frames(moving_frames(6, 96, 128))
    (clip,) = VideoDeblurring(network, source, plan(6)).run()
    assert len(clip.motion) == 6
    assert np.median(clip.motion) == pytest.approx(5**0.5, rel=0.3)  # (2, 1) pixels per frame
    (clip,) = VideoDeblurring(network, Frames(source.pixels[:1] * 5), plan(5)).run()
    assert clip.motion == [0.0] * 5
    assert next(VideoDeblurring(Add(0.0), source, plan(6)).run()).motion == []


def test_source_that_ends_early(network):
    source = Frames(moving_frames(12, 16, 16))
    source.times = list(range(14))
    with pytest.raises(UserError, match='memory: ends earlier'):
        deblur(Add(0.0), source, plan(8))


def test_sample_is_the_frame_in_its_clip(network):
    source = Frames(moving_frames(9, 48, 64))
    before, after = VideoDeblurring(network, source, plan(8)).sample(8)
    assert before.name == '8.png' and (before.pixels == source.pixels[8]).all()
    (clip,) = VideoDeblurring(network, Frames(source.pixels[1:]), plan(8)).run()
    assert (after.pixels == clip.deblurred[-1].pixels).all()


def test_gpu_out_of_memory_halves_the_tile_and_goes_on():
    class Greedy(Add):
        def forward(self, lqs):
            if lqs.shape[-1] > 40:
                raise torch.cuda.OutOfMemoryError('CUDA out of memory')
            return super().forward(lqs)

    cut = plan(5, tile=128, overlap=32)
    steps = []
    source = Frames(moving_frames(9, 64, 64))
    out = deblur(Greedy(0.0), source, cut, on_progress=steps.append)
    assert cut.tiling.tile == 32 and sum(steps) == pytest.approx(9)
    for pixels, frame in zip(out, source.pixels, strict=True):
        assert (pixels == frame).all()


def steps(video, axis):
    """Mean step from each column (axis 2), row (1) or frame (0) to the next."""
    return np.abs(np.diff(video, axis=axis)).mean(tuple({0, 1, 2, 3} - {axis}))


def test_no_seams(network):
    frames = moving_frames(12, 96, 96)

    def run(cut):
        return np.stack(deblur(network, Frames(frames), cut)).astype(float)

    smooth, whole = run(plan(8, 64, 32)), run(plan(12, 96, 0))
    # In the result, no step where tiles or clips meet is larger than elsewhere.
    for axis in (1, 2):
        met = steps(smooth - frames, axis)
        assert met[31:64].mean() <= 1.1 * np.delete(met, np.s_[31:64]).mean()
        assert met[[31, 63]].max() <= np.delete(met, [31, 63]).max()
    met = steps(smooth - frames, 0)  # a clip starts every 4 frames and ends 4 frames later
    assert met[3:-4:4].mean() <= 1.1 * np.delete(met, np.s_[3:-4:4]).mean()
    # More sharply, beside what the network makes of the whole frame: a seam, as of tiles side by
    # side, stands out many times; tiles that fade leave a small part of it.
    seam = steps(run(plan(12, 48, 0)) - whole, 2)
    assert seam[47] > 5 * np.median(seam)
    assert steps(run(plan(12, 64, 32)) - whole, 2).max() < 0.25 * seam[47]


def test_folder_of_frames(network, tmp_path):
    frames = moving_frames(5, 32, 48)
    source = open_source(write_folder(tmp_path / 'in', frames))
    assert len(deblur(network, source, plan(5))) == 5
