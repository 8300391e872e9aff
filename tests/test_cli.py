import pytest
import torch

from bsst_plugin.cli import run
from bsst_plugin.errors import UserError


def outcome(main, capsys):
    with pytest.raises(SystemExit) as error:
        run(main)
    return error.value.code, capsys.readouterr().err


def test_user_error_is_one_line(capsys):
    def main():
        raise UserError('a.png: broken; mend it')

    assert outcome(main, capsys) == (1, 'error: a.png: broken; mend it\n')


def test_user_error_from_a_worker_loses_its_traceback(capsys):
    def main():
        raise UserError(
            'Caught UserError in DataLoader worker process 0.\nOriginal Traceback:\n  File x\n'
            'bsst_plugin.errors.UserError: a.png: broken; mend it\n'
        )

    assert outcome(main, capsys) == (1, 'error: a.png: broken; mend it\n')


def test_exit_codes(capsys):
    assert outcome(lambda: None, capsys)[0] is None
    assert outcome(lambda: 3, capsys)[0] == 3


def test_interruption(capsys):
    def main():
        raise KeyboardInterrupt

    assert outcome(main, capsys) == (130, 'interrupted\n')


def test_too_little_gpu_memory_is_one_line(capsys):
    def fail():
        raise torch.cuda.OutOfMemoryError('Tried to allocate 9 GiB. GPU 0 has more to say.')

    with pytest.raises(SystemExit) as stop:
        run(fail)
    error = capsys.readouterr().err
    assert stop.value.code == 1 and error.count('\n') == 1
    assert error.startswith('error: out of GPU memory') and 'Tried to allocate 9 GiB' in error


def test_other_errors_keep_their_traceback():
    with pytest.raises(ZeroDivisionError):
        run(lambda: 1 // 0)
