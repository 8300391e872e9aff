from dataclasses import replace

import cv2
import numpy as np
import pytest

from bsst_plugin.datasets import BlurSettings, random_scene, render_clip

SETTINGS = BlurSettings(num_frames=6, size=64, blur=(6, 12))


def photo(h=100, w=140, seed=0):
    rng = np.random.default_rng(seed)
    layers = [cv2.resize(rng.random((n, n, 3)), (w, h)) for n in (4, 16, 64)]
    return (255 * np.mean(layers, 0)).astype(np.uint8)


def stamp(seed=5):
    """A picture with transparency: a disc."""
    y, x = np.mgrid[:60, :50]
    alpha = np.where(np.hypot(y - 30, x - 25) < 20, 255, 0).astype(np.uint8)
    return np.dstack((photo(60, 50, seed), alpha))


def clip(seed, threads=None):
    before = cv2.getNumThreads()
    cv2.setNumThreads(before if threads is None else threads)
    try:
        rng = np.random.default_rng(seed)
        scene = random_scene(photo(), [photo(seed=1), stamp()], SETTINGS, rng)
        return render_clip(scene, SETTINGS)
    finally:
        cv2.setNumThreads(before)


def test_same_seed_same_bytes():
    first = clip((0, 1, 2))
    for again in (clip((0, 1, 2)), clip((0, 1, 2), threads=1), clip((0, 1, 2), threads=4)):
        np.testing.assert_array_equal(first, again)
    assert (first[1] != clip((0, 1, 3))[1]).mean() > 0.5


@pytest.mark.parametrize('shape', [(72, 72), (75, 140), (100, 90), (400, 700)])
@pytest.mark.parametrize('shake_gap', [None, 0.5, 2.0])
def test_camera_stays_inside_the_photograph(shape, shake_gap):
    assert SETTINGS.min_side <= 73
    settings = replace(SETTINGS, shake_gap=shake_gap)
    background = photo(max(shape[0], SETTINGS.min_side), max(shape[1], SETTINGS.min_side))
    times = np.linspace(-0.5, 5.5, 200)
    corner = np.array([[0, 63, 0, 63], [0, 0, 63, 63], [1, 1, 1, 1]])
    for seed in range(20):
        scene = random_scene(background, [], settings, np.random.default_rng(seed))
        x, y, _ = np.moveaxis(scene.maps(times)[0] @ corner, 1, 0)
        h, w = scene.background.image.shape[:2]
        assert x.min() >= 0 and y.min() >= 0 and x.max() <= w - 1 and y.max() <= h - 1


def test_speed_varies_and_is_limited():
    settings = BlurSettings(num_frames=24, size=64, blur=(10, 10))
    middle, corner = np.arange(24), np.array([[0, 63, 0, 63], [0, 0, 63, 63], [1, 1, 1, 1]])
    for seed in range(10):
        scene = random_scene(photo(128, 160), [], settings, np.random.default_rng(seed))
        begin, end = (scene.maps(middle + t * settings.exposure)[0] for t in (-0.5, 0.5))
        moved = np.linalg.inv(end) @ begin @ corner - corner
        blur = np.linalg.norm(moved[:, :2], axis=1).max(1)
        assert blur.max() <= 10.1
        assert blur.max() > 4 and blur.min() < 0.35 * blur.max()


def exposures(settings, seed):
    """Where the middle of the frame is during each exposure, ``(t, 41, 2)``."""
    times = np.arange(settings.num_frames)[:, None] + np.linspace(-0.5, 0.5, 41) * settings.exposure
    scene = random_scene(photo(200, 240), [], settings, np.random.default_rng(seed))
    middle = scene.maps(times.ravel())[0] @ np.array([31.5, 31.5, 1])
    return middle[:, :2].reshape(*times.shape, 2)


@pytest.mark.parametrize('shake_gap', [0.7, 1.5])
def test_a_hand_that_shakes_blurs_as_much_as_it_should(shake_gap):
    settings = BlurSettings(num_frames=12, size=64, blur=(7, 7), angle=8, shake_gap=shake_gap)
    longest = []
    for seed in range(10):
        steps = np.diff(exposures(settings, seed), axis=1)
        longest.append(np.hypot(*steps.T).sum(0).max())
    # Corners, which turn, too, move by 7 pixels, the middle by a little less.
    assert 4.5 < np.median(longest) < max(longest) < 7.5


