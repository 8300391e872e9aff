"""The script in environments made of a few fake modules: nothing is installed or downloaded."""

import os
import shutil
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / 'tools' / 'install_mmcv.py'

TORCH = '__version__ = "9.9"\nclass cuda:\n    is_available = staticmethod(lambda: False)\n'
MISSING = 'raise ModuleNotFoundError("No module named " + __name__)\n'
SETUP = """
from setuptools import setup
flags = ['-std=c++14']
print('flags', flags)
print('[1/2] c++')
{more}
setup(name='mmcv', version='2.0.1')
"""


@pytest.fixture
def script(load_script):
    return load_script(SCRIPT)


@pytest.fixture
def run(tmp_path):
    """Run the script where `modules` hide the installed ones, without a network or a compiler."""

    def run(*arguments: str, modules: dict[str, str]) -> subprocess.CompletedProcess:
        fakes = tmp_path / 'fakes'
        for name, source in modules.items():
            (fakes / name).parent.mkdir(parents=True, exist_ok=True)
            (fakes / name).write_text(source)
        (tmp_path / 'empty').mkdir()
        env = {
            'PATH': str(tmp_path / 'empty'),
            'PYTHONPATH': str(fakes),
            'XDG_CACHE_HOME': str(tmp_path / 'cache'),
            'PIP_NO_INDEX': '1',
            'PIP_FIND_LINKS': str(tmp_path / 'empty'),
            'PIP_CONFIG_FILE': os.devnull,
        }
        command = [sys.executable, str(SCRIPT), *arguments]
        return subprocess.run(command, capture_output=True, text=True, env=env)

    return run


def test_nothing_to_do(run):
    done = run(modules={'mmcv/__init__.py': '__version__ = "2.0.1"\n', 'mmcv/ops.py': ''})
    assert (done.returncode, done.stderr) == (0, '')
    assert done.stdout == 'mmcv: 2.0.1 with its operators is already installed, nothing to do\n'


@pytest.mark.parametrize(
    ('arguments', 'torch', 'expected'),
    [
        ((), TORCH, 'needs g++'),
        (('--check',), MISSING, 'needs g++'),
        ((), MISSING, 'install torch first'),
    ],
)
def test_what_is_missing_is_one_line(run, arguments, torch, expected):
    done = run(*arguments, modules={'mmcv.py': MISSING, 'torch.py': torch})
    assert done.returncode == 1
    assert expected in done.stderr
    assert done.stderr.count('\n') == 1


@pytest.mark.parametrize(
    ('version', 'has_ops', 'usable'),
    [
        ('2.0.0', True, True),
        ('2.1.0', True, True),
        ('2.0.1', False, False),
        ('2.2.0', True, False),
        ('1.7.2', True, False),
        (None, False, False),
    ],
)
def test_usable_versions(script, version, has_ops, usable):
    assert script.Mmcv(version, has_ops, '').usable is usable


def test_patch(script):
    patched = script.ask_for_cpp20("a = ['-std=c++14']\nb += ['-std=c++14']\nc = '-std=c++17'\n")
    assert patched == "a = ['-std=c++20']\nb += ['-std=c++20']\nc = '-std=c++17'\n"
    with pytest.raises(script.InstallError):
        script.ask_for_cpp20('-std=c++17')


@pytest.mark.parametrize(
    ('fitting', 'tried'),
    [
        ('cached', ['cached']),
        ('found', ['cached', 'found']),
        ('built', ['cached', 'found', 'built']),
    ],
)
def test_order_of_attempts(script, monkeypatch, tmp_path, fitting, tried):
    seen = []

    def installs(wheel):
        seen.append(wheel.name)
        return wheel.name == fitting

    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path))
    monkeypatch.setattr(script, 'probe_mmcv', lambda: script.Mmcv(None, False, ''))
    monkeypatch.setattr(script, 'probe_torch', lambda: script.Torch('9.9', False))
    monkeypatch.setattr(script, 'first_wheel', lambda folder: Path('cached'))
    monkeypatch.setattr(script, 'find_wheel', lambda folder: Path('found'))
    monkeypatch.setattr(script, 'build_wheel', lambda torch: Path('built'))
    monkeypatch.setattr(script, 'installs', installs)
    script.install()
    assert seen == tried


