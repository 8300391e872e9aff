"""The script with a package list and packages of its own, behind an `apt-get` that copies them."""

import csv
import hashlib
import importlib.util
import json
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bsst_plugin.cli import run
from bsst_plugin.datasets import TEST_PHOTOGRAPHS, TRAIN_PHOTOGRAPHS

SCRIPT = Path(__file__).resolve().parents[2] / 'tools' / 'dataset_converters' / 'photographs.py'
TERMS = """Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/

Files: *
Copyright: 2020 Somebody
License: GPL-2+

Files: nature/Tree.png
       nature/Two.png
Copyright: 2021 Somebody Else
License: CC-BY-4.0
Comment: a comment

License: GPL-2+
 The text of it.
"""
HOME = 'usr/share/backgrounds/nature'
needs_dpkg = pytest.mark.skipif(not shutil.which('dpkg-deb'), reason='dpkg-deb makes the package')


@pytest.fixture
def script(load_script):
    return load_script(SCRIPT)


@pytest.fixture
def package(script, tmp_path, monkeypatch):
    """A package of a photograph, a wide one and a cut-out, and the list that asks for them."""
    root = tmp_path / 'package'
    (root / HOME).mkdir(parents=True)
    rng = np.random.default_rng(0)
    for name, shape in (
        ('Tree.png', (40, 50, 3)),
        ('Wide.jpg', (30, 3000, 3)),
        ('cut.png', (40, 900, 4)),
    ):
        Image.fromarray(rng.integers(0, 256, shape, dtype=np.uint8)).save(root / HOME / name)
    doc = root / 'usr/share/doc/little-photos'
    doc.mkdir(parents=True)
    (doc / 'copyright').write_text(TERMS)
    (root / 'DEBIAN').mkdir()
    (root / 'DEBIAN/control').write_text(
        'Package: little-photos\nVersion: 1.2-3\nArchitecture: all\nMaintainer: me <me@me.me>\n'
        'Description: photographs\n'
    )
    deb = tmp_path / 'little-photos_1.2-3_all.deb'
    subprocess.run(['dpkg-deb', '-b', str(root), str(deb)], check=True, capture_output=True)

    rows = [
        ('train', 'backgrounds', 'Tree.png'),
        ('val', 'backgrounds', 'Wide.jpg'),
        ('train', 'cutouts', 'cut.png'),
    ]
    write_list(
        script,
        tmp_path,
        monkeypatch,
        [(*row, 'little-photos', f'{HOME}/{row[2]}', digest(root / HOME / row[2])) for row in rows],
    )
    fake_apt(tmp_path, monkeypatch, f'echo "$@" >> {tmp_path}/calls; cp {deb} .')
    return root


def write_list(script, tmp_path, monkeypatch, rows):
    path = tmp_path / 'list.csv'
    with path.open('w', newline='') as file:
        csv.writer(file).writerows([('split', 'kind', 'name', 'package', 'path', 'sha256'), *rows])
    monkeypatch.setattr(script, 'LIST', path)


def fake_apt(tmp_path, monkeypatch, body):
    (tmp_path / 'bin').mkdir(exist_ok=True)
    (tmp_path / 'bin/apt-get').write_text(f'#!/bin/sh\n{body}\n')
    (tmp_path / 'bin/apt-get').chmod(0o755)
    monkeypatch.setenv('PATH', str(tmp_path / 'bin'), prepend=':')


