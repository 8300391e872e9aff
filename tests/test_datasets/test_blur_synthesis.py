import math

import cv2
import numpy as np
import pytest

from bsst_plugin.datasets import (
    BlurSettings,
    Layer,
    Recording,
    Scene,
    random_scene,
    render_clip,
    render_linear,
    to_linear,
    to_srgb,
)

SIZE = 48


def settings(**changes):
    return BlurSettings(**{'num_frames': 3, 'size': SIZE, 'exposure': 0.75, **changes})


def shifting(x=0.0, y=0.0, start=(0, 0)):
    """A layer whose pixel seen at a place of the frame moves by (x, y) per frame."""

    def motion(times):
        maps = np.tile(np.eye(3), (len(times), 1, 1))
        maps[:, 0, 2] = start[0] + x * times
        maps[:, 1, 2] = start[1] + y * times
        return maps

    return motion


def noise(h, w, seed=0, channels=3):
    return np.random.default_rng(seed).random((h, w, channels)).astype(np.float32)


def photo(h=160, w=200, seed=0):
    """A picture with detail of several sizes, uint8."""
    rng = np.random.default_rng(seed)
    layers = [cv2.resize(rng.random((n, n, 3)), (w, h)) for n in (4, 16, 64)]
    return (255 * np.mean(layers, 0)).astype(np.uint8)


def decode(value):
    """One sRGB value 0-255 to linear light, by the book."""
    value = value / 255
    return value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4


def encode(value):
    """The inverse of ``decode``."""
    return 255 * (12.92 * value if value <= 0.0031308 else 1.055 * value ** (1 / 2.4) - 0.055)


def test_transfer_curve():
    every = np.arange(256, dtype=np.uint8)
    linear = to_linear(every)
    assert linear.dtype == np.float32
    np.testing.assert_allclose(linear, [decode(v) for v in range(256)], atol=1e-7)
    np.testing.assert_array_equal(to_srgb(linear), every)
    np.testing.assert_array_equal(to_srgb(np.array([-0.1, 1.2])), [0, 255])
    assert abs(int(to_srgb(np.array(0.2))) - encode(0.2)) <= 0.5


def test_without_motion_blur_is_sharp():
    piece = Layer(noise(9, 9, 1, 4) * [0.5, 0.5, 0.5, 1], shifting(start=(-20.3, -11.8)))
    scene = Scene(Layer(noise(80, 80), shifting(start=(10.4, 7.7))), (piece,))
    blur, sharp = render_clip(scene, settings())
    assert blur.shape == (3, SIZE, SIZE, 3) and blur.dtype == np.uint8
    np.testing.assert_array_equal(blur, sharp)
    assert len(np.unique(sharp)) > 100


def test_linear_light_and_occlusion_against_a_loop():
    # 8 px per exposure of background and -4 px of a square in front of it; whole pixels at every
    # rendering (9 of them: odd), so that the loop needs no interpolation.
    config = settings(num_frames=1, exposure=0.9, max_step=1.0)
    ground = photo(SIZE, 80)
    square = np.full((10, 10, 3), (250, 20, 120), np.uint8)
    rgba = np.dstack((to_linear(square), np.ones((10, 10), np.float32)))
    rgba = np.pad(rgba, ((3, 3), (3, 3), (0, 0)))
    scene = Scene(
        Layer(to_linear(ground), shifting(x=10, start=(16, 0))),
        # seen through the background: 10 px per frame of that minus 20 of its own
        (Layer(rgba, shifting(x=-20, start=(-33, -17))),),
    )
    blur, sharp = render_clip(scene, config)
    expected = np.zeros((SIZE, SIZE, 3))
    for step in range(-4, 5):
        frame = ground[:, 16 + step : 16 + step + SIZE].copy()
        left = 20 + step  # pixel 3 of the piece, at 33 - 16 + 3 in the middle, moves to the right
        frame[20:30, left : left + 10] = square
        expected += np.vectorize(decode)(frame) / 9
        if step == 0:
            np.testing.assert_array_equal(sharp[0], frame)
    # cubic interpolation of the hard edge is exact at whole pixels, rounding remains
    assert np.abs(blur[0] - np.vectorize(encode)(expected)).max() <= 0.51


def test_translation_is_a_box_blur():
    length, exposure = 9, 0.75
    image = noise(SIZE, 120)
    scene = Scene(Layer(image, shifting(x=length / exposure, start=(30, 0))))
    config = settings(num_frames=1, exposure=exposure, max_step=1.0)
    blur, sharp = next(render_linear(scene, config))
    np.testing.assert_array_equal(sharp, image[:, 30 : 30 + SIZE])
    kernel = np.ones(length) / length
    for y in range(SIZE):
        for c in range(3):
            row = np.convolve(image[y, :, c], kernel, 'same')[30 : 30 + SIZE]
            np.testing.assert_allclose(blur[y, :, c], row, atol=1e-5)