def test_wheel_folder_tells_builds_apart(script, monkeypatch, tmp_path):
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path))
    builds = [('9.9', False), ('9.9', True), ('9.9+cpu', False)]
    folders = {script.wheel_folder(script.Torch(*build)) for build in builds}
    assert len(folders) == 3
    assert all(folder.is_relative_to(tmp_path / 'bsst_plugin' / 'wheels') for folder in folders)
    assert all(sys.implementation.cache_tag in folder.name for folder in folders)


@pytest.fixture
def build(script, monkeypatch, tmp_path):
    """Build a tiny source package in the place of mmcv's."""

    def fake_pip(*arguments: str, env=None) -> None:
        if arguments[0] == 'download':
            folder = Path(arguments[arguments.index('-d') + 1])
            with tarfile.open(folder / 'mmcv-2.0.1.tar.gz', 'w:gz') as archive:
                archive.add(tmp_path / 'source', 'mmcv-2.0.1')

    def build(more: str = '') -> Path:
        (tmp_path / 'source').mkdir()
        (tmp_path / 'source' / 'setup.py').write_text(SETUP.format(more=more))
        return script.build_wheel(script.Torch('9.9', cuda=False))

    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path))
    monkeypatch.setattr(script, 'check_compiler', lambda: None)
    monkeypatch.setattr(script, 'pip', fake_pip)
    return build


def test_build_keeps_the_wheel_and_the_log(script, build):
    wheel = build()
    assert wheel.name.startswith('mmcv-2.0.1-')
    assert list(script.wheel_folder(script.Torch('9.9', False)).iterdir()) == [wheel]
    log = (script.cache_folder() / 'mmcv-build.log').read_text()
    assert "flags ['-std=c++20']" in log


def test_failed_build_leaves_no_wheel(script, build, capfd):
    with pytest.raises(script.InstallError, match='mmcv-build.log'):
        build('raise SystemExit("error: it does not compile")')
    assert list(script.wheel_folder(script.Torch('9.9', False)).iterdir()) == []
    assert 'it does not compile' in capfd.readouterr().err


def test_build_environment(script, monkeypatch):
    monkeypatch.setenv('MAX_JOBS', '3')
    env = script.build_environment(Path('/tools'), script.Torch('9.9', cuda=False))
    assert (env['MAX_JOBS'], env['MMCV_WITH_OPS'], env['CUDA_VISIBLE_DEVICES']) == ('3', '1', '')
    assert env['PATH'].startswith('/tools/bin:')
    monkeypatch.delenv('MAX_JOBS')
    env = script.build_environment(Path('/tools'), script.Torch('9.9', cuda=True))
    assert env['MAX_JOBS'] == str(os.cpu_count())
    assert env.get('CUDA_VISIBLE_DEVICES') == os.environ.get('CUDA_VISIBLE_DEVICES')


def test_sign_of_life_and_interruption(script, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(script, 'PROGRESS_SECONDS', 0.5)
    # The grandchild stands for a compiler: it has to end with the build.
    code = 'import subprocess; print("[3/97] c++", flush=True); subprocess.run(["sleep", "60"])'
    monkeypatch.setattr(script, 'say', interrupt_after(3, script.say))
    start = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        command = [sys.executable, '-c', code]
        script.run_logged(command, tmp_path, dict(os.environ), tmp_path / 'log')
    assert time.monotonic() - start < 30
    assert '3 of 97 files compiled' in capsys.readouterr().out


def interrupt_after(count, function):
    calls = []

    def wrapper(message):
        function(message)
        calls.append(message)
        if len(calls) == count:
            raise KeyboardInterrupt

    return wrapper


@pytest.mark.skipif(shutil.which('make') is None, reason='needs make')
@pytest.mark.parametrize('python', ['no-such-python', 'other-version'])
def test_make_env_with_the_wrong_python_is_one_line(tmp_path, python):
    (tmp_path / 'other-version').write_text('#!/bin/sh\nexit 1\n')
    (tmp_path / 'other-version').chmod(0o755)
    venv = tmp_path / 'venv'
    command = ['make', '-C', str(ROOT), 'env', f'VENV={venv}', f'PYTHON={tmp_path / python}']
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode != 0
    # make adds its own line, with its level when make runs these tests.
    ours = [line for line in done.stderr.splitlines() if not line.startswith(('make: ', 'make['))]
    assert len(ours) == 1
    assert 'need Python 3.11' in ours[0]
    assert not venv.exists()
