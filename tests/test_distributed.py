"""Two processes on the CPU: as one with twice the batch."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch

REPO = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(REPO / 'tests'))
from run_command import Command, run_command  # noqa: E402
from tiny_config import render_tiny_dataset, write_tiny_recipe  # noqa: E402

# The first buffer of the momentum is the gradient.
MORE = """
optim_wrapper = dict(_delete_=True, type='OptimWrapper', accumulative_counts={accumulate},
    optimizer=dict(type='SGD', lr=0.1, momentum=0.9))
train_dataloader['batch_size'] = {batch_size}
model['generator']['with_cp'] = {with_cp}
val_dataloader = val_evaluator = val_cfg = None
"""


@pytest.fixture(scope='module')
def data(tmp_path_factory):
    return render_tiny_dataset(tmp_path_factory.mktemp('distributed') / 'data', test_clips=3)


@pytest.fixture(scope='module')
def train(data, tmp_path_factory):
    """Train for one step on two clips; the checkpoint."""

    def train(run, batch_size, *options, accumulate=1, with_cp=False):
        folder = tmp_path_factory.mktemp('trained')
        more = MORE.format(batch_size=batch_size, accumulate=accumulate, with_cp=with_cp)
        config = write_tiny_recipe(folder / 'tiny.py', data, iters=accumulate, more=more)
        run('tools/train.py', config, '--work-dir', folder, *options)
        return folder / f'iter_{accumulate}.pth'

    return train


@pytest.fixture(scope='module')
def of_one(train):
    """A checkpoint of one process with a batch of two."""
    return train(run_one, batch_size=2)


def run_one(*command):
    done = run_command(*command)
    assert done.returncode == 0, done.stderr[-3000:]


def run_two(*command):
    """Run a command as two processes, the way torchrun does."""
    shared = dict(WORLD_SIZE='2', MASTER_ADDR='127.0.0.1', MASTER_PORT=str(free_port()))
    commands = [
        Command(
            *command,
            '--launcher',
            'pytorch',
            env=dict(shared, RANK=str(rank), LOCAL_RANK=str(rank)),
        )
        for rank in range(2)
    ]
    for done in [command.wait() for command in commands]:
        assert done.returncode == 0, done.stderr[-3000:]


def free_port():
    with socket.socket() as server:
        server.bind(('127.0.0.1', 0))
        return server.getsockname()[1]


def assert_same_gradients(first, second):
    first, second = (gradients(path) for path in (first, second))
    assert len(first) == len(second) > 100
    largest = max(float(value.abs().max()) for value in second)
    assert largest > 1e-3
    for value, other in zip(first, second, strict=True):
        torch.testing.assert_close(value, other, rtol=1e-4, atol=1e-6 * largest)


def gradients(checkpoint):
    state = torch.load(checkpoint, weights_only=True)['optimizer']['state']
    return [value['momentum_buffer'] for _, value in sorted(state.items())]


def rates(checkpoint):
    groups = torch.load(checkpoint, weights_only=True)['optimizer']['param_groups']
    return [group['lr'] for group in groups]


def results(work_dir):
    (path,) = work_dir.glob('*/results.json')
    return json.loads(path.read_text())


def test_gradients_of_two_processes(train, of_one):
    # Checkpointed activations as well: not every kind of them gets along with this.
    of_two = train(run_two, 1, '--auto-scale-lr', with_cp=True)
    assert_same_gradients(of_two, of_one)
    # Two clips of the 8 that the rate is for.
    assert rates(of_two) == pytest.approx([rate * 2 / 8 for rate in rates(of_one)])


def test_gradients_that_add_up(train, of_one):
    assert_same_gradients(train(run_one, batch_size=1, accumulate=2), of_one)


def test_gradients_that_add_up_in_two_processes(train):
    # They are exchanged once, in the last of the iterations.
    of_two = train(run_two, batch_size=1, accumulate=2, with_cp=True)
    assert_same_gradients(of_two, train(run_one, batch_size=4))


def test_evaluation_counts_every_window_once(of_one, tmp_path):
    config = of_one.with_name('tiny.py')
    run_one('tools/test.py', config, of_one, '--work-dir', tmp_path / 'one')
    run_two('tools/test.py', config, of_one, '--work-dir', tmp_path / 'two')
    one, two = results(tmp_path / 'one'), results(tmp_path / 'two')
    # Of three windows one process gets two, the other one and a repetition.
    assert len(one['windows']) == len({window['video'] for window in one['windows']}) == 3
    assert two == one


@pytest.mark.slow
def test_launch_scripts(data, of_one, tmp_path):
    config = write_tiny_recipe(
        tmp_path / 'tiny.py',
        data,
        iters=1,
        more=MORE.format(batch_size=1, accumulate=1, with_cp=False),
    )
    script('dist_train.sh', config, 2, '--work-dir', tmp_path / 'trained')
    checkpoint = tmp_path / 'trained' / 'iter_1.pth'
    assert_same_gradients(checkpoint, of_one)
    script('dist_test.sh', config, checkpoint, 2, '--work-dir', tmp_path / 'tested')
    assert len(results(tmp_path / 'tested')['windows']) == 3


@pytest.mark.parametrize('name', ['train', 'test'])
def test_slurm_scripts(name, tmp_path):
    srun = tmp_path / 'srun'
    srun.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    srun.chmod(0o755)
    inputs = ['config.py', 'some.pth'][: 1 if name == 'train' else 2]
    env = dict(PATH=f'{tmp_path}:{os.environ["PATH"]}', GPUS='16', SRUN_ARGS='--time 9 --mem=8G')
    out = script(f'slurm_{name}.sh', 'part', 'job', *inputs, '--work-dir', 'a b', **env)
    arguments = out.splitlines()
    for expected in ('--gres=gpu:8', '--ntasks=16', '--ntasks-per-node=8', '--time', '--mem=8G'):
        assert expected in arguments
    tool = arguments.index(str(REPO / 'tools' / f'{name}.py'))
    assert arguments[tool + 1 :] == [*inputs, '--launcher', 'slurm', '--work-dir', 'a b']


@pytest.mark.parametrize(
    'name', ['dist_train.sh', 'dist_test.sh', 'slurm_train.sh', 'slurm_test.sh']
)
def test_launch_scripts_without_arguments(name):
    done = subprocess.run(['bash', REPO / 'tools' / name], capture_output=True, text=True)
    assert done.returncode != 0 and 'name a' in done.stderr


def script(name, *arguments, **env):
    """Run a shell script of tools/; what it prints."""
    env = dict(os.environ, PYTHON=sys.executable, PORT=str(free_port()), OMP_NUM_THREADS='1') | env
    env['PYTHONPATH'] = os.pathsep.join([str(REPO), env.get('PYTHONPATH', '')])
    command = [str(REPO / 'tools' / name), *map(str, arguments)]
    done = subprocess.run(command, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout
