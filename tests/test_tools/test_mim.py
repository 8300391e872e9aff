"""The commands of `mim` on the package as it is installed: from a wheel, and editable."""

import functools
import http.server
import os
import shutil
import subprocess
import sys
import sysconfig
import threading
from pathlib import Path

import pytest
import torch
import yaml

REPO = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(REPO / 'tests'))
from tiny_config import losses, render_tiny_dataset  # noqa: E402

SOURCES = ('bsst_plugin', 'configs', 'tools')
FILES = ('LICENSE', 'MANIFEST.in', 'README.md', 'model-index.yml', 'pyproject.toml', 'setup.py')
PORTABLE = {key: value for key, value in os.environ.items() if key != 'PYTHONPATH'}
PORTABLE['OMP_NUM_THREADS'] = '1'
OFFLINE = ('-q', '--no-deps', '--no-index', '--no-build-isolation')

pytestmark = pytest.mark.slow


@pytest.fixture(scope='module')
def server(tmp_path_factory):
    """A web server with some weights, and its address."""
    folder = tmp_path_factory.mktemp('server')
    torch.save({'state_dict': {}}, folder / 'weights.pth')
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(folder))
    with http.server.ThreadingHTTPServer(('127.0.0.1', 0), handler) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield f'http://127.0.0.1:{running.server_port}/weights.pth'
        running.shutdown()


@pytest.fixture(scope='module')
def tree(tmp_path_factory, server):
    """A copy of the repository whose model index has a link for one entry."""
    tree = tmp_path_factory.mktemp('tree')
    ignored = shutil.ignore_patterns('.mim', '__pycache__')
    for name in SOURCES:
        shutil.copytree(REPO / name, tree / name, ignore=ignored)
    for name in FILES:
        shutil.copy2(REPO / name, tree / name)
    metafile = tree / 'configs/metafile.yml'
    content = yaml.safe_load(metafile.read_text())
    next(m for m in content['Models'] if m['Name'] == 'bsstnet_demo')['Weights'] = server
    metafile.write_text(yaml.safe_dump(content))
    return tree


@pytest.fixture(scope='module')
def wheel_environment(tree, tmp_path_factory):
    folder = tmp_path_factory.mktemp('wheel')
    run(sys.executable, '-m', 'pip', 'wheel', *OFFLINE, '-w', folder / 'out', tree)
    return environment(folder, next((folder / 'out').glob('*.whl')))


@pytest.fixture(scope='module')
def editable_environment(tree, tmp_path_factory):
    return environment(tmp_path_factory.mktemp('editable'), '-e', tree)


def environment(folder, *package):
    """An environment that sees the packages of this one, with ``package`` installed; its Python."""
    run(sys.executable, '-m', 'venv', '--without-pip', folder / 'venv')
    python = folder / 'venv/bin/python'
    (packages,) = (folder / 'venv').glob('lib/python*/site-packages')
    (packages / 'others.pth').write_text(sysconfig.get_paths()['purelib'])
    run(sys.executable, '-m', 'pip', '--python', python, 'install', *OFFLINE, *package)
    return python


def run(*command, cwd=None):
    done = subprocess.run(
        list(map(str, command)), cwd=cwd, env=PORTABLE, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-3000:]
    return done.stdout + done.stderr


@pytest.fixture(params=['wheel', 'editable'])
def mim(request, tmp_path):
    """Run a command of mim in another folder."""
    python = request.getfixturevalue(f'{request.param}_environment')
    return functools.partial(run, python, '-W', 'ignore', '-m', 'mim', cwd=tmp_path)


def test_search_lists_the_models(mim):
    found = mim('search', 'bsst_plugin', '--valid-config')
    for path in (REPO / 'configs').glob('*.py'):
        assert f"'{path.stem}'" in found
    assert 'configs/bsstnet_dvd.py' in mim('search', 'bsst_plugin', '--config', 'bsstnet_dvd')


def test_download(mim, tmp_path):
    mim('download', 'bsst_plugin', '--config', 'bsstnet_demo', '--dest', tmp_path / 'here')
    assert torch.load(tmp_path / 'here/weights.pth', weights_only=True) == {'state_dict': {}}
    assert 'BSSTNet' in (tmp_path / 'here/bsstnet_demo.py').read_text()


@pytest.fixture(scope='module')
def options(tmp_path_factory):
    """What makes the demo's config take a moment."""
    data = render_tiny_dataset(tmp_path_factory.mktemp('mim') / 'data')
    roots = [f'{split}_dataloader.dataset.data_root={data}' for split in ('train', 'val', 'test')]
    return [
        '--cfg-options',
        *roots,
        'train_dataloader.dataset.num_input_frames=3',
        'train_dataloader.batch_size=1',
        'train_cfg.max_iters=1',
        'log_processor.window_size=1',
        'default_hooks.logger.interval=1',
    ]


@pytest.mark.parametrize('mim', ['wheel'], indirect=True)
def test_train_test_and_gridsearch(mim, options, tmp_path):
    train = ['bsst_plugin', 'bsstnet_demo.py', *options]
    mim('train', *train, '--work-dir', 'two', '--launcher', 'pytorch', '--gpus', 2)
    assert set(losses(tmp_path / 'two')) == {1}

    checkpoint = tmp_path / 'two/iter_1.pth'
    test = ['bsst_plugin', 'bsstnet_demo.py', '--checkpoint', checkpoint, *options]
    assert 'input/PSNR' in mim('test', *test, '--work-dir', 'tested', '--gpus', 0)

    # Its own options come first: it takes what follows a list to belong to the list.
    rate = '--optim_wrapper.optimizer.lr 3e-3'
    searched = ['--work-dir', 'grid', '--gpus', 0, '--search-args', rate]
    mim('gridsearch', *train[:2], *searched, *options)
    (found,) = tmp_path.glob('grid_search_*')
    assert set(losses(found)) == {1}
    assert 'lr=0.003' in next(found.glob('*.py')).read_text()


def test_launch_scripts_come_along(wheel_environment):
    for name in ('dist_train', 'dist_test', 'slurm_train', 'slurm_test'):
        path = f'lib/python*/site-packages/bsst_plugin/.mim/tools/{name}.sh'
        (script,) = wheel_environment.parents[1].glob(path)
        assert os.access(script, os.X_OK)
