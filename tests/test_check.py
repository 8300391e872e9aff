import importlib.machinery
import subprocess
import sys
import types
from pathlib import Path

import pytest

from bsst_plugin._check import check_mmcv

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def fake_mmcv(monkeypatch):
    """Put an mmcv of some version in the place of the installed one."""

    def put(version: str, with_ops: bool) -> None:
        mmcv = types.ModuleType('mmcv')
        mmcv.__version__ = version
        mmcv.__path__ = []
        mmcv.__spec__ = importlib.machinery.ModuleSpec('mmcv', None, is_package=True)
        monkeypatch.setitem(sys.modules, 'mmcv', mmcv)
        monkeypatch.delitem(sys.modules, 'mmcv._ext', raising=False)
        if with_ops:
            monkeypatch.setitem(sys.modules, 'mmcv._ext', types.ModuleType('mmcv._ext'))

    return put


def test_installed_mmcv_passes():
    check_mmcv()


@pytest.mark.parametrize('version', ['2.0.0', '2.0.1', '2.1.0', '2.0.0rc4'])
def test_suitable_version_passes(fake_mmcv, version):
    fake_mmcv(version, with_ops=True)
    check_mmcv()


@pytest.mark.parametrize(
    ('version', 'with_ops', 'reason'),
    [
        ('1.7.2', True, 'found 1.7.2'),
        ('2.2.0', True, 'found 2.2.0'),
        ('2.0.1', False, 'mmcv._ext'),  # mmcv-lite
    ],
)
def test_unsuitable_mmcv_is_one_line(fake_mmcv, version, with_ops, reason):
    fake_mmcv(version, with_ops)
    with pytest.raises(ImportError) as error:
        check_mmcv()
    message = str(error.value)
    assert reason in message
    assert '\n' not in message
    assert message.endswith(f'python {ROOT}/tools/install_mmcv.py"')


def test_import_without_mmcv_names_the_script():
    code = "import sys; sys.modules['mmcv'] = None; import bsst_plugin"
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 1
    last = done.stderr.splitlines()[-1]
    assert last.startswith('ImportError: bsst_plugin needs mmcv')
    assert 'install_mmcv.py' in last
    assert 'During handling' not in done.stderr