def test_a_hand_that_does_not_turn_shakes():
    settings = BlurSettings(num_frames=4, size=64, blur=(8, 8), angle=0, zoom=0, shake_gap=1.0)
    assert np.ptp(exposures(settings, 0), axis=(0, 1)).min() > 2


def test_a_hand_that_shakes_moves_neither_evenly_nor_straight():
    def unevenness(settings):
        """How far the middle of the time is from the mean place, and the width of the way."""
        places = np.concatenate([exposures(settings, seed) for seed in range(10)])
        around = places - places.mean(1, keepdims=True)
        spread = np.sqrt(np.square(around).sum(2).mean(1))
        length, width = np.linalg.svd(around, compute_uv=False).T
        return np.median(np.linalg.norm(around[:, 20], axis=1) / spread), np.median(width / length)

    smooth = BlurSettings(num_frames=12, size=64, blur=(6, 6))
    offset, width = unevenness(smooth)
    assert offset < 0.15 and width < 0.05
    # Means of 5 frames of six videos whose camera moves: 0.36 and 0.18.
    offset, width = unevenness(replace(smooth, shake_gap=1.0))
    assert 0.2 < offset < 0.6 and 0.08 < width < 0.3


def test_slowest_bounds_the_speed_from_below():
    settings = BlurSettings(num_frames=24, size=64, blur=(10, 10), slowest=0.5, angle=0, zoom=0)
    corner = np.array([[0.0], [0.0], [1.0]])
    for seed in range(5):
        scene = random_scene(photo(128, 160), [], settings, np.random.default_rng(seed))
        maps = scene.maps(np.arange(0, 24, 0.05))[0]
        way = np.hypot(*np.diff((maps @ corner)[:, :2, 0], axis=0).T)
        # In a sharp turn the straight way between two times is shorter than the path.
        assert np.percentile(way, 2) > 0.48 * way.max()


def test_motion_is_continuous_between_frames():
    scene = random_scene(photo(), [photo(seed=1)], SETTINGS, np.random.default_rng(0))
    maps = scene.maps(np.linspace(-0.5, 5.5, 6001))
    steps = np.abs(np.diff(maps[..., :2, 2], axis=1)).max()
    assert 0 < steps < 0.1  # pixels in a thousandth of the time between two frames


def test_pieces_are_soft_and_keep_true_alpha():
    rng = np.random.default_rng(1)
    scene = random_scene(photo(), [photo(seed=1), stamp()], SETTINGS, rng)
    for piece in scene.pieces:
        alpha = piece.image[..., 3]
        assert alpha.min() == 0 and alpha.max() == 1
        assert (alpha[[0, -1]] == 0).all() and (alpha[:, [0, -1]] == 0).all()
        assert ((alpha > 0) & (alpha < 1)).sum() > 10
        assert (piece.image[..., :3].max(2) <= alpha + 1e-6).all()
    disc = scene.pieces[1].image[..., 3]
    scale = (disc.shape[0] - 4) / 60
    assert disc.sum() == pytest.approx(np.pi * (20 * scale) ** 2, rel=0.1)


@pytest.mark.parametrize('shake_gap', [None, 1.0])
def test_static_settings_give_a_static_clip(shake_gap):
    still = dict(angle=0, zoom=0, travel=0, shake_gap=shake_gap)
    settings = BlurSettings(num_frames=2, size=64, **still)
    scene = random_scene(photo(), [], settings, np.random.default_rng(0))
    blur, sharp = render_clip(scene, settings)
    np.testing.assert_array_equal(blur, sharp)
    np.testing.assert_array_equal(sharp[0], sharp[1])


def test_one_frame():
    settings = BlurSettings(num_frames=1, size=64)
    blur, sharp = render_clip(
        random_scene(photo(), [], settings, np.random.default_rng(0)), settings
    )
    assert blur.shape == sharp.shape == (1, 64, 64, 3)


def test_photograph_too_small():
    with pytest.raises(ValueError, match='60 px'):
        random_scene(photo(60, 200), [], SETTINGS, np.random.default_rng(0))
