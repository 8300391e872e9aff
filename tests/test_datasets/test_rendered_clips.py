import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies
from mmagic.registry import DATASETS
from mmagic.utils import register_all_modules
from mmengine.runner import Runner

from bsst_plugin.datasets import (
    BlurSettings,
    Capture,
    CaptureSettings,
    Layer,
    Recording,
    RenderedClips,
    Response,
    Scene,
    random_capture,
    random_response,
    render_linear,
    to_linear,
    to_srgb,
)
from bsst_plugin.datasets.random_scene import scene_over
from bsst_plugin.errors import UserError

SMALL = {'num_frames': 3, 'size': 48, 'blur': (0, 16)}
PLAIN = {'noise_share': 0, 'jpeg_share': 0}
POWER = Response((np.linspace(0, 1, 2**16) ** (1 / 2.2)).astype(np.float32))


def texture(h, w, seed):
    rng = np.random.default_rng(seed)
    layers = [cv2.resize(rng.random((n, n, 3)), (w, h)) for n in (4, 16, 64)]
    return (255 * np.mean(layers, 0)).astype(np.uint8)


@pytest.fixture(scope='module')
def pictures(tmp_path_factory):
    root = tmp_path_factory.mktemp('photographs')
    for seed, (split, h, w) in enumerate(
        [('train', 300, 400), ('train', 70, 60), ('train', 1200, 900), ('val', 200, 200)]
    ):
        folder = root / split / 'backgrounds'
        folder.mkdir(parents=True, exist_ok=True)
        assert cv2.imwrite(str(folder / f'{seed}.jpg'), texture(h, w, seed))
        folder = root / split / 'cutouts'
        folder.mkdir(exist_ok=True)
        y, x = np.mgrid[:60, :50]
        alpha = np.where(np.hypot(y - 30, x - 25) < 20, 255, 0).astype(np.uint8)
        image = np.dstack((texture(60, 50, seed), alpha))
        assert cv2.imwrite(str(folder / f'{seed}.png'), image)
    return root


def clips(root, **arguments):
    return RenderedClips(str(root), **{'settings': SMALL, **arguments})


def psnr(a, b):
    return -10 * np.log10(np.mean((np.float64(a) - np.float64(b)) ** 2) / 255**2 + 1e-9)


def test_sample(pictures):
    data = clips(pictures, length=5)
    sample = data[3]
    assert len(data) == 5 and sample['key'] == 'train_000003'
    assert sample['img_channel_order'] == sample['gt_channel_order'] == 'rgb'
    for key in ('img', 'gt'):
        assert len(sample[key]) == 3
        for frame in sample[key]:
            assert frame.shape == (48, 48, 3) and frame.dtype == np.uint8
            assert frame.flags.c_contiguous and frame.std() > 1


def test_a_clip_follows_from_seed_split_and_index(pictures):
    first = clips(pictures)[7]
    again = clips(pictures)
    again[2]  # what came before does not matter
    np.testing.assert_array_equal(first['img'], again[7]['img'])
    np.testing.assert_array_equal(first['gt'], again[7]['gt'])
    for other in (again[8], clips(pictures, seed=1)[7], clips(pictures, split='val')[7]):
        assert (np.array(first['gt']) != other['gt']).mean() > 0.5


def test_workers_render_the_same(pictures):
    loaders = [
        torch.utils.data.DataLoader(clips(pictures, length=4), batch_size=None, num_workers=workers)
        for workers in (0, 2)
    ]
    for here, there in zip(*loaders, strict=True):
        np.testing.assert_array_equal(here['img'], there['img'])


def test_splits_show_their_own_pictures(pictures, tmp_path):
    """A red and a blue split stay red and blue."""
    for split, colour in (('train', (0, 0, 200)), ('val', (200, 0, 0))):
        folder = tmp_path / split / 'backgrounds'
        folder.mkdir(parents=True)
        assert cv2.imwrite(str(folder / 'a.png'), np.full((90, 90, 3), colour, np.uint8))
    red = clips(tmp_path, capture=PLAIN)[0]['gt'][0]
    blue = clips(tmp_path, capture=PLAIN, split='val')[0]['gt'][0]
    assert red[..., 0].min() > 100 and red[..., 1:].max() == 0
    assert blue[..., 2].min() > 100 and blue[..., :2].max() == 0


def test_from_nearly_sharp_to_strongly_blurred(pictures):
    data = clips(pictures, capture=PLAIN)
    values = [psnr(sample['img'], sample['gt']) for sample in map(data.__getitem__, range(40))]
    assert min(values) < 30 and max(values) > 45
    moving = clips(pictures, capture={**PLAIN, 'still_share': 0, 'exposure': (1, 1)})
    still = clips(pictures, capture={**PLAIN, 'still_share': 1})
    assert np.mean([psnr(moving[i]['img'], moving[i]['gt']) for i in range(10)]) + 5 < np.mean(
        [psnr(still[i]['img'], still[i]['gt']) for i in range(10)]
    )


