import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[1]
SOURCES = ('bsst_plugin', 'configs', 'tools', 'LICENSE', 'MANIFEST.in', 'model-index.yml')


@pytest.fixture
def tree(tmp_path):
    """A copy of what the package is built from, as a clean clone has it."""
    tree = tmp_path / 'tree'
    tree.mkdir()
    for name in (*SOURCES, 'setup.py', 'pyproject.toml'):
        if (ROOT / name).is_dir():
            ignored = shutil.ignore_patterns('.mim', '__pycache__')
            shutil.copytree(ROOT / name, tree / name, ignore=ignored)
        else:
            shutil.copy2(ROOT / name, tree / name)
    return tree


def build(tree: Path, kind: str) -> zipfile.ZipFile:
    """Build what pip builds for `pip install .` (wheel) or `pip install -e .` (editable)."""
    code = f"from setuptools import build_meta; build_meta.build_{kind}('out')"
    (tree / 'out').mkdir()
    subprocess.run([sys.executable, '-c', code], cwd=tree, check=True, capture_output=True)
    return zipfile.ZipFile(next((tree / 'out').glob('*.whl')))


def test_wheel_has_what_mim_looks_for(tree):
    names = set(build(tree, 'wheel').namelist())
    assert 'bsst_plugin/.mim/model-index.yml' in names
    assert 'bsst_plugin/weights/bsstnet_small.pth' in names
    mim = 'bsst_plugin/.mim/'
    for folder, place in (('configs', mim), ('tools', mim), ('bsst_plugin', '')):
        files = (path for path in (tree / folder).rglob('*') if path.is_file())
        expected = {f'{place}{path.relative_to(tree)}' for path in files}
        assert expected <= names
    assert not [name for name in names if name.startswith(('tests', 'configs', 'tools'))]


def test_editable_install_is_found_by_mim(tree):
    wheel = build(tree, 'editable')
    top_level = next(name for name in wheel.namelist() if name.endswith('top_level.txt'))
    # mim joins site-packages with this line, so that an absolute path stands alone.
    package = Path('site-packages', wheel.read(top_level).decode().splitlines()[0])
    assert package == tree / 'bsst_plugin'
    assert (package / '.mim' / 'tools' / 'install_mmcv.py').samefile(
        tree / 'tools' / 'install_mmcv.py'
    )
    assert (package / '.mim' / 'configs').is_symlink()


def test_an_install_without_the_pins_may_take_what_was_tried(tree):
    """And nothing newer, where MMagic does not work with that."""
    wheel = build(tree, 'wheel')
    metadata = next(name for name in wheel.namelist() if name.endswith('METADATA'))
    lines = wheel.read(metadata).decode().splitlines()
    needed = [Requirement(line.partition(': ')[2]) for line in lines if 'Requires-Dist' in line]
    text = (ROOT / 'requirements' / 'pins.txt').read_text()
    pins = dict(line.split('==') for line in text.splitlines() if '==' in line)
    newer = re.search('newer releases.\n(.*?)\n\n', text, re.DOTALL)
    assert newer is not None
    bounded = {line.split('==')[0] for line in newer[1].splitlines()}
    needed = {one.name: one.specifier for one in needed if one.marker is None}
    assert all(pins[name] in specifier for name, specifier in needed.items())
    assert bounded <= set(needed) and not any('9999' in needed[name] for name in bounded)
