#!/usr/bin/env python
# Copyright (c) the bsst_plugin authors. Licensed under the Apache License, Version 2.0.
"""Install mmcv 2.0.1, with its compiled operators, into the Python that runs this script.

    python install_mmcv.py

Needs nothing but the standard library, pip and an installed torch. The package index has mmcv as
source only, and that source does not compile against a current torch: it asks for C++14, torch's
headers need C++20. So the script installs, in this order, the first that works here:

1. a wheel that it built earlier for the same Python and torch (kept in the user's cache folder);
2. a wheel that pip finds (set PIP_FIND_LINKS to a folder or page that has one);
3. a wheel that it builds from the source package with that one flag replaced.

If the operators already import, it does nothing. MAX_JOBS limits the compiler processes. With
--check it installs nothing and only says whether a build would lack its compiler; this works before
torch is installed.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import sysconfig
import tempfile
import time
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

VERSION = '2.0.1'
#: What MMagic accepts: an mmcv in this range is left as it is.
OLDEST, BEFORE = (2, 0), (2, 2)
#: mmcv's setup.py imports pkg_resources, gone in setuptools 81; from 70.1 setuptools makes wheels
#: by itself. Ninja compiles in parallel and tells how far it is.
BUILD_TOOLS = ('setuptools>=70.1,<81', 'ninja')
PROGRESS_SECONDS = 30


class InstallError(Exception):
    """Something the user has to put right; its message is one line that says what."""


class Mmcv(NamedTuple):
    """What `import mmcv` and `import mmcv.ops` gave in a fresh interpreter."""

    version: str | None
    has_ops: bool
    error: str

    @property
    def usable(self) -> bool:
        """Whether nothing has to be done."""
        if self.version is None or not self.has_ops:
            return False
        numbers = tuple(int(part) for part in re.findall(r'\d+', self.version)[:2])
        return OLDEST <= numbers < BEFORE


class Torch(NamedTuple):
    """The torch that the operators are compiled against."""

    version: str
    cuda: bool


def say(message: str) -> None:
    """Print a line at once, also when the output is a file."""
    print(f'mmcv: {message}', flush=True)


def last_line(text: str) -> str:
    """Return the last line of `text` that is not blank."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else 'no output'


def probe_mmcv() -> Mmcv:
    """Import mmcv and its operators in a fresh interpreter.

    A wheel compiled for another torch installs without complaint and fails only here.
    """
    code = 'import mmcv; print(mmcv.__version__, flush=True); import mmcv.ops'
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True)
    return Mmcv(done.stdout.strip() or None, done.returncode == 0, last_line(done.stderr))


def probe_torch() -> Torch:
    """Return the installed torch and whether mmcv can be compiled for CUDA with it."""
    code = 'import json, torch; print(json.dumps([torch.__version__, torch.cuda.is_available()]))'
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True)
    if done.returncode:
        raise InstallError(
            f'torch does not import in {sys.executable} ({last_line(done.stderr)}): '
            'install torch first, then run this script again.'
        )
    version, has_gpu = json.loads(last_line(done.stdout))
    has_nvcc = bool(os.environ.get('CUDA_HOME') or shutil.which('nvcc'))
    return Torch(version, (has_gpu or os.environ.get('FORCE_CUDA') == '1') and has_nvcc)


def pip(*arguments: str, env: dict[str, str] | None = None) -> None:
    """Run pip quietly; if it fails, print its error and raise `InstallError`."""
    command = [sys.executable, '-m', 'pip', '--disable-pip-version-check', '-q', *arguments]
    done = subprocess.run(command, capture_output=True, text=True, env=env)
    if done.returncode:
        print(done.stderr, file=sys.stderr, end='', flush=True)
        raise InstallError(
            f"'pip {' '.join(arguments)}' failed: see pip's error above, "
            'check the network or PIP_FIND_LINKS, then run this script again.'
        )


def cache_folder() -> Path:
    """Return the folder that keeps what was built."""
    root = os.environ.get('XDG_CACHE_HOME') or Path.home() / '.cache'
    return Path(root) / 'bsst_plugin'


def wheel_folder(torch: Torch) -> Path:
    """Return the cache folder for wheels that fit this Python and this torch.

    The name of a wheel says nothing about torch, but its extension is bound to one build of it.
    """
    python = f'{sys.implementation.cache_tag}-{sysconfig.get_platform()}'
    device = 'cuda' if torch.cuda else 'cpu'
    return cache_folder() / 'wheels' / f'{python}-torch{torch.version}-{device}'


