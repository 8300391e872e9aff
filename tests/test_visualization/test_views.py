import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from mmagic.registry import MODELS

from bsst_plugin.inference import Tiling, estimate_flows
from bsst_plugin.visualization.maps import blur_heat_map
from bsst_plugin.visualization.views import draw_seen, view_blur, view_flow, view_windows

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from video_files import moving_frames  # noqa: E402


@pytest.fixture(scope='module')
def network(tiny_generator):
    return MODELS.build(tiny_generator()).eval()


@pytest.fixture(scope='module')
def clip(network):
    """Frames whose right half moves, as a tensor, and their flows."""
    frames = [frame.copy() for frame in moving_frames(5, 96, 128)]
    for frame in frames:
        frame[:, :64] = frames[0][:, :64]
    lqs = torch.from_numpy(np.stack(frames)).permute(0, 3, 1, 2)[None] / 255
    return frames, lqs, estimate_flows(network, lqs)


def test_blur_is_that_of_the_network(network, clip):
    frames, lqs, flows = clip
    pictures = view_blur(network, lqs, flows, Tiling(256, 64, 'smooth'))
    *_, blur_map = network.motion(lqs, flows)
    for picture, frame, blur in zip(pictures, frames, blur_map[0, :, 0].numpy(), strict=True):
        assert np.abs(picture.astype(int) - blur_heat_map(frame, blur)).max() <= 1
    left, right = (np.mean([p[:, part] for p in pictures]) for part in np.s_[:48, 80:])
    assert right > left + 20


def test_windows_are_those_of_the_first_block(network, clip):
    frames, lqs, flows = clip
    pictures = view_windows(network, lqs, flows, Tiling(256, 64, 'smooth'))
    *_, blur_map = network.motion(lqs, flows)
    queries, keys = network.neck.select(blur_map)[0].masks(1, 5, 3, 4)
    part = (queries | keys)[0]
    assert part.any() and not part.all()
    for picture, frame, mask in zip(pictures, frames, part.numpy(), strict=True):
        for row, column in np.ndindex(3, 4):
            inside = np.s_[32 * row + 10 : 32 * row + 22, 32 * column + 10 : 32 * column + 22]
            expected = frame[inside] if mask[row, column] else frame[inside] // 2
            assert np.abs(picture[inside].astype(int) - expected).max() <= 1


@pytest.mark.parametrize('changes, seen', [({}, 2), ({'neck': None}, 1)])
def test_only_what_there_is_to_see_is_drawn(tiny_generator, clip, changes, seen):
    network = MODELS.build(tiny_generator(**changes)).eval()
    pictures = draw_seen(network, clip[1], 2)
    assert len(pictures) == seen
    assert all(picture.shape == (96, 128, 3) for picture in pictures.values())
    assert draw_seen(torch.nn.Identity(), clip[1], 2) == {}


def test_tiles_are_drawn_in_their_place(network, clip):
    frames, lqs, flows = clip
    for view in (view_blur, view_windows):
        pictures = view(network, lqs, flows, Tiling(64, 32, 'smooth'))
        assert [picture.shape for picture in pictures] == [(96, 128, 3)] * 5
        one = view(network, lqs[..., :64, :64], [f[..., :16, :16] for f in flows], Tiling(64, 32))
        corner = pictures[2][:32, :32].astype(int)
        assert np.abs(corner - one[2][:32, :32]).max() <= 1


def test_flow_has_the_colours_of_its_direction(network):
    lqs = torch.zeros(1, 3, 3, 40, 80)
    # Motion to the right in the first step and to the left in the second, 2 pixels per frame.
    to_next = torch.zeros(1, 2, 2, 10, 20)
    to_next[:, 0, 0], to_next[:, 1, 0] = 0.5, -0.5
    pictures = view_flow(network, lqs, (-to_next, to_next), Tiling())
    right, left, last = (picture.reshape(-1, 3).mean(0) for picture in pictures)
    red, blue = 0, 2
    assert right[red] > right[blue] + 50 and left[blue] > left[red] + 50
    np.testing.assert_allclose(last, left)  # after the last frame as before it
    # Twice as fast is more than 2 % of the diagonal: the full colour both times.
    pictures = [view_flow(network, lqs, (-f * to_next, f * to_next), Tiling()) for f in (1, 2)]
    np.testing.assert_array_equal(*pictures)
    (still,) = view_flow(network, lqs[:, :1], (to_next[:, :0], to_next[:, :0]), Tiling())
    assert (still == 255).all() and still.shape == (40, 80, 3)
