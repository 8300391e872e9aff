import json
import shutil
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from bsst_plugin.cli import run
from bsst_plugin.datasets.frame_average import AverageSettings, average_frames

FOLDER = Path(__file__).resolve().parents[2] / 'tools' / 'dataset_converters'
BLUR = {'gopro': 'blur', 'dvd': 'input', 'bsd': 'Blur/RGB'}
SHARP = {'gopro': 'sharp', 'dvd': 'GT', 'bsd': 'Sharp/RGB'}
EXPOSURE = ['--exposure', '1ms8ms']


@pytest.fixture(scope='module')
def command(load_script):
    """Run a command in this process; gives its exit code."""

    def call(name, *argv):
        module = load_script(FOLDER / f'{name}.py')
        with pytest.raises(SystemExit) as stop:
            run(lambda: module.main([str(arg) for arg in argv]))
        return stop.value.code or 0

    return call


@pytest.fixture
def fails(command, capsys):
    """The single line that a command prints when it fails."""

    def call(*argv):
        assert command(*argv) == 1
        err = capsys.readouterr().err.strip()
        assert err.startswith('error: ') and '\n' not in err
        return err

    return call


def picture(seed, size=(16, 24)):
    noise = np.random.default_rng(seed).integers(0, 256, (4, 4, 3), dtype=np.uint8)
    return cv2.resize(noise, size[::-1], interpolation=cv2.INTER_CUBIC)


@pytest.fixture
def published(tmp_path):
    """One test video of three frames of a dataset, as it is published."""

    def make(name):
        top, suffix = {
            'gopro': ('GOPRO_Large/test/GOPR0384_11_00', 'png'),
            'dvd': ('DeepVideoDeblurring_Dataset/quantitative_datasets/IMG_0030', 'jpg'),
            'bsd': ('BSD/BSD_1ms8ms/test/022', 'png'),
        }[name]
        for seed, kind in enumerate((BLUR[name], SHARP[name])):
            folder = tmp_path / 'src' / top / kind
            folder.mkdir(parents=True)
            for i in range(3):
                assert cv2.imwrite(str(folder / f'{i:06d}.{suffix}'), picture((seed, i)))
        return tmp_path / 'src'

    return make


@pytest.mark.parametrize('name', ['gopro', 'dvd', 'bsd'])
def test_converts_then_checks(command, published, capsys, tmp_path, name):
    src, dst = published(name), tmp_path / 'dst'
    arguments = EXPOSURE if name == 'bsd' else []
    assert command(name, src, dst, *arguments) == 0
    printed = capsys.readouterr()
    assert f'{dst}: converted' in printed.out
    assert '1 of ' in printed.out and '3 of ' in printed.out
    lines = printed.err.splitlines()
    assert lines and all(line.startswith('warning: ') for line in lines)
    assert len(list(dst.glob('test/*/*/*.png'))) == 6
    assert command(name, src, dst, *arguments) == 0
    assert f'{dst}: already there, nothing to do' in capsys.readouterr().out
    assert command(name, '--check', dst) == 0
    assert f'{dst}: every pair is in order' in capsys.readouterr().out


@pytest.mark.parametrize('name', ['gopro', 'dvd', 'bsd'])
def test_bad_frames_give_exit_code_1(command, published, capsys, tmp_path, name):
    src, dst = published(name), tmp_path / 'dst'
    arguments = ['--copy', *(EXPOSURE if name == 'bsd' else [])]
    frames = sorted(path for path in src.rglob('*') if path.is_file())
    good = frames[1].read_bytes()
    frames[1].write_bytes(good[:-3])
    assert command(name, src, *arguments, dst) == 1
    printed = capsys.readouterr()
    assert f'error: {frames[1]}: not a readable image' in printed.err
    assert 'left out' in printed.out and not list(dst.glob('test/*/*'))
    frames[1].write_bytes(good)
    assert command(name, src, dst, *arguments) == 0
    bad = next(dst.glob('test/GT/*/00002.png'))
    bad.unlink()
    assert command(name, '--check', dst) == 1
    partner = Path(str(bad).replace('/GT/', '/blur/'))
    assert f'error: {partner}: has no sharp partner' in capsys.readouterr().err


