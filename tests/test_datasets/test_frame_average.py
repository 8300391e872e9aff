import cv2
import numpy as np
import pytest
import skimage.data
from hypothesis import given, settings
from hypothesis import strategies as st

from bsst_plugin.datasets.frame_average import AverageSettings, average_frames, in_between


def clip(count, seed=0, size=(5, 7)):
    return np.random.default_rng(seed).integers(0, 256, (count, *size, 3), dtype=np.uint8)


def literal(frames, k, gamma):
    """The average as written down: pixel by pixel, in Python's floats."""
    pairs = []
    for start in range(0, len(frames) - k + 1, k):
        blurry = np.zeros(frames.shape[1:])
        for place in np.ndindex(*frames.shape[1:]):
            light = sum((int(frames[start + i][place]) / 255) ** gamma for i in range(k)) / k
            blurry[place] = 255 * light ** (1 / gamma)
        pairs.append((blurry, frames[start + (k - 1) // 2]))
    return pairs


@given(
    count=st.integers(0, 16),
    k=st.sampled_from([3, 5, 7]),
    gamma=st.sampled_from([1.0, 1.7, 2.2]),
    seed=st.integers(0, 99),
)
@settings(max_examples=30, deadline=None)
def test_equals_a_plain_loop(count, k, gamma, seed):
    frames = clip(count, seed)
    pairs = list(average_frames(iter(frames), AverageSettings(k, gamma)))
    expected = literal(frames, k, gamma)
    assert len(pairs) == len(expected) == count // k
    for (blurry, sharp), (mean, middle) in zip(pairs, expected, strict=True):
        assert blurry.dtype == sharp.dtype == np.uint8
        assert np.abs(blurry - mean).max() <= 0.5 + 1e-3
        assert np.array_equal(sharp, middle)


def test_gamma_weighs_bright_frames_more():
    frames = np.zeros((3, 1, 1, 3), np.uint8)
    frames[1] = 255
    (plain, _), (light, _) = (
        next(average_frames(iter(frames), AverageSettings(3, gamma))) for gamma in (1, 2.2)
    )
    assert (plain == 85).all()
    assert (light == round(255 * (1 / 3) ** (1 / 2.2))).all()


def test_still_video_stays_as_it_is():
    frame = clip(1, size=(40, 50))[0]
    for interpolate in (1, 3):
        settings = AverageSettings(3, 2.2, interpolate)
        ((blurry, sharp),) = average_frames([frame] * 3, settings)
        assert np.array_equal(blurry, frame) and np.array_equal(sharp, frame)


def test_is_read_as_it_goes():
    """No more frames are taken than the next pair needs."""
    taken = []

    def source():
        for index, frame in enumerate(clip(9)):
            taken.append(index)
            yield frame

    pairs = average_frames(source(), AverageSettings(3))
    next(pairs)
    assert len(taken) == 3
    next(pairs)
    assert len(taken) == 6


@pytest.mark.parametrize(
    'wrong', [dict(frames=4), dict(frames=1), dict(gamma=0), dict(interpolate=0)]
)
def test_wrong_settings(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        AverageSettings(**wrong)


def shifted(image, x, y, size=(160, 200)):
    """A part of a picture that has moved by (x, y) pixels."""
    matrix = np.float32([[1, 0, x - 60], [0, 1, y - 60]])
    return cv2.warpAffine(image, matrix, size[::-1], flags=cv2.INTER_CUBIC)


def psnr(a, b):
    return 10 * np.log10(255**2 / np.mean((a.astype(float) - b) ** 2))


def blend(first, second, time, gamma):
    """What becomes of the time in between without flow."""
    light = (1 - time) * (first / 255) ** gamma + time * (second / 255) ** gamma
    return 255 * light ** (1 / gamma)


@pytest.fixture(scope='module')
def photograph():
    return cv2.GaussianBlur(skimage.data.coffee(), (0, 0), 0.7)


@pytest.mark.parametrize('motion', [(3.3, -1.7), (8.0, 5.0), (15.0, -9.0)])
def test_translation_lands_in_between(photograph, motion):
    """Measured: at least 45 dB inside, where blending gives 18 to 32 dB."""
    settings = AverageSettings(3, 2.2, 4)
    first, second = shifted(photograph, 0, 0), shifted(photograph, *motion)
    pictures = list(in_between(first, second, settings))
    assert len(pictures) == 3
    for step, light in enumerate(pictures, start=1):
        assert light.dtype == np.float32 and light.min() >= 0 and light.max() <= 1
        picture = 255 * light ** (1 / 2.2)
        true = shifted(photograph, *(step / 4 * part for part in motion))
        inside = np.s_[20:-20, 20:-20]
        assert psnr(picture[inside], true[inside]) > 42
        assert psnr(picture, true) > psnr(blend(first, second, step / 4, 2.2), true) + 12


def test_time_runs_from_the_first_to_the_second(photograph):
    """At time 1/4 the picture is nearer to the first frame, in position too."""
    first, second = shifted(photograph, 0, 0), shifted(photograph, 12, 0)
    quarter, half, _ = in_between(first, second, AverageSettings(3, 1, 4))
    inside = np.s_[20:-20, 20:-20]
    errors = [
        [psnr(255 * p[inside], shifted(photograph, x, 0)[inside]) for x in (0, 3, 6, 9, 12)]
        for p in (quarter, half)
    ]
    assert [int(np.argmax(row)) for row in errors] == [1, 2]


def test_what_is_hidden_comes_from_the_other_frame(photograph):
    """A piece that moves over a background: its surroundings appear and disappear."""
    piece = skimage.data.astronaut()[80:160, 180:260]

    def scene(x):
        picture = photograph[60:220, 60:300].copy()
        picture[40:120, 60 + x : 140 + x] = piece
        return picture

    settings = AverageSettings(3, 2.2, 2)
    (light,) = in_between(scene(0), scene(24), settings)
    picture, true = 255 * light ** (1 / 2.2), scene(12)
    assert psnr(picture, true) > psnr(blend(scene(0), scene(24), 0.5, 2.2), true) + 6
    # The strip behind the piece shows the background, which only the second frame has there.
    strip = np.s_[50:110, 60:72]
    assert psnr(picture[strip], true[strip]) > 25  # 12 dB if both frames count


def test_what_is_outside_comes_from_the_other_frame(photograph):
    """On the right the first frame has what leaves, on the left the second what enters."""
    settings = AverageSettings(3, 2.2, 2)
    (light,) = in_between(shifted(photograph, 0, 0), shifted(photograph, 16, 0), settings)
    picture, true = 255 * light ** (1 / 2.2), shifted(photograph, 8, 0)
    for border, expected in ((np.s_[10:-10, :8], 26.8), (np.s_[10:-10, -8:], 29.8)):
        assert psnr(picture[border], true[border]) > expected


def test_interpolated_average_is_the_finer_exposure(photograph):
    """Five frames of a slow camera, interpolated, against all frames of one 8 times as fast."""
    fast = [shifted(photograph, 1.0 * i, 0.5 * i) for i in range(33)]
    slow = fast[::8]
    light = AverageSettings().light
    true = 255 * np.mean([light[frame] for frame in fast], axis=0) ** (1 / 2.2)
    inside = np.s_[20:-20, 20:-20]
    ((rough, _),) = average_frames(slow, AverageSettings(5))
    ((smooth, sharp),) = average_frames(slow, AverageSettings(5, interpolate=8))
    assert np.array_equal(sharp, fast[16])
    assert psnr(smooth[inside], true[inside]) > 45
    assert psnr(smooth[inside], true[inside]) > psnr(rough[inside], true[inside]) + 10


@pytest.mark.parametrize('size', [(16, 16), (17, 40)])
def test_small_frames_are_interpolated(size):
    first, second = clip(2, size=size)
    (light,) = in_between(first, second, AverageSettings(3, interpolate=2))
    assert light.shape == (*size, 3) and np.isfinite(light).all()
