from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings, strategies

from bsst_plugin.datasets import BlurSettings, CaptureSettings, RenderedClips
from bsst_plugin.datasets.averaged_video import Video, averaged_clip
from bsst_plugin.errors import UserError

SHAPE = BlurSettings(num_frames=4, size=32, blur=(4, 12))
RESTING = CaptureSettings(tripod_share=1, averaged_frames=(3, 5), coded_share=1)


def video(frames):
    """A video that has been decoded."""
    return Video(Path('video.mp4'), np.asarray(frames, np.uint8))


def flat(values, side=48):
    return video(
        np.broadcast_to(np.asarray(values)[:, None, None, None], (len(values), side, 60, 3))
    )


@given(seed=strategies.integers(0, 999), length=strategies.integers(12, 40))
@settings(max_examples=30, deadline=None)
def test_means_of_successive_frames(seed, length):
    values = np.random.default_rng(seed).integers(0, 256, length)
    blurry, sharp = averaged_clip(flat(values), SHAPE, RESTING, np.random.default_rng(seed))
    assert all(np.ptp(frame) == 0 and frame.shape == (32, 32, 3) for frame in blurry + sharp)
    got = [(int(b[0, 0, 0]), int(s[0, 0, 0])) for b, s in zip(blurry, sharp, strict=True)]
    possible = []
    for count in (3, 5):
        for way in (values, values[::-1]):
            for start in range(length - 4 * count + 1):
                groups = way[start : start + 4 * count].reshape(4, count)
                possible.append(list(zip(groups.mean(1), groups[:, count // 2], strict=True)))
    errors = [np.abs(np.subtract(got, one)).max() for one in possible]
    assert min(errors) <= 0.51


def test_light_is_averaged_where_values_are_not():
    values = np.tile([0, 255], 20)
    light = replace(RESTING, coded_share=0, averaged_frames=(3, 3))
    blurry, _ = averaged_clip(flat(values), SHAPE, light, np.random.default_rng(0))
    brightest = max(int(frame[0, 0, 0]) for frame in blurry)
    assert 255 * (2 / 3) ** (1 / 1.8) - 1 < brightest < 255 * (2 / 3) ** (1 / 2.4) + 1


def photo(side=80):
    rng = np.random.default_rng(0)
    layers = [cv2.resize(rng.random((n, n, 3)), (side, side)) for n in (4, 16, 64)]
    return (255 * np.mean(layers, 0)).astype(np.uint8)


@pytest.mark.parametrize('tripod, shake', [(0, 0), (0, 1), (1, 1)])
def test_a_camera_moves_over_the_video(tripod, shake):
    still = video([photo()] * 30)
    ranges = replace(RESTING, tripod_share=tripod, shake_share=shake)
    differences = []
    for seed in range(6):
        blurry, sharp = averaged_clip(still, SHAPE, ranges, np.random.default_rng(seed))
        differences += [
            np.abs(np.subtract(sharp[0], sharp[-1], dtype=float)).mean(),
            np.abs(np.subtract(blurry, sharp, dtype=float)).mean(),
        ]
    assert (np.mean(differences) > 1) == (not tripod)


def test_a_moving_part_is_preferred():
    resting, moving = [photo()] * 300, [np.roll(photo(), 3 * i, axis=1) for i in range(300)]
    motions = []
    for seed in range(12):
        clip = averaged_clip(video(resting + moving), SHAPE, RESTING, np.random.default_rng(seed))
        motions.append(np.abs(np.subtract(*clip, dtype=float)).mean())
    assert np.mean(np.array(motions) > 1.5) > 0.7  # half without looking


def test_a_part_that_moves_a_little_can_be_enough():
    little, moving = [photo()] * 300, [np.roll(photo(), 3 * i, axis=1) for i in range(300)]
    everything = replace(RESTING, least_motion=0.0)
    motions = []
    for seed in range(12):
        clip = averaged_clip(video(little + moving), SHAPE, everything, np.random.default_rng(seed))
        motions.append(np.abs(np.subtract(*clip, dtype=float)).mean())
    assert 0.2 < np.mean(np.array(motions) > 1.5) < 0.8


def test_a_file_is_read_and_reduced(tmp_path):
    path = tmp_path / 'a.avi'
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*'MJPG'), 25, (960, 720))
    for i in range(5):
        writer.write(np.full((720, 960, 3), (10, 20, 100 + 20 * i), np.uint8))  # BGR
    writer.release()
    frames = Video.read(path).frames
    assert frames.shape == (5, 480, 640, 3) and frames.dtype == np.uint8
    expected = [(100 + 20 * i, 20, 10) for i in range(5)]
    np.testing.assert_allclose(frames.mean((1, 2)), expected, atol=3)


def test_what_cannot_be_used_is_named(tmp_path):
    rng = np.random.default_rng(0)
    with pytest.raises(UserError, match=r'video\.mp4.*needs 12 of'):
        averaged_clip(flat([0] * 11), SHAPE, RESTING, rng)
    with pytest.raises(UserError, match=r'video\.mp4.*px or more'):
        averaged_clip(flat([0] * 20, side=30), SHAPE, RESTING, rng)
    (tmp_path / 'a.mp4').write_bytes(b'no video')
    with pytest.raises(UserError, match=r'a\.mp4: not a readable video'):
        Video.read(tmp_path / 'a.mp4')


def test_share_of_the_rendered_clips(tmp_path):
    """A red photograph and a blue video."""
    for kind in ('backgrounds', 'videos'):
        (tmp_path / 'train' / kind).mkdir(parents=True)
    red = np.zeros((90, 90, 3), np.uint8)
    red[..., 2] = 200
    assert cv2.imwrite(str(tmp_path / 'train/backgrounds/a.png'), red)

    def clips(share):
        capture = {'video_share': share, 'noise_share': 0, 'jpeg_share': 0}
        shape = {'num_frames': 3, 'size': 48, 'blur': (0, 8), 'pieces': (0, 0)}
        return RenderedClips(str(tmp_path), settings=shape, capture=capture)

    assert clips(0)[0]['gt'][0][..., 0].min() > 100
    with pytest.raises(UserError, match=r'videos: no videos.*video_share'):
        clips(0.5)
    path = tmp_path / 'train/videos/a.avi'
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*'MJPG'), 25, (96, 80))
    for _ in range(12):
        writer.write(red[:80, :80, ::-1].repeat(2, axis=1)[:, :96].copy())
    writer.release()
    blue = [clips(0.5)[i]['gt'][0][..., 2].min() > 100 for i in range(40)]
    assert 8 < sum(blue) < 32
    assert all(clips(1)[i]['img'][0][..., 2].min() > 100 for i in range(3))
