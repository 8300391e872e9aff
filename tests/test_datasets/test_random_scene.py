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
def test_camera_stays_inside_the_photograph(shape):
    assert SETTINGS.min_side <= 73
    background = photo(max(shape[0], SETTINGS.min_side), max(shape[1], SETTINGS.min_side))
    times = np.linspace(-0.5, 5.5, 200)
    corner = np.array([[0, 63, 0, 63], [0, 0, 63, 63], [1, 1, 1, 1]])
    for seed in range(20):
        scene = random_scene(background, [], SETTINGS, np.random.default_rng(seed))
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


def test_static_settings_give_a_static_clip():
    settings = BlurSettings(num_frames=2, size=64, angle=0, zoom=0, travel=0)
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
