"""What ``bsst-deblur`` says to what cannot be done."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from bsst_plugin.commands import deblur_video as command

REPO = Path(__file__).resolve().parents[3]
sys.path.insert(0, str(REPO / 'tests'))
from video_files import moving_frames, play, read, write_folder, write_video  # noqa: E402


def test_bad_input(tmp_path, fails, deblur, checkpoint):
    assert 'no.mp4: no such video' in fails(tmp_path / 'no.mp4')
    (tmp_path / 'text.mp4').write_text('text' * 99)
    assert 'text.mp4: not a video' in fails(tmp_path / 'text.mp4')
    (tmp_path / 'empty').mkdir()
    assert 'empty: holds no frames' in fails(tmp_path / 'empty')
    path = write_video(tmp_path / 'a.mp4', moving_frames(3))
    assert 'no.pth: no such checkpoint' in fails(path, checkpoint=tmp_path / 'no.pth')
    assert '.txt is not a video format' in fails(path, tmp_path / 'b.txt')
    assert '--codec nonsense' in fails(path, '--codec', 'nonsense')
    assert 'like 4GB' in fails(path, '--max-memory', 'much')
    assert 'too little memory' in fails(path, '--max-memory', '1MB')
    (tmp_path / 'file').write_text('in the way')
    for folder in (tmp_path / 'file', tmp_path / 'file' / 'deeper'):
        assert 'choose another --report' in fails(path, '--report', folder)
    # A folder replaces that of a run before, and what is in it.
    for folder in (tmp_path / 'sharp', tmp_path / 'sharp' / 'deeper'):
        assert 'choose another --report' in fails(path, f'{tmp_path}/sharp/', '--report', folder)
    for nameless in ('.', '..', '/'):
        assert 'give a new file or folder' in fails(path, nameless)
    assert 'cannot be written to' in fails(path, tmp_path / 'file' / 'b.mp4')
    if not torch.cuda.is_available():
        assert '--device cuda: not on this machine' in fails(path, '--device', 'cuda')
    names = ['a.mp4', 'empty', 'file', 'text.mp4']
    assert sorted(entry.name for entry in tmp_path.iterdir()) == names


@pytest.mark.skipif(os.name != 'posix' or os.geteuid() == 0, reason='root may write everywhere')
def test_folder_that_is_not_writable(tmp_path, fails):
    path = write_video(tmp_path / 'a.mp4', moving_frames(3))
    (tmp_path / 'locked').mkdir(mode=0o500)
    assert 'locked: cannot be written to' in fails(path, tmp_path / 'locked' / 'b.mp4')


def test_folder_of_the_system(tmp_path, fails):
    path = write_video(tmp_path / 'a.mp4', moving_frames(3))
    assert '/proc: cannot be written to' in fails(path, '/proc/b.mp4')


@pytest.fixture
def small_disk(tmp_path):
    """A disk of 150 kB."""
    folder = tmp_path / 'disk'
    folder.mkdir()
    mount = ['mount', '-t', 'tmpfs', '-o', 'size=150k', 'tmpfs', str(folder)]
    if subprocess.run(mount, capture_output=True).returncode:
        pytest.skip('no small disk can be mounted here')
    yield folder
    subprocess.run(['umount', str(folder)], check=True)


def test_read_only_disk(small_disk, tmp_path, fails):
    path = write_video(tmp_path / 'a.mp4', moving_frames(3))
    subprocess.run(['mount', '-o', 'remount,ro', str(small_disk)], check=True)
    for output in ('b.mp4', 'frames/'):
        assert f'{small_disk}: cannot be written to' in fails(path, f'{small_disk}/{output}')
    assert f'{small_disk}: not a folder' in fails(path, '--report', small_disk / 'report')


@pytest.mark.parametrize('kind', ['folder', 'video', 'report'])
def test_no_space_left(small_disk, tmp_path, deblur, fails, short_clips, kind):
    frames = moving_frames(26)
    source = write_folder(tmp_path / 'in', frames, '.bmp' if kind == 'folder' else '.png')
    target = small_disk / ('out' if kind == 'folder' else 'out.avi')
    extra = ['--report', small_disk / 'report'] if kind == 'report' else ['--codec', 'ffv1']
    line = fails(source, target, *(extra if kind != 'folder' else []))
    assert 'space' in line
    assert not target.exists() and not (small_disk / 'report').exists()
    subprocess.run(['mount', '-o', 'remount,size=20m', str(small_disk)], check=True)
    deblur(source, target, '--resume', *(extra if kind != 'folder' else []))
    count = len(read(target)) if kind == 'folder' else len(play(target).frames)
    assert count == 26


@pytest.mark.parametrize(
    ('option', 'words'),
    [
        ('--fps 1/0', '1/0: not a rate'),
        ('--fps -5', 'not a rate'),
        ('--preview -1', '-1'),
        ('--crf 64', '0 to 63'),
    ],
)
def test_numbers_that_make_no_sense(option, words, capsys):
    with pytest.raises(SystemExit) as stop:
        command.deblur_video(['a.mp4', *option.split()])
    assert stop.value.code == 2 and words in capsys.readouterr().err.splitlines()[-1]