def test_noise_and_compression_in_still_clips(pictures):
    still = {**PLAIN, 'still_share': 1, 'averaged_share': 0}
    noisy = {**still, 'noise_share': 1, 'noise': (3, 3)}
    packed = {**still, 'jpeg_share': 1, 'jpeg_quality': (60, 60)}
    plain, noisy, packed = (
        np.mean([psnr(data[i]['img'], data[i]['gt']) for i in range(8)])
        for data in (clips(pictures, capture=capture) for capture in (still, noisy, packed))
    )
    assert 34 < noisy < 42 < plain and 25 < packed < plain - 1


def test_large_frames_of_small_photographs(pictures):
    data = clips(pictures, settings={**SMALL, 'num_frames': 1, 'size': 256})
    assert all(data[i]['gt'][0].shape == (256, 256, 3) for i in range(6))


def test_in_a_runner(pictures):
    register_all_modules()
    flips = [dict(type='Flip', keys=['img', 'gt'], flip_ratio=0.5, direction='horizontal')]
    loader = Runner.build_dataloader(
        dict(
            num_workers=0,
            batch_size=2,
            sampler=dict(type='InfiniteSampler', shuffle=True),
            dataset=dict(
                type='RenderedClips',
                data_root=str(pictures),
                settings=SMALL,
                pipeline=[*flips, dict(type='PackInputs')],
            ),
        ),
        seed=0,
    )
    batch = next(iter(loader))
    assert [x.shape for x in batch['inputs']] == [(3, 3, 48, 48)] * 2
    assert batch['data_samples'][0].gt_img.shape == (3, 3, 48, 48)
    assert loader.dataset.metainfo['task_name'] == 'deblur'
    assert DATASETS.get('RenderedClips') is RenderedClips


@pytest.mark.parametrize(
    ('arguments', 'word'),
    [
        ({'split': 'test'}, 'split'),
        ({'length': 0}, 'length'),
        ({'settings': {'size': 3}}, 'size'),
        ({'settings': {'colour': 3}}, 'colour'),
        ({'capture': {'exposure': (0, 1)}}, 'exposure'),
        ({'capture': {'noise_share': 2}}, 'shares'),
        ({'capture': {'jpeg_quality': (90, 80)}}, 'ascending'),
    ],
)
def test_wrong_settings(pictures, arguments, word):
    with pytest.raises(UserError, match=word) as error:
        clips(pictures, **arguments)
    assert '\n' not in str(error.value)


def test_missing_and_broken_pictures(tmp_path):
    with pytest.raises(UserError, match=r'backgrounds.*photographs\.py'):
        clips(tmp_path / 'nothing')
    folder = tmp_path / 'train' / 'backgrounds'
    folder.mkdir(parents=True)
    (folder / 'a.jpg').write_bytes(b'no picture')
    with pytest.raises(UserError, match=r'a\.jpg.*not a readable'):
        clips(tmp_path)[0]


@given(seed=strategies.integers(0, 2**32 - 1))
@settings(max_examples=25, deadline=None)
def test_response_curves(seed):
    response = random_response(np.random.default_rng(seed))
    assert response.table[0] == pytest.approx(0, abs=1e-6)
    assert response.table[-1] == pytest.approx(1, abs=1e-6)
    assert np.diff(response.table).min() >= 0
    light = np.linspace(0.001, 1, 999)
    np.testing.assert_allclose(response.inverse(response(light)), light, atol=2e-5)
    assert 0.34 < response(np.array(0.18)) < 0.6  # medium grey


def test_srgb_response_is_srgb():
    for seed in range(50):
        rng = np.random.default_rng(seed)
        first, second = rng.random(2)
        if first < 0.5 <= second:  # sRGB, and no S on top
            break
    response = random_response(np.random.default_rng(seed))
    light = to_linear(np.arange(256, dtype=np.uint8))
    np.testing.assert_array_equal(np.rint(255 * response(light)), to_srgb(light))


def scene(settings, seed=0):
    """Squares of 6 px, black or white, which averaging before or after the curve tells apart."""
    rng = np.random.default_rng(seed)
    squares = 255 * rng.integers(0, 2, (25, 25, 3), dtype=np.uint8)
    photo = to_linear(squares.repeat(6, 0).repeat(6, 1))
    return scene_over(photo, [texture(60, 60, 2)], settings, rng)


def test_average_of_few_frames_in_light_and_in_pixel_values():
    """Both against frames that are rendered one by one."""
    shape = BlurSettings(num_frames=1, size=48, blur=(10, 10), exposure=0.5)
    times = 0.5 * ((np.arange(5) + 0.5) / 5 - 0.5)
    layers = scene(shape)
    frames = np.array([layers.render(layers.maps(np.array([t]))[:, 0], 48) for t in times])
    light = POWER(frames.mean(0))
    blurry, sharp = Capture(POWER, Recording(5)).take(layers, shape, np.random.default_rng(0))
    np.testing.assert_array_equal(blurry[0], np.rint(255 * light))
    np.testing.assert_array_equal(sharp[0], np.rint(255 * POWER(frames[2])))
    coded = 255 * POWER(frames).mean(0)
    capture = Capture(POWER, Recording(5), coded=True)
    blurry, _ = capture.take(layers, shape, np.random.default_rng(0))
    # Interpolation of light and of pixel values, at the hard edges of the squares, differs less.
    assert 3 * np.abs(blurry[0] - coded).mean() < np.abs(blurry[0] - 255 * light).mean()


@pytest.mark.parametrize('worse', [{'noise': (1e-3, 1e-3)}, {'quality': 60}])
def test_noise_and_compression_spare_the_sharp_frames(worse):
    shape = BlurSettings(num_frames=2, size=48, blur=(10, 10))
    plain, other = (
        capture.take(scene(shape), shape, np.random.default_rng(0))
        for capture in (Capture(POWER), Capture(POWER, **worse))
    )
    np.testing.assert_array_equal(plain[1], other[1])
    assert 20 < psnr(plain[0], other[0]) < 45


def test_fixed_number_of_frames_averaged():
    shape = BlurSettings(num_frames=6, size=48, blur=(10, 10))
    fine = [blur for blur, _ in render_linear(scene(shape), shape)]
    few = [blur for blur, _ in render_linear(scene(shape), shape, Recording(3))]
    one = list(render_linear(scene(shape), shape, Recording(1)))
    assert any(np.abs(a - b).max() > 0.01 for a, b in zip(fine, few, strict=True))
    for blur, sharp in one:
        np.testing.assert_array_equal(blur, sharp)


@pytest.mark.parametrize('coded', [False, True])
def test_noise_has_the_strength_that_was_asked_for(coded):
    shape = BlurSettings(num_frames=1, size=128, blur=(0, 0))
    grey = Layer(
        np.full((300, 300, 3), 0.2, np.float32),
        lambda times: np.tile(np.eye(3), (len(times), 1, 1)),
    )
    shot, read = (2.2 * 3 / 255) ** 2, 0.5 / 255
    capture = Capture(POWER, coded=coded, noise=(shot, read))
    blurry, sharp = capture.take(Scene(grey), shape, np.random.default_rng(0))
    assert np.ptp(sharp[0]) == 0
    slope = 0.2 ** (1 / 2.2 - 1) / 2.2
    expected = 255 * slope * np.sqrt(shot * 0.2 + read**2)
    assert blurry[0].std() == pytest.approx(expected, rel=0.05)
    assert expected == pytest.approx(3, rel=0.2)  # what `CaptureSettings.noise` promises
    assert blurry[0].mean() == pytest.approx(sharp[0].mean(), abs=0.5)


def test_drawn_captures_stay_in_range():
    shape, ranges = BlurSettings(size=96, blur=(4, 24)), CaptureSettings(shake_share=0.6)
    drawn = [random_capture(shape, ranges, np.random.default_rng(i)) for i in range(300)]
    for capture, own in drawn:
        assert 0.1 <= own.exposure <= 1
        assert own.blur[0] <= own.blur[1] <= min(24, own.exposure * 0.35 * 96)
        if capture.recording is not None:
            assert 3 <= capture.recording.frames <= 11 and capture.recording.frames % 2
            assert own.blur[1] <= 2.5 * capture.recording.frames
        assert capture.quality is None or 60 <= capture.quality <= 100
    shares = [
        (ranges.averaged_share, [capture.recording is not None for capture, _ in drawn]),
        (ranges.noise_share, [capture.noise is not None for capture, _ in drawn]),
        (ranges.jpeg_share, [capture.quality is not None for capture, _ in drawn]),
        (ranges.averaged_share * ranges.coded_share, [capture.coded for capture, _ in drawn]),
        (ranges.averaged_share * ranges.gapless_share, [own.exposure == 1 for _, own in drawn]),
        (ranges.tripod_share, [own.travel == own.angle == own.zoom == 0 for _, own in drawn]),
        (
            ranges.shake_share * (1 - ranges.tripod_share),
            [own.shake_gap is not None for _, own in drawn],
        ),
    ]
    for share, found in shares:
        assert np.mean(found) == pytest.approx(share, abs=0.09)
    assert np.mean([own.blur[1] < 1 for _, own in drawn]) > ranges.still_share / 2
    tripods = [own for _, own in drawn if own.travel == 0]
    assert all(own.pieces[0] >= 1 for own in tripods)