def test_many_problems_are_cut_short(command, published, capsys, tmp_path):
    src = published('gopro')
    folder = src / 'GOPRO_Large/test/GOPR0384_11_00/blur'
    for i in range(100, 170):
        shutil.copy(folder / '000000.png', folder / f'{i:06d}.png')
    assert command('gopro', src, tmp_path / 'dst') == 1
    lines = [x for x in capsys.readouterr().err.splitlines() if x.startswith('error: ')]
    assert len(lines) == 51 and lines[-1] == 'error: and 20 more like these'


def test_gopro_source(command, published, tmp_path, capsys):
    src, dst = published('gopro'), tmp_path / 'dst'
    video = src / 'GOPRO_Large/test/GOPR0384_11_00'
    (video / 'blur').rename(video / 'blur_gamma')
    assert command('gopro', src, dst, '--source', 'blur_gamma') == 0
    link = dst / 'test/blur/GOPR0384_11_00/00000.png'
    assert link.resolve() == video / 'blur_gamma/000000.png'
    assert 'GoPro (blur_gamma)' in capsys.readouterr().out
    assert command('gopro', '--check', dst) == 0
    assert 'GoPro (blur_gamma)' in capsys.readouterr().out


def test_help_explains_the_two_versions_of_gopro(command, capsys):
    assert command('gopro', '--help') == 0
    printed = capsys.readouterr().out
    assert 'blur_gamma' in printed and '2.2' in printed


def test_wrong_arguments(fails, published, tmp_path):
    src, dst = published('gopro'), tmp_path / 'dst'
    assert 'name SRC and DST' in fails('gopro')
    assert 'name SRC and DST' in fails('gopro', src)
    assert '--check takes one folder' in fails('gopro', src, dst, '--check', dst)
    assert '--exposure: 1ms8ms, 2ms16ms, 3ms24ms' in fails('bsd', src, dst)
    assert f'{tmp_path}/none: no such folder' in fails('dvd', tmp_path / 'none', dst)
    assert 'no frames of DVD found' in fails('dvd', src, dst)
    assert not dst.exists()


@pytest.fixture
def film(tmp_path):
    """Write a video without loss; gives its path and frames (t, h, w, 3)."""

    def write(name='my.holiday.mkv', count=11, size=(32, 48)):
        frames = np.stack([picture(i, size) for i in range(count)])
        path = tmp_path / name
        with av.open(str(path), 'w') as container:
            stream = container.add_stream('ffv1', rate=30)
            stream.width, stream.height, stream.pix_fmt = size[1], size[0], 'bgr0'
            for frame in frames:
                container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format='rgb24')))
            container.mux(stream.encode())
        return path, frames

    return write


def read(folder):
    return [cv2.imread(str(path))[..., ::-1] for path in sorted(folder.glob('*.png'))]


@pytest.mark.parametrize('interpolate', [1, 2])
def test_pairs_of_a_film(command, film, tmp_path, capsys, interpolate):
    path, frames = film()
    out = tmp_path / 'out'
    arguments = ['--frames', 5, '--gamma', 1.8, '--interpolate', interpolate, '--split', 'test']
    assert command('synthesize_blur', path, out, *arguments) == 0
    assert 'test/my_holiday: 2 pairs' in capsys.readouterr().out
    expected = list(average_frames(frames, AverageSettings(5, 1.8, interpolate)))
    for place, kind in enumerate(('blur', 'GT')):
        pictures = read(out / 'test' / kind / 'my_holiday')
        assert len(pictures) == 2
        for picture, pair in zip(pictures, expected, strict=True):
            assert np.array_equal(picture, pair[place])
    assert not (out / '.partial').exists()
    assert not (out / 'train').exists()


def test_several_films_and_folders_of_frames(command, film, tmp_path):
    (first, _), (second, frames) = film('a.mkv', 3), film('b.mkv', 6)
    folder = tmp_path / 'c'
    folder.mkdir()
    for i, frame in enumerate(frames):
        assert cv2.imwrite(str(folder / f'{i}.png'), frame[..., ::-1])
    out = tmp_path / 'out'
    assert command('synthesize_blur', first, second, folder, out, '--frames', 3) == 0
    counts = {path.name: len(read(path)) for path in (out / 'train/blur').iterdir()}
    assert counts == {'a': 1, 'b': 2, 'c': 2}
    for kind in ('blur', 'GT'):
        b, c = (read(out / 'train' / kind / name) for name in 'bc')
        assert np.array_equal(b, c)