def digest(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def fails(script, capsys, dst):
    """The single line that the command prints when it fails."""
    with pytest.raises(SystemExit) as stop:
        run(lambda: script.main([str(dst)]))
    assert stop.value.code == 1
    err = capsys.readouterr().err.strip()
    assert err.startswith('error: ') and '\n' not in err
    return err


def files(folder):
    return sorted(str(p.relative_to(folder)) for p in folder.rglob('*') if p.is_file())


@needs_dpkg
def test_fetches_then_does_nothing(script, package, tmp_path, capsys):
    dst = tmp_path / 'data'
    script.main([str(dst)])
    assert files(dst) == [
        'copyright/little-photos.txt',
        'manifest.json',
        'train/backgrounds/Tree.png',
        'train/cutouts/cut.png',
        'val/backgrounds/Wide.jpg',
    ]
    assert digest(dst / 'train/backgrounds/Tree.png') == digest(package / HOME / 'Tree.png')
    assert Image.open(dst / 'val/backgrounds/Wide.jpg').size == (1600, 16)
    cutout = Image.open(dst / 'train/cutouts/cut.png')
    assert cutout.size == (512, 23) and cutout.mode == 'RGBA'

    record = json.loads((dst / 'manifest.json').read_text())
    tree = record['files']['train/backgrounds/Tree.png']
    assert tree == {
        'split': 'train',
        'package': 'little-photos',
        'version': '1.2-3',
        'path': f'{HOME}/Tree.png',
        'source_sha256': digest(package / HOME / 'Tree.png'),
        'sha256': digest(dst / 'train/backgrounds/Tree.png'),
        'licence': 'CC-BY-4.0',
    }
    assert record['files']['train/cutouts/cut.png']['licence'] == 'GPL-2+'
    for name, entry in record['files'].items():
        assert entry['sha256'] == digest(dst / name)

    before = {name: (dst / name).stat().st_mtime_ns for name in files(dst)}
    capsys.readouterr()
    script.main([str(dst)])
    assert 'nothing to do' in capsys.readouterr().out
    assert before == {name: (dst / name).stat().st_mtime_ns for name in files(dst)}
    assert len((tmp_path / 'calls').read_text().splitlines()) == 1


@needs_dpkg
def test_goes_on_with_what_is_missing(script, package, tmp_path):
    dst = tmp_path / 'data'
    script.main([str(dst)])
    (dst / 'train/cutouts/cut.png').unlink()
    kept = (dst / 'train/backgrounds/Tree.png').stat().st_mtime_ns
    script.main([str(dst)])
    assert (dst / 'train/cutouts/cut.png').is_file()
    assert (dst / 'train/backgrounds/Tree.png').stat().st_mtime_ns == kept


@needs_dpkg
def test_pictures_that_are_not_as_listed(script, package, tmp_path, monkeypatch, capsys):
    rows = [
        ('train', 'backgrounds', name, 'little-photos', f'{HOME}/{name}', sha)
        for name, sha in (('Tree.png', digest(package / HOME / 'Tree.png')), ('Wide.jpg', '0' * 64))
    ]
    write_list(script, tmp_path, monkeypatch, rows)
    dst = tmp_path / 'data'
    script.main([str(dst)])
    assert "1 are not as listed in this version: ['train/backgrounds/Wide.jpg']" in (
        capsys.readouterr().out
    )
    assert [name for name in files(dst) if name.startswith('train')] == [
        'train/backgrounds/Tree.png'
    ]
    script.main([str(dst)])
    assert 'nothing to do' in capsys.readouterr().out

    write_list(script, tmp_path, monkeypatch, rows[1:])
    assert 'holds none of the files' in fails(script, capsys, tmp_path / 'other')


@needs_dpkg
def test_unknown_package(script, package, tmp_path, monkeypatch, capsys):
    fake_apt(tmp_path, monkeypatch, 'echo "E: Unable to locate package $6" >&2; exit 100')
    err = fails(script, capsys, tmp_path / 'data')
    assert 'little-photos: apt-get: Unable to locate package' in err and 'apt-get update' in err


@needs_dpkg
@pytest.mark.parametrize('missing', ['apt-get', 'dpkg-deb'])
def test_without_the_tools(script, package, tmp_path, monkeypatch, capsys, missing):
    which = shutil.which
    monkeypatch.setattr(shutil, 'which', lambda name: None if name == missing else which(name))
    assert f'{missing} not found' in fails(script, capsys, tmp_path / 'data')


def test_scikit_image(script, tmp_path, monkeypatch):
    root = Path(importlib.util.find_spec('skimage').origin).parent
    row = ('train', 'backgrounds', 'coins.png', 'scikit-image', 'data/coins.png')
    write_list(script, tmp_path, monkeypatch, [(*row, digest(root / 'data/coins.png'))])
    script.main([str(tmp_path / 'data')])
    record = json.loads((tmp_path / 'data/manifest.json').read_text())['files']
    assert record['train/backgrounds/coins.png']['licence'] == 'BSD-3-Clause'


def test_npm_and_git(script, tmp_path, monkeypatch, capsys):
    """A repository of its own, and an `npm` that packs a folder."""
    home = tmp_path / 'videos'
    (home / 'package').mkdir(parents=True)
    (home / 'package/a.mp4').write_bytes(b'filmed')
    (home / 'LICENSE').write_text('CC0')
    (home / 'large.mp4').write_bytes(b'not wanted')
    (home / 'package/package.json').write_text('{"license": "MIT"}')
    git = ['git', '-C', str(home), '-c', 'user.name=me', '-c', 'user.email=me@me.me']
    for command in (['init', '-q'], ['add', '.'], ['commit', '-q', '-m', 'videos']):
        subprocess.run([*git, *command], check=True)
    fake_apt(tmp_path, monkeypatch, '')
    (tmp_path / 'bin/npm').write_text(f'#!/bin/sh\ntar czf a.tgz -C {home} package; echo a.tgz\n')
    (tmp_path / 'bin/npm').chmod(0o755)
    address = f'file://{home}'
    same = digest(home / 'package/a.mp4')
    rows = [
        ('train', 'videos', 'a.mp4', address, 'package/a.mp4', same),
        ('val', 'videos', 'b.mp4', 'clips@1.2.3', 'package/a.mp4', same),
        ('val', 'videos', 'c.mp4', f'file://{tmp_path}/none', 'c.mp4', same),
    ]
    write_list(script, tmp_path, monkeypatch, rows)
    dst = tmp_path / 'data'
    assert '/none: git: ' in fails(script, capsys, dst)  # and what could be had is there
    assert files(dst) == [
        'copyright/clips@1.2.3.txt',
        'copyright/videos.txt',
        'manifest.json',
        'train/videos/a.mp4',
        'val/videos/b.mp4',
    ]
    assert (dst / 'train/videos/a.mp4').read_bytes() == b'filmed'
    record = json.loads((dst / 'manifest.json').read_text())['files']
    assert record['val/videos/b.mp4']['version'] == '1.2.3'
    assert (dst / 'copyright/videos.txt').read_text() == 'CC0'
    assert 'MIT' in (dst / 'copyright/clips@1.2.3.txt').read_text()
    write_list(script, tmp_path, monkeypatch, rows[:2])
    script.main([str(dst)])
    assert 'nothing to do' in capsys.readouterr().out


def test_strange_folders(script, tmp_path, capsys, monkeypatch):
    write_list(script, tmp_path, monkeypatch, [])
    dst = tmp_path / 'mine'
    dst.mkdir()
    (dst / 'thesis.txt').write_text('do not lose')
    assert 'choose another folder' in fails(script, capsys, dst)
    (dst / 'manifest.json').write_text('[1]')
    assert 'not a manifest' in fails(script, capsys, dst)
    assert files(dst) == ['manifest.json', 'thesis.txt']
    assert 'thesis.txt' in fails(script, capsys, dst / 'thesis.txt')


def test_the_list(script):
    with script.LIST.open(newline='') as file:
        rows = [script.Picture(**row) for row in csv.DictReader(file)]
    assert len({row.target for row in rows}) == len({row.sha256 for row in rows}) == len(rows)
    assert len({(row.kind, row.name) for row in rows}) == len(rows)  # in one split only
    counts = {
        (split, kind): sum((row.split, row.kind) == (split, kind) for row in rows)
        for split in ('train', 'val')
        for kind in ('backgrounds', 'cutouts', 'videos')
    }
    assert sum(counts.values()) == len(rows) and min(counts.values()) >= 3
    pictures = [row for row in rows if row.kind != 'videos']
    assert all(Path(row.name).suffix in ('.jpg', '.png') for row in pictures)
    # Pictures that results are judged on are never trained on.
    assert not {row.name for row in rows} & set(TEST_PHOTOGRAPHS)
    packages = {row.package for row in rows}
    assert not packages & {'opencv-doc', 'scikit-video'}
    bundled = {row.name for row in rows if row.package == 'scikit-image'}
    assert bundled == set(TRAIN_PHOTOGRAPHS)
    motorcycles = {row.split for row in rows if row.name.startswith('motorcycle')}
    assert len(motorcycles) == 1  # one scene
