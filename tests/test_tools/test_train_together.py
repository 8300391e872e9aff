"""The last part of the training of the small model, by tools/train.py."""

import sys
from pathlib import Path

import pytest

from bsst_plugin.checkpoints.check import read_state_dict
from bsst_plugin.checkpoints.load import DEFAULT_CHECKPOINT

REPO = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(REPO / 'tests'))
from run_command import run_command  # noqa: E402

PARTS = {'encoder', 'backbone', 'fusion', 'neck', 'decoder', 'scales', 'mid_exposure'}
PATH = 'encoder.blur_path.'


@pytest.fixture(scope='module')
def trained(one_photograph, tmp_path_factory):
    """Folder of a training of two iterations from the weights that ship."""
    folder = tmp_path_factory.mktemp('together')
    config, work_dir = folder / 'together.py', folder / 'run'
    text = one_photograph.read_text().replace('bsstnet_small.py', 'bsstnet_small_together.py')
    config.write_text(text)
    lengths = ['train_cfg.max_iters=2', 'train_cfg.val_interval=1']
    options = ['--cfg-options', f'load_from={DEFAULT_CHECKPOINT}', *lengths]
    done = run_command('tools/train.py', config, '--work-dir', work_dir, *options)
    assert done.returncode == 0, done.stderr[-3000:]
    return work_dir


def weights(path):
    return {name.removeprefix('generator.'): x for name, x in read_state_dict(path).items()}


def test_all_parts_but_the_path_learn(trained):
    before, after = weights(DEFAULT_CHECKPOINT), weights(trained / 'iter_2.pth')
    # Means of weights are rounded.
    changed = {name for name, x in before.items() if (x - after[name]).abs().max() > 1e-6}
    assert {name.partition('.')[0] for name in changed} == PARTS
    assert any(name.startswith(PATH) for name in before)
    assert not any(name.startswith(PATH) for name in changed)
    assert all(x.isfinite().all() for x in after.values())


def test_validations_make_a_curve(trained, load_script):
    points = load_script('tools/analysis/training_curve.py').read_validations(trained)
    assert [step for step, *_ in points] == [1, 2]
    assert all(output > given for _, output, given in points)