def first_wheel(folder: Path) -> Path | None:
    """Return the mmcv wheel in `folder`, if there is one."""
    return next(folder.glob(f'mmcv-{VERSION}-*.whl'), None)


def installs(wheel: Path) -> bool:
    """Install `wheel` and return whether its operators import; take it out again if not.

    Raises:
        InstallError: mmcv itself does not import, which no other wheel would put right.
    """
    distributions = {str(found.metadata['Name']).lower() for found in metadata.distributions()}
    for other in ('mmcv-lite', 'mmcv-full'):
        if other in distributions:  # it owns the same files
            say(f'removing {other}, which mmcv replaces')
            pip('uninstall', '-y', other)
    # Forced, since a wheel for another torch has the same version. By name, from that folder alone,
    # since pip would note the path of a file, and `pip freeze` show it instead of the version.
    name = f'mmcv=={VERSION}'
    here = dict(os.environ, PIP_CONFIG_FILE=os.devnull, PIP_FIND_LINKS=str(wheel.parent))
    pip('install', '--force-reinstall', '--no-deps', '--no-index', name, env=here)
    pip('install', '--only-binary', 'mmcv', name)  # the dependencies that are missing
    found = probe_mmcv()
    if found.usable:
        return True
    if found.version is None:
        raise InstallError(f'mmcv is installed but does not import: {found.error}')
    say(f'{wheel.name} was not made for this torch ({found.error})')
    pip('uninstall', '-y', 'mmcv')
    return False


def find_wheel(folder: Path) -> Path | None:
    """Let pip look for a wheel; return it in `folder`, or None if there is none."""
    command = [sys.executable, '-m', 'pip', 'download', '-q', '--disable-pip-version-check']
    command += ['--no-deps', '--only-binary', 'mmcv', '-d', str(folder), f'mmcv=={VERSION}']
    # Silent: finding none is the usual outcome, and a broken network shows in the next step.
    subprocess.run(command, capture_output=True)
    return first_wheel(folder)


def check_compiler() -> None:
    """Raise one line if a C++ compiler or Python's headers are missing."""
    compiler = os.environ.get('CXX', 'g++').split()[0]
    if shutil.which(compiler) is None:
        raise InstallError(
            f'no wheel of mmcv {VERSION} fits here and its source needs {compiler}, which was not '
            'found: install it (Debian, Ubuntu: apt-get install g++), then run this again.'
        )
    if not Path(sysconfig.get_path('include'), 'Python.h').exists():
        raise InstallError(
            f'no wheel of mmcv {VERSION} fits here and its source needs the headers of Python, '
            f'which {sys.executable} lacks (Debian, Ubuntu: apt-get install python3-dev).'
        )


def ask_for_cpp20(setup: str) -> str:
    """Return mmcv's setup.py asking for the C++ standard that torch's headers need."""
    if '-std=c++14' not in setup:
        raise InstallError(f'the source of mmcv {VERSION} is not as expected: no -std=c++14.')
    return setup.replace('-std=c++14', '-std=c++20')


def build_environment(tools: Path, torch: Torch) -> dict[str, str]:
    """Return the environment of the build: its own setuptools and ninja come first."""
    env = dict(os.environ, MMCV_WITH_OPS='1')
    env.setdefault('MAX_JOBS', str(os.cpu_count() or 1))
    env['PATH'] = os.pathsep.join([str(tools / 'bin'), env.get('PATH', '')])
    env['PYTHONPATH'] = os.pathsep.join(filter(None, [str(tools), env.get('PYTHONPATH')]))
    if not torch.cuda:  # mmcv asks torch only; with a GPU but no nvcc it would fail
        env.update(CUDA_VISIBLE_DEVICES='', FORCE_CUDA='0')
    return env


