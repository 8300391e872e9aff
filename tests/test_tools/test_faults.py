"""What training leaves behind when it is cut off, and how it goes on."""

import os
import random
import shutil
import signal
import sys
import time
from pathlib import Path

import pytest
import torch

REPO = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(REPO / 'tests'))
from run_command import Command, run_command  # noqa: E402
from tiny_config import losses, render_tiny_dataset, write_tiny_recipe  # noqa: E402

from bsst_plugin.checkpoints.keep import newest_checkpoint  # noqa: E402

ITERS = 6
# A worker, so that what it draws has to be the same, too; a rate that changes the losses.
MORE = """
train_dataloader.update(num_workers=1)
optim_wrapper = dict(optimizer=dict(lr=1e-2))
param_scheduler = [dict(type='LinearLR', start_factor=0.5, by_epoch=False, begin=0, end=4)]
val_dataloader = val_evaluator = val_cfg = None
"""


@pytest.fixture(scope='module')
def straight(tmp_path_factory):
    """A dataset, a config, and a run that nothing has cut off, with a checkpoint each time."""
    folder = tmp_path_factory.mktemp('faults')
    data = render_tiny_dataset(folder / 'data')
    config = write_tiny_recipe(folder / 'tiny.py', data, iters=ITERS, more=MORE)
    done = run_command('tools/train.py', config, '--work-dir', folder / 'straight')
    assert done.returncode == 0, done.stderr[-3000:]
    assert set(losses(folder / 'straight')) == set(range(1, ITERS + 1))
    return folder


@pytest.fixture
def stopped(straight, tmp_path):
    """The work folder of a run that has come to iteration 4."""
    for iteration in (3, 4):
        shutil.copy2(straight / f'straight/iter_{iteration}.pth', tmp_path)
    (tmp_path / 'last_checkpoint').write_text(str(tmp_path / 'iter_4.pth'))
    return tmp_path


def resume(straight, work_dir, *options, **limits):
    command = ['tools/train.py', straight / 'tiny.py', '--work-dir', work_dir, '--resume', *options]
    return run_command(*command, **limits)


def assert_ends_with_a_line(done, *words):
    assert done.returncode == 1, done.stdout[-2000:] + done.stderr[-2000:]
    lines = [line for line in done.stderr.splitlines() if line and not line.startswith('[ WARN')]
    assert lines[-1].startswith('error: ') and 'Traceback' not in done.stderr
    for word in words:
        assert str(word) in lines[-1]


def test_killed_and_resumed(straight, tmp_path):
    expected = losses(straight / 'straight')
    last = random.randint(1, ITERS - 2)
    command = Command('tools/train.py', straight / 'tiny.py', '--work-dir', tmp_path)
    while len(losses(tmp_path)) < last and command.process.is_alive():
        time.sleep(0.01)
    command.process.kill()
    assert command.wait().returncode == -signal.SIGKILL
    for path in tmp_path.glob('*.pth'):
        assert torch.load(path, weights_only=True)['meta']['iter'] >= 1  # whole

    before = losses(tmp_path)
    assert last <= len(before) < ITERS
    done = resume(straight, tmp_path)
    assert done.returncode == 0, done.stderr[-3000:]
    assert losses(tmp_path) == expected
    assert before.items() <= expected.items()


def test_half_written_checkpoint_is_left_out(straight, stopped):
    path = stopped / 'iter_4.pth'
    os.truncate(path, path.stat().st_size // 2)
    done = resume(straight, stopped)
    assert done.returncode == 0, done.stderr[-3000:]
    assert f'Resuming from {stopped / "iter_3.pth"}' in done.stdout + done.stderr
    expected = losses(straight / 'straight')
    assert losses(stopped) == {i: loss for i, loss in expected.items() if i > 3}


def test_full_disk(straight, stopped):
    size = (stopped / 'iter_4.pth').stat().st_size
    done = resume(straight, stopped, file_size=size // 2)
    assert_ends_with_a_line(done, stopped / 'iter_5.pth', 'cannot be written', '--resume')
    assert sorted(stopped.glob('*.pth')) == [stopped / 'iter_3.pth', stopped / 'iter_4.pth']
    assert newest_checkpoint(stopped) == stopped / 'iter_4.pth'


def test_full_disk_before_the_first_checkpoint(straight, tmp_path):
    command = ['tools/train.py', straight / 'tiny.py', '--work-dir', tmp_path]
    done = run_command(*command, file_size=4096)  # less than a config
    assert_ends_with_a_line(done, tmp_path, 'cannot be written', 'make room')


def test_unreadable_frame(straight, stopped, tmp_path_factory):
    data = tmp_path_factory.mktemp('damaged') / 'data'
    shutil.copytree(straight / 'data', data)
    for frame in (data / 'train/GT').glob('*/*.png'):
        frame.write_bytes(frame.read_bytes()[:60])
    done = resume(straight, stopped, '--cfg-options', f'train_dataloader.dataset.data_root={data}')
    assert_ends_with_a_line(done, data / 'train/GT', 'not a readable image')
    assert newest_checkpoint(stopped) == stopped / 'iter_4.pth'


def test_loss_that_is_not_a_number(straight, tmp_path):
    done = run_command(
        'tools/train.py',
        straight / 'tiny.py',
        '--work-dir',
        tmp_path,
        '--cfg-options',
        'optim_wrapper.optimizer.lr=1e36',
    )
    # The first step makes the weights so large that the second loss overflows.
    assert_ends_with_a_line(done, 'iteration 2: the loss is', straight / 'data/train/blur', '.png')
    assert not (tmp_path / 'iter_2.pth').exists()
    assert newest_checkpoint(tmp_path) == tmp_path / 'iter_1.pth'


def test_resuming_a_finished_run(straight):
    done = resume(straight, straight / 'straight')
    assert done.returncode == 0, done.stderr[-3000:]
    assert set(losses(straight / 'straight')) == set(range(1, ITERS + 1))
