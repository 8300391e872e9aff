import errno
import multiprocessing
import os
import signal

import pytest
import torch
from mmengine.fileio import get_file_backend

from bsst_plugin.checkpoints.keep import AtomicBackend, newest_checkpoint
from bsst_plugin.errors import UserError


@pytest.fixture
def backend():
    made = get_file_backend(backend_args=dict(backend='atomic'))
    assert isinstance(made, AtomicBackend)
    yield made
    made._outdated.clear()


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_writes_whole_files(backend, tmp_path):
    path = tmp_path / 'new' / 'iter_1.pth'
    backend.put(b'old', path)
    backend.put(b'new', str(path))
    assert path.read_bytes() == b'new'
    assert names(path.parent) == ['iter_1.pth']


def test_full_disk_leaves_what_was_there(backend, tmp_path, monkeypatch):
    path, older = tmp_path / 'iter_2.pth', tmp_path / 'iter_1.pth'
    backend.put(b'older', older)
    backend.put(b'old', path)
    backend.remove(older)

    def full(descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, 'fsync', full)
    with pytest.raises(UserError, match=r'iter_2\.pth: cannot be written \(No space left'):
        backend.put(b'new', path)
    assert path.read_bytes() == b'old'
    assert names(tmp_path) == ['iter_1.pth', 'iter_2.pth']


def test_killed_while_writing(backend, tmp_path):
    path = tmp_path / 'iter_2.pth'
    backend.put(b'old', path)

    def write():
        os.fsync = lambda descriptor: os.kill(os.getpid(), signal.SIGKILL)
        backend.put(b'new', path)

    process = multiprocessing.get_context('fork').Process(target=write)
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    assert path.read_bytes() == b'old'
    assert newest_checkpoint(tmp_path / 'other') is None
    assert list(tmp_path.glob('*.pth')) == [path]  # what is unfinished has another name


def test_removes_only_when_the_next_file_is_there(backend, tmp_path):
    first, second = tmp_path / 'iter_1.pth', tmp_path / 'iter_2.pth'
    backend.put(b'1', first)
    # MMEngine removes with one instance and writes with another.
    get_file_backend(backend_args=dict(backend='atomic')).remove(str(first))
    assert first.read_bytes() == b'1'
    backend.put(b'2', second)
    assert names(tmp_path) == ['iter_2.pth']
    backend.remove(second)
    backend.put(b'3', second)  # the same name again
    assert second.read_bytes() == b'3'


@pytest.fixture
def run_folder(tmp_path):
    """Checkpoints of iterations 2 and 4; the note names the last."""
    for iteration in (2, 4):
        path = tmp_path / f'iter_{iteration}.pth'
        torch.save({'state_dict': {'weight': torch.ones(1000)}}, path)
        os.utime(path, (iteration, iteration))
    (tmp_path / 'best_PSNR_iter_2.pth').write_bytes(b'never asked for')
    (tmp_path / 'last_checkpoint').write_text(str(tmp_path / 'iter_4.pth'))
    return tmp_path


def cut(path):
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])


def test_last_checkpoint(run_folder, capsys):
    assert newest_checkpoint(run_folder) == run_folder / 'iter_4.pth'
    assert capsys.readouterr().out == ''
    (run_folder / 'last_checkpoint').write_text(str(run_folder / 'iter_2.pth'))
    assert newest_checkpoint(run_folder) == run_folder / 'iter_2.pth'  # the note counts


def test_last_checkpoint_is_cut_off(run_folder, capsys):
    cut(run_folder / 'iter_4.pth')
    assert newest_checkpoint(run_folder) == run_folder / 'iter_2.pth'
    left_out, taken = capsys.readouterr().out.strip().splitlines()
    assert str(run_folder / 'iter_4.pth') in left_out
    assert str(run_folder / 'iter_2.pth') in taken


@pytest.mark.parametrize('note', [None, '', 'iter_', '/gone/iter_3.pth', '/moved/iter_4.pth'])
def test_note_that_leads_nowhere(run_folder, note):
    (run_folder / 'last_checkpoint').unlink()
    if note is not None:
        (run_folder / 'last_checkpoint').write_text(note)
    assert newest_checkpoint(run_folder) == run_folder / 'iter_4.pth'


def test_nothing_to_resume_from(run_folder, tmp_path):
    assert newest_checkpoint(tmp_path / 'none') is None
    for path in run_folder.glob('iter_*.pth'):
        cut(path)
    with pytest.raises(UserError, match='no checkpoint in it can be read'):
        newest_checkpoint(run_folder)