def test_deep_video_is_brought_to_8_bit(command, tmp_path):
    folder, out = tmp_path / 'deep', tmp_path / 'out'
    folder.mkdir()
    for i in range(3):
        assert cv2.imwrite(str(folder / f'{i}.png'), np.full((8, 8, 3), 257 * 40 * (i + 1), 'u2'))
    assert command('synthesize_blur', folder, out, '--frames', 3, '--gamma', 1) == 0
    assert (read(out / 'train/GT/deep')[0] == 80).all()
    assert (read(out / 'train/blur/deep')[0] == 80).all()


def test_second_run_and_other_settings(command, fails, film, tmp_path, capsys):
    path, _ = film()
    out = tmp_path / 'out'
    assert command('synthesize_blur', path, out, '--frames', 5) == 0
    before = {p: p.stat().st_mtime_ns for p in out.rglob('*.png')}
    assert command('synthesize_blur', path, out, '--frames', 5) == 0
    assert 'train/my_holiday: already there' in capsys.readouterr().out
    line = fails('synthesize_blur', path, out, '--frames', 3)
    assert f'{out}/train/blur/my_holiday: exists, made with' in line and "'frames': 5" in line
    assert {p: p.stat().st_mtime_ns for p in out.rglob('*.png')} == before
    # One of the two folders is lost: it is made again, the other one stays.
    shutil.rmtree(out / 'train/GT')
    assert command('synthesize_blur', path, out, '--frames', 5) == 0
    assert before.keys() == set(out.rglob('*.png'))
    (out / 'synthesis.json').unlink()
    assert 'not made by this tool' in fails('synthesize_blur', path, out, '--frames', 5)
    (out / 'synthesis.json').write_text('{')
    assert 'synthesis.json: damaged' in fails('synthesize_blur', path, out, '--frames', 5)


def test_interrupted_film_leaves_nothing(command, film, tmp_path, monkeypatch):
    path, _ = film()
    out = tmp_path / 'out'
    stale = out / '.partial/train/blur/my_holiday/00000.png'  # of a process that was killed
    stale.parent.mkdir(parents=True)
    stale.write_bytes(b'half')
    calls, original = [], cv2.imencode

    def imencode(*arguments):
        calls.append(arguments)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return original(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(cv2, 'imencode', imencode)
        assert command('synthesize_blur', path, out, '--frames', 3) == 130
    assert not list(out.iterdir())
    assert command('synthesize_blur', path, out, '--frames', 3) == 0
    assert len(read(out / 'train/blur/my_holiday')) == 3


def test_missing_frames_are_a_warning(command, film, tmp_path, capsys):
    path, _ = film(count=40)
    data = bytearray(path.read_bytes())
    data[len(data) // 2 : len(data) // 2 + 3000] = bytes(3000)
    path.write_bytes(data)
    assert command('synthesize_blur', path, tmp_path / 'out', '--frames', 3) == 0
    assert f'warning: {path}: frames are missing in 1 places' in capsys.readouterr().err


def test_bad_films(fails, film, tmp_path):
    out = tmp_path / 'out'
    path, _ = film(count=4)
    text, none = tmp_path / 'text.mp4', tmp_path / 'none.mp4'
    text.write_text('not a video')
    (tmp_path / 'sub').mkdir()
    twin = tmp_path / 'sub' / path.name
    shutil.copy(path, twin)
    assert f'{path}: 4 frames, too few' in fails('synthesize_blur', path, out)
    assert str(text) in fails('synthesize_blur', text, out)
    assert str(none) in fails('synthesize_blur', none, out)
    assert 'my_holiday: the name of several videos' in fails('synthesize_blur', path, twin, out)
    assert '--frames must be odd' in fails('synthesize_blur', path, out, '--frames', 4)
    assert '--gamma must be' in fails('synthesize_blur', path, out, '--gamma', 0)
    assert '--interpolate must be' in fails('synthesize_blur', path, out, '--interpolate', 0)
    assert not out.exists()
    full = tmp_path / 'file'
    full.write_text('mine')
    good, _ = film('good.mkv', count=12)
    assert str(full) in fails('synthesize_blur', good, full)
    assert full.read_text() == 'mine'


def test_record_says_how_it_was_made(command, film, tmp_path):
    path, _ = film()
    assert command('synthesize_blur', path, tmp_path / 'out', '--frames', 3) == 0
    record = json.loads((tmp_path / 'out/synthesis.json').read_text())
    settings = {'frames': 3, 'gamma': 2.2, 'interpolate': 1}
    assert record == {'train/my_holiday': {'source': str(path), **settings}}
