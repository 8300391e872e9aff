"""Packages of Debian and npm, of Python and git repositories, as folders of files to take from."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatchcase
from importlib import metadata
from pathlib import Path, PurePosixPath

from bsst_plugin.errors import UserError

_HELP = (
    'run `apt-get update`, see that the package sources include Debian 12 and that npm and git '
    'reach their servers, then run this again for what is missing'
)


@dataclass(frozen=True)
class Package:
    """An unpacked package.

    Args:
        version: Its version.
        root: Folder that paths in it start from.
        terms: Its copyright file.
    """

    version: str
    root: Path
    terms: str


@contextmanager
def unpacked(name: str, paths: Sequence[str]) -> Iterator[Package]:
    """A package, in a temporary folder while the context lasts.

    Args:
        name: Debian package, ``scikit-image``, npm's ``NAME@VERSION``, or address of a git
            repository.
        paths: Files that are needed of it.

    Raises:
        UserError: It cannot be had here.
    """
    if name == 'scikit-image':
        yield _installed(name)
        return
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        if '://' in name:
            yield _from_git(name, paths, root)
        elif '@' in name:
            yield _from_npm(name, root)
        else:
            yield _from_debian(name, root)


def _from_debian(name: str, root: Path) -> Package:
    # As root, apt would hand the download to a user who cannot write here, and warn.
    _call(name, 'apt-get', '-q', '-o', 'APT::Sandbox::User=root', 'download', name, cwd=root)
    deb = next(root.glob(f'{name}_*.deb'), None)
    if deb is None:
        raise UserError(f'{name}: apt-get downloaded no package of this name')
    version = _call(name, 'dpkg-deb', '-f', str(deb), 'Version').strip()
    _call(name, 'dpkg-deb', '-x', str(deb), str(root / 'content'))
    deb.unlink()
    terms = root / 'content' / 'usr' / 'share' / 'doc' / name / 'copyright'
    if not terms.is_file():
        raise UserError(f'{name} {version}: has no copyright file; use that of Debian 12')
    return Package(version, root / 'content', terms.read_text(encoding='utf-8'))


def _from_npm(name: str, root: Path) -> Package:
    archive = _call(name, 'npm', 'pack', '--silent', name, cwd=root).split()[-1]
    shutil.unpack_archive(root / archive, root / 'content', filter='data')
    return Package(name.rpartition('@')[2], root / 'content', _licence(root / 'content/package'))


def _from_git(name: str, paths: Sequence[str], root: Path) -> Package:
    content = root / 'content'
    # The files of the last commit only, and of those only what is needed.
    options = ('--quiet', '--depth=1', '--filter=blob:none', '--no-checkout')
    _call(name, 'git', 'clone', *options, name, str(content))
    _call(name, 'git', 'checkout', '--quiet', 'HEAD', '--', 'LICENSE', *paths, cwd=content)
    commit = _call(name, 'git', 'rev-parse', '--short', 'HEAD', cwd=content).strip()
    return Package(commit, content, _licence(content))


def _licence(folder: Path) -> str:
    """Licence file of a folder, whatever it is called; of npm's packages what they say of it."""
    named = [path for path in sorted(folder.iterdir()) if 'LICENSE' in path.name.upper()]
    found = next((path for path in (*named, folder / 'package.json') if path.is_file()), None)
    if found is None:
        raise UserError(f'{folder}: no LICENSE file')
    return found.read_text(encoding='utf-8')


def licence_of(terms: str, path: str) -> str:
    """Short name of the licence of a file, from a machine-readable copyright file.

    Args:
        terms: The copyright file (Debian's format 1.0). Its paths are those of the source.
        path: The file as installed. Of the patterns that fit it, the last one counts.
    """
    found = 'see copyright file'
    for stanza in re.split(r'\n[ \t]*\n', terms):
        fields = dict(re.findall(r'^(Files|License):((?:.*)(?:\n[ \t].*)*)', stanza, re.MULTILINE))
        if len(fields) == 2 and any(_fits(path, one) for one in fields['Files'].split()):
            found = fields['License'].strip().splitlines()[0]
    return found


def _fits(path: str, pattern: str) -> bool:
    if '*' in pattern:
        return fnmatchcase(path, pattern) or fnmatchcase(path, f'*/{pattern}')
    return PurePosixPath(path).name == PurePosixPath(pattern).name


def _installed(name: str) -> Package:
    """A Python package that is installed."""
    try:
        package = metadata.distribution(name)
    except metadata.PackageNotFoundError as error:
        raise UserError(f'{name} is not installed: pip install {name}') from error
    terms = next((file for file in package.files or () if file.name.startswith('LICENSE')), None)
    text = '' if terms is None else Path(str(terms.locate())).read_text(encoding='utf-8')
    return Package(package.version, Path(str(package.locate_file('skimage'))), text)


def _call(package: str, *command: str, cwd: Path | None = None) -> str:
    """Output of a command; its first error, in one line, if it fails."""
    if shutil.which(command[0]) is None:
        raise UserError(f'{command[0]} not found: needed for {package}; install it')
    env = {**os.environ, 'LC_ALL': 'C'}
    done = subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True)
    if done.returncode:
        lines = [line.strip() for line in done.stderr.splitlines() if line.strip()]
        first = next((line for line in lines if line.startswith('E:')), (lines or ['failed'])[0])
        raise UserError(f'{package}: {command[0]}: {first.removeprefix("E: ")}; {_HELP}')
    return done.stdout