def build_wheel(torch: Torch) -> Path:
    """Compile mmcv's source package, move the wheel to the cache and return its path there."""
    check_compiler()
    target, log = wheel_folder(torch), cache_folder() / 'mmcv-build.log'
    target.mkdir(parents=True, exist_ok=True)
    # Inside the cache, so that the finished wheel moves to its place in one step: whatever
    # interrupts the build, there is never half a wheel.
    with tempfile.TemporaryDirectory(prefix='.build-', dir=target) as build:
        tools, unpacked, dist = (Path(build, name) for name in ('tools', 'source', 'dist'))
        env = build_environment(tools, torch)
        device = 'the CPU and CUDA' if torch.cuda else 'the CPU'
        say(f'no wheel fits torch {torch.version}, so it is built once from source, for {device}')
        longer = ', with CUDA several times that' if torch.cuda else ''
        say(f'two cores need about 14 minutes{longer}; MAX_JOBS={env["MAX_JOBS"]}; log: {log}')
        pip('install', '--target', str(tools), *BUILD_TOOLS)
        # Even to fetch it pip runs its setup.py, which wants torch: hence no isolation.
        wanted = ['--no-deps', '--no-binary', 'mmcv', '--no-build-isolation', f'mmcv=={VERSION}']
        pip('download', '-d', build, *wanted, env=env)
        shutil.unpack_archive(str(next(Path(build).glob('mmcv-*'))), str(unpacked))
        setup = next(unpacked.glob('*/setup.py'))
        setup.write_text(ask_for_cpp20(setup.read_text('utf-8')), 'utf-8')

        command = [sys.executable, setup.name, 'bdist_wheel', '--dist-dir', str(dist)]
        code = run_logged(command, setup.parent, env, log)
        wheel = first_wheel(dist)
        if code or wheel is None:
            lines = log.read_text('utf-8', 'replace').splitlines()
            print('\n'.join(lines[-20:]), file=sys.stderr, flush=True)
            hint = ' CUDA_VISIBLE_DEVICES= builds for the CPU, enough here.' if torch.cuda else ''
            raise InstallError(f'the build failed: the compiler output is in {log}.{hint}')
        os.replace(wheel, target / wheel.name)
    return target / wheel.name


def run_logged(command: list[str], folder: Path, env: dict[str, str], log: Path) -> int:
    """Run `command` with its output in `log`, printing a sign of life; return its exit code."""
    start = time.monotonic()
    with log.open('w', encoding='utf-8') as output:
        process = subprocess.Popen(
            command, cwd=folder, env=env, stdout=output, stderr=output, start_new_session=True
        )
    try:
        while True:
            try:
                return process.wait(timeout=PROGRESS_SECONDS)
            except subprocess.TimeoutExpired:
                minutes, seconds = divmod(int(time.monotonic() - start), 60)
                say(f'{minutes:3d}:{seconds:02d} {progress(log)}')
    finally:
        if process.poll() is None:  # interrupted: the compilers must not go on alone
            os.killpg(process.pid, signal.SIGTERM)
            process.wait()


def progress(log: Path) -> str:
    """Return how far ninja is, going by its "[3/97]" lines."""
    steps = re.findall(r'^\[(\d+)/(\d+)\]', log.read_text('utf-8', 'replace'), re.MULTILINE)
    return f'{steps[-1][0]} of {steps[-1][1]} files compiled' if steps else 'preparing'


def check() -> None:
    """Raise `InstallError` if mmcv has to be compiled here and cannot be."""
    try:
        check_compiler()
    except InstallError:
        # Torch may be missing yet, so any wheel built earlier counts.
        if probe_mmcv().usable or any(cache_folder().glob('wheels/*/*.whl')):
            return
        with tempfile.TemporaryDirectory() as folder:
            if find_wheel(Path(folder)) is None:
                raise


def install() -> None:
    """Install the first mmcv that works, or raise `InstallError`."""
    found = probe_mmcv()
    if found.usable:
        say(f'{found.version} with its operators is already installed, nothing to do')
        return
    torch = probe_torch()
    cached = first_wheel(wheel_folder(torch))
    if cached is not None:
        say(f'installing the wheel built earlier: {cached}')
        if installs(cached):
            return
    with tempfile.TemporaryDirectory() as folder:
        wheel = find_wheel(Path(folder))
        if wheel is not None:
            say(f'installing the wheel that pip found: {wheel.name}')
            if installs(wheel):
                return
    if not installs(build_wheel(torch)):
        raise InstallError(f'the wheel just built for torch {torch.version} does not import.')
    say(f'{VERSION} built and installed')


def main() -> int:
    """Run the script and return its exit code."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # clean up on SIGTERM too
    try:
        check() if sys.argv[1:] == ['--check'] else install()
    except InstallError as error:
        print(f'install_mmcv.py: {error}', file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print('install_mmcv.py: interrupted', file=sys.stderr)
        return 130
    return 0


if __name__ == '__main__':
    sys.exit(main())
