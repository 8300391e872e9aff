"""Training, testing and resuming through the commands that users type."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

REPO = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(REPO / 'tests'))
from run_command import Done, run_command  # noqa: E402
from tiny_config import losses, render_tiny_dataset, write_tiny_config  # noqa: E402

MIM = str(Path(sys.executable).with_name('mim'))


@pytest.fixture(scope='module')
def setup(tmp_path_factory):
    """Folder with a dataset, a config, and a training run of 4 iterations."""
    folder = tmp_path_factory.mktemp('run')
    data = render_tiny_dataset(folder / 'data')
    config = write_tiny_config(folder / 'tiny.py', data)
    done = run_command('tools/train.py', config, '--work-dir', folder / 'straight')
    assert done.returncode == 0, done.stderr[-3000:]
    return folder


def mim(*command: object) -> subprocess.CompletedProcess:
    environment = {**os.environ, 'OMP_NUM_THREADS': '1'}
    return subprocess.run(
        [MIM, *map(str, command)], cwd=REPO, env=environment, capture_output=True, text=True
    )


def assert_one_line(done: Done, *words: object) -> None:
    """Exit code 1, and as the last thing one line that holds ``words``."""
    assert done.returncode == 1, done.stdout + done.stderr
    assert 'Traceback' not in done.stdout + done.stderr
    # A worker's OpenCV may add a remark of its own about the broken file.
    lines = [line for line in done.stderr.splitlines() if line and not line.startswith('[ WARN')]
    assert lines[-1].startswith('error: ')
    assert sum(line.startswith('error: ') for line in lines) == 1
    for word in words:
        assert str(word) in lines[-1]


def test_resumed_training_has_the_losses_of_an_uninterrupted_one(setup):
    work_dir = setup / 'stopped'
    command = ['tools/train.py', setup / 'tiny.py', '--work-dir', work_dir]
    first = run_command(*command, '--cfg-options', 'train_cfg.max_iters=2')
    assert first.returncode == 0, first.stderr[-3000:]
    assert set(losses(work_dir)) == {1, 2}
    second = run_command(*command, '--resume')
    assert second.returncode == 0, second.stderr[-3000:]
    straight = losses(setup / 'straight')
    assert set(straight) == {1, 2, 3, 4} and len(set(straight.values())) == 4
    assert losses(work_dir) == straight


def test_checkpoint_loads_with_weights_only(setup):
    checkpoint = torch.load(setup / 'straight/iter_4.pth', weights_only=True)
    assert checkpoint['meta']['iter'] == 4


def test_test_command_writes_the_metrics(setup):
    out = setup / 'metrics.json'
    done = run_command(
        'tools/test.py',
        setup / 'tiny.py',
        setup / 'straight/iter_4.pth',
        '--out',
        out,
        '--work-dir',
        setup / 'tested',
    )
    assert done.returncode == 0, done.stderr[-3000:]
    metrics = json.loads(out.read_text())
    assert {'PSNR', 'SSIM', 'input/PSNR', 'input/SSIM'} <= set(metrics)
    # Four iterations from the identity change little.
    assert abs(metrics['PSNR'] - metrics['input/PSNR']) < 1


@pytest.mark.slow
def test_mim_trains_and_tests(setup):
    config, work_dir = setup / 'tiny.py', setup / 'mim'
    train = mim('train', 'bsst_plugin', config, '--gpus', 0, '--work-dir', work_dir)
    assert train.returncode == 0, train.stderr[-3000:]
    assert losses(work_dir) == losses(setup / 'straight')
    for package in ('bsst_plugin', 'mmagic'):
        test = mim(
            'test',
            package,
            config,
            '--checkpoint',
            work_dir / 'iter_4.pth',
            '--gpus',
            0,
            '--work-dir',
            setup / f'mim_{package}',
        )
        assert test.returncode == 0, test.stderr[-3000:]
        assert 'input/PSNR' in test.stdout + test.stderr


def test_checkpoint_of_another_network(setup):
    wrong = setup / 'wrong.pth'
    torch.save({'state_dict': {'backbone.conv.weight': torch.zeros(3, 3)}}, wrong)
    done = run_command('tools/test.py', setup / 'tiny.py', wrong, '--work-dir', setup / 'tested')
    assert_one_line(done, wrong, 'another network')


def test_file_that_is_not_a_checkpoint(setup):
    wrong = setup / 'text.pth'
    wrong.write_text('not a checkpoint')
    done = run_command('tools/test.py', setup / 'tiny.py', wrong, '--work-dir', setup / 'tested')
    assert_one_line(done, wrong, 'not a checkpoint')


@pytest.mark.parametrize('out', ['metrics.txt', 'metrics'])
def test_metrics_file_of_another_kind(setup, tmp_path, out):
    checkpoint = setup / 'straight/iter_4.pth'
    done = run_command('tools/test.py', setup / 'tiny.py', checkpoint, '--out', tmp_path / out)
    assert_one_line(done, tmp_path / out, '.json, .yaml')


def test_test_on_a_full_disk(setup, tmp_path):
    checkpoint = setup / 'straight/iter_4.pth'
    command = ['tools/test.py', setup / 'tiny.py', checkpoint, '--work-dir', tmp_path]
    done = run_command(*command, file_size=4096)  # less than a config
    assert_one_line(done, tmp_path, 'cannot be written', 'make room')


def start_from(setup, work_dir, state):
    """Train for an iteration from a checkpoint with these tensors."""
    start = work_dir / 'start.pth'
    torch.save({'state_dict': state}, start)
    options = ['--cfg-options', f'load_from={start}', 'train_cfg.max_iters=1', 'val_cfg=None']
    options += ['val_dataloader=None', 'val_evaluator=None']
    return start, run_command('tools/train.py', setup / 'tiny.py', '--work-dir', work_dir, *options)


def test_training_does_not_start_from_another_network(setup, tmp_path):
    # As the authors of BSSTNet name them: MMEngine would train from scratch.
    start, done = start_from(setup, tmp_path, {'transsqattn.conv.weight': torch.zeros(3, 3)})
    assert_one_line(done, start, 'another network (0 of', 'tools/model_converters')


def test_training_may_start_from_a_part_of_the_network(setup, tmp_path):
    state = torch.load(setup / 'straight/iter_4.pth', weights_only=True)['state_dict']
    start, done = start_from(setup, tmp_path, dict(list(state.items())[:9]))
    assert done.returncode == 0, done.stderr[-3000:]
    assert f'{start}: 9 of {len(state)} tensors of BSSTNet fit' in done.stdout + done.stderr
    assert set(losses(tmp_path)) == {1}


def test_resuming_another_network(setup, tmp_path):
    checkpoint = torch.load(setup / 'straight/iter_4.pth', weights_only=True)
    del checkpoint['state_dict'][next(iter(checkpoint['state_dict']))]
    torch.save(checkpoint, tmp_path / 'iter_4.pth')
    done = run_command('tools/train.py', setup / 'tiny.py', '--work-dir', tmp_path, '--resume')
    assert_one_line(done, tmp_path / 'iter_4.pth', 'another network')


def test_resuming_what_has_not_begun_starts_from_the_given_weights(setup, tmp_path):
    done = run_command(
        'tools/train.py',
        setup / 'tiny.py',
        '--resume',
        '--work-dir',
        tmp_path,
        '--cfg-options',
        f'load_from={setup / "straight/iter_4.pth"}',
        'train_cfg.max_iters=1',
    )
    assert done.returncode == 0, done.stderr[-3000:]
    first = losses(tmp_path)
    assert set(first) == {1} and first[1] != losses(setup / 'straight')[1]


def test_batch_kept_and_scaled_at_once(setup):
    done = run_command(
        'tools/train.py',
        'configs/bsstnet_gopro_1gpu.py',
        '--auto-scale-lr',
        '--cfg-options',
        'train_dataloader.dataset.num_input_frames=3',
        *(f'{s}_dataloader.dataset.data_root={setup / "data"}' for s in ('train', 'val')),
    )
    assert_one_line(done, '--auto-scale-lr', 'accumulative_counts')


def test_missing_dataset(setup, tmp_path):
    config = write_tiny_config(tmp_path / 'tiny.py', tmp_path / 'no_data')
    assert_one_line(run_command('tools/train.py', config), tmp_path / 'no_data', 'data_root')


def test_missing_config(tmp_path):
    assert_one_line(run_command('tools/train.py', tmp_path / 'no.py'), tmp_path / 'no.py')


@pytest.mark.parametrize('workers', [0, 1])
def test_frame_that_does_not_decode(setup, tmp_path, workers):
    data = tmp_path / 'data'
    shutil.copytree(setup / 'data', data)
    for frame in (data / 'train/blur').glob('*/*.png'):
        frame.write_bytes(frame.read_bytes()[:60])
    config = write_tiny_config(tmp_path / 'tiny.py', data)
    done = run_command(
        'tools/train.py',
        config,
        '--work-dir',
        tmp_path / 'work',
        '--cfg-options',
        f'train_dataloader.num_workers={workers}',
    )
    assert_one_line(done, data / 'train/blur', '.png', 'not a readable image')