@pytest.mark.parametrize('exposure', [0.3, 1.0])
@pytest.mark.parametrize('angle', [0.0, 0.4, 1.9])
def test_blur_has_the_length_and_direction_of_the_motion(angle, exposure):
    # The picture of a moving point has the second moments of a line of that length.
    length = 12.7
    speed = length / exposure
    y, x = np.mgrid[:120, :120] - 59.5
    point = np.exp(-(x**2 + y**2) / 8).astype(np.float32)[..., None].repeat(3, 2)
    motion = shifting(speed * math.cos(angle), speed * math.sin(angle), start=(36, 36))
    blur, sharp = next(
        render_linear(Scene(Layer(point, motion)), settings(num_frames=1, exposure=exposure))
    )

    def moments(frame):
        mass = frame[..., 0] / frame[..., 0].sum()
        y, x = np.mgrid[:SIZE, :SIZE]
        along = x * math.cos(angle) + y * math.sin(angle)
        across = y * math.cos(angle) - x * math.sin(angle)
        centre = [(mass * axis).sum() for axis in (along, across)]
        return (
            *centre,
            (mass * (along - centre[0]) ** 2).sum(),
            (mass * (across - centre[1]) ** 2).sum(),
        )

    blurred, still = moments(blur), moments(sharp)
    np.testing.assert_allclose(blurred[:2], still[:2], atol=0.02)  # sharp at mid-exposure
    assert math.sqrt(12 * (blurred[2] - still[2])) == pytest.approx(length, rel=0.02)
    assert blurred[3] == pytest.approx(still[3], rel=0.02)


def test_renderings_are_close_together(monkeypatch):
    seen = []
    render = Scene.render

    def spy(self, maps, size):
        seen.append(maps)
        return render(self, maps, size)

    monkeypatch.setattr(Scene, 'render', spy)
    config = settings(num_frames=6, blur=(15, 15), max_step=0.8)
    scene = random_scene(photo(), [photo(seed=1)], config, np.random.default_rng(3))
    corner = np.array([[0, 47, 0, 47], [0, 0, 47, 47], [1, 1, 1, 1]])
    steps, longest = [], 0.0
    for _ in render_linear(scene, config):
        assert len(seen) % 2 == 1
        for before, after in zip(seen[:-1], seen[1:], strict=True):
            moved = np.linalg.inv(after) @ before @ corner - corner
            steps.append(np.linalg.norm(moved[:, :2], axis=1).max())
        moved = np.linalg.inv(seen[-1][0]) @ seen[0][0] @ corner - corner
        longest = max(longest, np.linalg.norm(moved[:2], axis=0).max())
        seen.clear()
    assert max(steps) < 0.9
    assert longest > 5


def test_piece_out_of_view_changes_nothing():
    ground = Layer(noise(80, 80), shifting(start=(10, 10)))
    piece = Layer(noise(9, 9, 1, 4), shifting(start=(300, 0)))
    alone, _ = render_clip(Scene(ground), settings(num_frames=1))
    both, _ = render_clip(Scene(ground, (piece,)), settings(num_frames=1))
    np.testing.assert_array_equal(alone, both)


@pytest.mark.parametrize(
    'wrong',
    [
        {'num_frames': 0},
        {'size': 8},
        {'exposure': 0},
        {'exposure': 1.1},
        {'blur': (9, 3)},
        {'pieces': (2, 1)},
        {'max_step': 0},
        {'zoom': 1},
    ],
)
def test_wrong_settings(wrong):
    with pytest.raises(ValueError, match='needs'):
        BlurSettings(**wrong)


def test_times_of_a_recording():
    shape = settings(num_frames=2, exposure=0.6)
    held = np.array([1, 0, 1, 1, 0, 0], bool)
    times = Recording(3, shutter=0.9, held=held).exposures(shape)
    gap = 0.6 / 3
    middles = [frame + step * gap for frame in (0, 1) for step in (-1, 0, 1)]
    shown = [middles[i] for i in (0, 1, 1, 1, 4, 5)]
    own = [step * 0.9 * gap / 3 for step in (-1, 0, 1)]
    expected = np.add.outer(shown, own).reshape(2, 3, 3)
    np.testing.assert_allclose(times, expected, atol=1e-12)
    plain = Recording(2).exposures(shape)  # an even number has no middle
    np.testing.assert_allclose(plain.ravel(), middles, atol=1e-12)


def test_averaged_frames_have_exposures_of_their_own():
    """Each is the mean of renderings, and so is the sharp one."""
    shape = settings(num_frames=1, exposure=0.8)
    scene = Scene(Layer(noise(SIZE, 120), shifting(x=8, start=(30, 0))))
    recording = Recording(3, shutter=0.6)
    blur, sharp = next(render_linear(scene, shape, recording))
    frames = [
        np.mean([scene.render(scene.maps(np.array([t]))[:, 0], shape.size) for t in own], axis=0)
        for own in recording.exposures(shape)[0]
    ]
    np.testing.assert_allclose(blur, np.mean(frames, axis=0), atol=1e-6)
    np.testing.assert_allclose(sharp, frames[1], atol=1e-6)
