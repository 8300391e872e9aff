"""Runs of ``bsst-deblur`` that were interrupted."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from bsst_plugin.commands import deblur_video as command

REPO = Path(__file__).resolve().parents[3]
sys.path.insert(0, str(REPO / 'tests'))
from video_files import leftovers, moving_frames, play, read, write_folder, write_video  # noqa: E402


def stop_after(monkeypatch, clips, error):
    """Let a run end with ``error`` once so many clips are finished."""
    commit = command.PartialRun.commit

    def stopping(self, clip, *rest):
        commit(self, clip, *rest)
        if clip + 1 == clips:
            raise error

    monkeypatch.setattr(command.PartialRun, 'commit', stopping)
    return lambda: monkeypatch.setattr(command.PartialRun, 'commit', commit)


@pytest.mark.parametrize('kind', ['folder', 'video'])
def test_interrupted_run_goes_on(tmp_path, deblur, fails, short_clips, monkeypatch, capsys, kind):
    frames = moving_frames(15)
    if kind == 'folder':
        source, target = write_folder(tmp_path / 'in', frames), tmp_path / 'out'
    else:
        source, target = write_video(tmp_path / 'a.mp4', frames, sound='aac'), tmp_path / 'b.mp4'
    whole = tmp_path / ('whole' + target.suffix)
    extra = ('--show', 'compare', '--report', tmp_path / 'report')
    deblur(source, whole, *extra)
    for clips in (1, 3):
        mend = stop_after(monkeypatch, clips, KeyboardInterrupt())
        extra = ('--show', 'compare', '--report', tmp_path / f'report{clips}', '--preview', 1)
        with pytest.raises(KeyboardInterrupt):
            deblur(source, target, *extra)
        mend()
        line = capsys.readouterr().err.splitlines()[-1]
        assert line == f'{clips} of 6 clips are kept: go on with --resume'
        assert not target.exists()
        assert 'unfinished run; add --resume' in fails(source, target, *extra)
        # Interrupted once more.
        mend = stop_after(monkeypatch, clips + 1, KeyboardInterrupt())
        with pytest.raises(KeyboardInterrupt):
            deblur(source, target, *extra, '--resume')
        mend()
        deblur(source, target, *extra, '--resume')
        if kind == 'folder':
            assert read(target) == read(whole)
        else:
            assert target.read_bytes() == whole.read_bytes()
        shown = [path.with_name(f'{path.stem}_compare.mp4') for path in (whole, target)]
        assert shown[0].read_bytes() == shown[1].read_bytes()
        assert leftovers(tmp_path) == []
        assert (tmp_path / f'report{clips}/index.html').exists()
        for path in (target, shown[1], target.with_name(f'{target.stem}_preview.png')):
            path.rename(path.with_name(f'{clips}_{path.name}'))


def test_resume_refuses_what_differs(tmp_path, deblur, fails, short_clips, monkeypatch):
    source = write_folder(tmp_path / 'in', moving_frames(15))
    target = tmp_path / 'b.mp4'
    mend = stop_after(monkeypatch, 2, KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        deblur(source, target)
    mend()
    assert 'begun with crf=None, not 20' in fails(source, target, '--resume', '--crf', 20)
    first = (source / '0001.png').read_bytes()
    (source / '0001.png').write_bytes(first + b' ')
    assert '0001.png has changed' in fails(source, target, '--resume')
    assert target.with_name('.b.mp4.partial').exists()  # still there for the right command
    assert 'unfinished run' in fails(source, target)
    deblur(source, target, '--overwrite')  # starts again
    assert len(play(target).frames) == 15 and leftovers(tmp_path) == []


def test_interrupted_before_the_first_clip(tmp_path, deblur, short_clips, monkeypatch):
    path, target = write_video(tmp_path / 'a.mp4', moving_frames(7)), tmp_path / 'b.mp4'
    with monkeypatch.context() as patch:
        patch.setattr(command.VideoDeblurring, 'run', lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            deblur(path, target, '--preview', 1)
    assert leftovers(tmp_path) == []
    deblur(path, target, '--preview', 1, '--resume')  # keeps the preview that is there
    assert len(play(target).frames) == 7


def test_resume_without_anything_to_resume_starts(tmp_path, deblur, short_clips):
    path = write_video(tmp_path / 'a.mp4', moving_frames(3))
    deblur(path, tmp_path / 'b.mp4', '--resume')
    assert len(play(tmp_path / 'b.mp4').frames) == 3


def test_frame_that_is_mended_later(tmp_path, deblur, fails, short_clips):
    source, target = write_folder(tmp_path / 'in', moving_frames(15)), tmp_path / 'out'
    deblur(source, tmp_path / 'whole')
    good = (source / '0012.png').read_bytes()
    (source / '0012.png').write_bytes(good[:50])
    line = fails(source, target)
    assert '0012.png: not a readable image' in line and '--resume' in line and not target.exists()
    (source / '0012.png').write_bytes(good)
    deblur(source, target, '--resume')
    assert read(target) == read(tmp_path / 'whole')


@pytest.mark.slow
def test_killed_run_goes_on(tmp_path, checkpoint, deblur):
    """Killed in the middle, three times; the same bytes in the end."""
    folder = write_folder(tmp_path / 'in', moving_frames(100, 64, 64))
    target, environment = tmp_path / 'out', {**os.environ, 'OMP_NUM_THREADS': '1'}
    arguments = [sys.executable, str(REPO / 'tools' / 'deblur_video.py'), str(folder), str(target)]
    arguments += ['--checkpoint', str(checkpoint), '--device', 'cpu', '--resume']
    partial, finished = tmp_path / '.out.partial', 0
    for _ in range(2):
        process = subprocess.Popen(arguments, env=environment, stderr=subprocess.DEVNULL)
        while not (partial / f'clip_{finished:05d}.json').exists():
            assert process.poll() is None
            time.sleep(0.02)
        time.sleep(0.1)  # into the next clip
        process.send_signal(signal.SIGKILL)
        process.wait()
        finished = len(list(partial.glob('clip_*.json')))
        assert 0 < finished < 5 and not target.exists()
    done = subprocess.run(arguments, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith('100 frames in') and 'going on with frame' in done.stderr
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    deblur(folder, tmp_path / 'whole')
    torch.set_num_threads(threads)
    assert read(target) == read(tmp_path / 'whole')
