import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from bsst_plugin.cli import run

SCRIPT = Path(__file__).resolve().parents[2] / 'tools' / 'dataset_converters' / 'render_blur.py'
SMALL = ['--train-clips', '1', '--test-clips', '1', '--frames', '2', '--size', '32']


@pytest.fixture(scope='module')
def main(load_script):
    return load_script(SCRIPT).main


@pytest.fixture
def photos(tmp_path, write_photo):
    folder = tmp_path / 'photos'
    for seed in range(3):
        write_photo(folder / f'{seed}.png', seed, 50, 60)
    return folder


def fails(main, capsys, *argv):
    """The single line that the command prints when it fails."""
    with pytest.raises(SystemExit) as stop:
        run(lambda: main([str(arg) for arg in argv]))
    assert stop.value.code == 1
    err = capsys.readouterr().err.strip()
    assert err.startswith('error: ') and '\n' not in err
    return err


def test_renders_then_does_nothing(main, capsys, tmp_path):
    dst = tmp_path / 'data'
    main([str(dst), *SMALL])
    assert 'rendered' in capsys.readouterr().out
    assert len(list(dst.glob('*/*/*/*.png'))) == 8
    main([str(dst), *SMALL])
    assert 'already there' in capsys.readouterr().out
    assert 'rendered with seed 0' in fails(main, capsys, dst, *SMALL, '--seed', 1)


def test_own_photographs(main, tmp_path, photos):
    main([str(tmp_path / 'data'), '--photos', str(photos), *SMALL])
    assert len(list((tmp_path / 'data').glob('*/*/*/*.png'))) == 8


def test_wrong_folders(main, capsys, tmp_path, photos):
    missing, empty, full = tmp_path / 'missing', tmp_path / 'empty', tmp_path / 'full'
    empty.mkdir()
    full.mkdir()
    (full / 'thesis.txt').write_text('mine')
    dst = tmp_path / 'data'
    assert f'{missing}: no such folder' in fails(main, capsys, dst, '--photos', missing)
    assert f'{empty}: 0 different photographs' in fails(main, capsys, dst, '--photos', empty)
    assert f'{full}: not empty' in fails(main, capsys, full, *SMALL)
    assert (full / 'thesis.txt').read_text() == 'mine'
    assert 'a file' in fails(main, capsys, full / 'thesis.txt', *SMALL)
    below = full / 'thesis.txt' / 'data'
    assert str(full / 'thesis.txt') in fails(main, capsys, below, *SMALL)
    assert not dst.exists()


def test_wrong_photographs(main, capsys, tmp_path, photos):
    dst, bad = tmp_path / 'data', photos / 'bad.png'

    def message():
        return fails(main, capsys, dst, '--photos', photos, *SMALL)

    bad.write_bytes(b'not an image')
    assert f'{bad}: cannot be used as an image' in message()
    bad.write_bytes(b'')
    assert str(bad) in message()
    assert cv2.imwrite(str(bad), np.zeros((500, 20, 3), np.uint8))
    assert f'{bad}: too small, 20 px' in message()
    assert cv2.imwrite(str(bad), np.zeros((50, 60), np.uint16))
    assert f'{bad}: cannot be used as an image (more than 8 bits' in message()
    # A file that breaks off is noticed only when its pixels are needed.
    noise = np.random.default_rng(1).integers(0, 256, (50, 60, 3), dtype=np.uint8)
    for path in photos.iterdir():
        path.unlink()
    for i in range(2):
        whole = cv2.imencode('.png', np.roll(noise, i, 0))[1].tobytes()
        (photos / f'cut{i}.png').write_bytes(whole[: len(whole) // 2])
    assert 'cut' in message()


def test_bundled_photographs_too_small(main, capsys, tmp_path):
    line = fails(main, capsys, tmp_path / 'data', '--size', 1000)
    assert 'too small' in line and 'smaller frames' in line


@pytest.mark.parametrize(
    'wrong',
    [
        ['--frames', 0],
        ['--exposure', 2],
        ['--blur', 9, 1],
        ['--pieces', 3, 1],
        ['--train-clips', -1],
        ['--train-clips', 0, '--test-clips', 0],
        ['--seed', -1],
    ],
)
def test_wrong_numbers(main, capsys, tmp_path, wrong):
    fails(main, capsys, tmp_path / 'data', *wrong)
    assert not (tmp_path / 'data').exists()


def test_as_a_script(tmp_path):
    command = [sys.executable, str(SCRIPT), str(tmp_path / 'd'), '--photos', str(tmp_path / 'no')]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert 'no such folder' in done.stderr and 'Traceback' not in done.stderr
