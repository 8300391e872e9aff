import json
import os
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from mmagic.registry import MODELS
from mmagic.utils import register_all_modules
from mmengine.config import Config
from torchvision.models.optical_flow import raft_large, raft_small

from bsst_plugin.cli import run

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / 'tools' / 'model_converters' / 'released.py'
CONFIG = ROOT / 'configs' / 'bsstnet_gopro_released.py'
KEYS = json.loads((ROOT / 'tests' / 'data' / 'parity' / 'released_keys.json').read_text())
USED = sum(key['kind'] == 'used' for key in KEYS.values())
sys.path.insert(0, str(ROOT / 'tests'))
from tiny_config import render_tiny_dataset  # noqa: E402


def build_model():
    """As the test command does."""
    register_all_modules(init_default_scope=True)
    return MODELS.build(Config.fromfile(CONFIG).model)


@pytest.fixture(scope='module')
def main(load_script):
    return load_script(SCRIPT).main


def numbered(shapes):
    """Tensors that each hold their own number; as files they are small."""
    return {k: torch.tensor(float(i)).expand(*shape) for i, (k, shape) in enumerate(shapes.items())}


@pytest.fixture(scope='module')
def authors():
    """All tensors of the authors' file."""
    return numbered({name: key['shape'] for name, key in KEYS.items()})


def numbers(state):
    return sorted(float(value.flatten()[0]) for value in state.values())


@pytest.fixture
def src(authors, tmp_path):
    path = tmp_path / 'BSST_gopro.pth'
    torch.save({'params': authors}, path)
    return path


def raft_file(path, network=raft_large):
    state = network(weights=None).state_dict()
    torch.save({f'module.{name}': value for name, value in state.items()}, path)
    return state


@pytest.mark.parametrize('prefix', ['', 'module.'])
@pytest.mark.parametrize('inside', ['params', None])
def test_every_spelling_without_flow_weights(main, capsys, tmp_path, authors, inside, prefix):
    src, dst = tmp_path / 'src.pth', tmp_path / 'new' / 'dst.pth'
    state = {prefix + name: value for name, value in authors.items()}
    torch.save({inside: state} if inside else state, src)
    main([str(src), str(dst)])
    said = capsys.readouterr().out
    assert str(dst) in said and 'flow_estimator.* is missing' in said

    converted = torch.load(dst, weights_only=True)['state_dict']
    model = build_model()
    result = model.load_state_dict(converted, strict=False)
    assert result.unexpected_keys == []
    flow = model.generator.flow_estimator.state_dict(prefix='generator.flow_estimator.')
    # torch does not miss the counters of batches.
    assert set(result.missing_keys) == {name for name in flow if 'num_batches' not in name}
    used = [authors[name] for name, key in KEYS.items() if key['kind'] == 'used']
    assert numbers(converted) == sorted(float(value.flatten()[0]) for value in used)
    assert [path.name for path in dst.parent.iterdir()] == ['dst.pth']


def test_with_flow_weights_it_loads_strictly(main, capsys, tmp_path, src):
    dst = tmp_path / 'dst.pth'
    raft = raft_file(tmp_path / 'raft.pth')
    main([str(src), str(dst), '--raft', str(tmp_path / 'raft.pth')])
    assert 'missing' not in capsys.readouterr().out
    model = build_model()
    model.load_state_dict(torch.load(dst, weights_only=True)['state_dict'], strict=True)
    for name, value in model.generator.flow_estimator.raft.state_dict().items():
        assert torch.equal(value, raft[name])


def fails(main, capsys, dst, *argv):
    """The single line that the command prints when it refuses, and that it writes nothing."""
    before = {path: path.read_bytes() for path in dst.parent.iterdir() if path.is_file()}
    with pytest.raises(SystemExit) as stop:
        run(lambda: main([str(arg) for arg in (*argv[:1], dst, *argv[1:])]))
    assert stop.value.code == 1
    err = capsys.readouterr().err.strip()
    assert err.startswith('error: ') and '\n' not in err
    assert {path: path.read_bytes() for path in dst.parent.iterdir() if path.is_file()} == before
    return err


def test_other_files_are_refused(main, capsys, tmp_path, authors):
    src, dst = tmp_path / 'src.pth', tmp_path / 'dst.pth'

    def message(content=None):
        if content is not None:
            torch.save(content, src)
        line = fails(main, capsys, dst, src)
        assert str(src) in line
        return line

    assert 'no such' in message()
    assert cv2.imwrite(str(tmp_path / 'image.png'), np.zeros((9, 9, 3), np.uint8))
    (tmp_path / 'image.png').rename(src)
    line = message()
    assert 'not a checkpoint' in line and 'PNG' in line and "the authors' released BSSTNet" in line
    line = message({'epoch': 3, 'lr': 0.1})
    assert "'epoch'" in line and "the authors' released BSSTNet" in line
    line = message(torch.nn.Linear(2, 3).state_dict())
    assert f'expected {USED} tensors' in line and 'found 0 of them and 2 others' in line
    unused = [name for name, key in KEYS.items() if key['kind'] != 'used']
    assert unused
    # What nobody uses may be missing, what is used may not, and nothing may be there beside it.
    one, *others = [name for name, key in KEYS.items() if key['kind'] == 'used']
    line = message({name: authors[name] for name in others})
    assert f'found {USED - 1} of them and 0 others' in line
    line = message({**authors, 'head.weight': torch.zeros(1)})
    assert f'found {USED} of them and 1 others' in line
    line = message({**authors, one: torch.zeros(7)})
    assert f'found {USED - 1} of them and 1 others' in line


def test_other_flow_weights_are_refused(main, capsys, tmp_path, src):
    dst, flow = tmp_path / 'dst.pth', tmp_path / 'raft.pth'
    line = fails(main, capsys, dst, src, '--raft', flow)
    assert f'{flow}: no such' in line
    flow.write_text('raft')
    line = fails(main, capsys, dst, src, '--raft', flow)
    assert str(flow) in line and "RAFT's weights" in line
    raft_file(flow, raft_small)
    line = fails(main, capsys, dst, src, '--raft', flow)
    assert str(flow) in line and 'not RAFT' in line and 'found 0 of them' not in line
    line = fails(main, capsys, dst, src, '--raft', src)
    assert str(src) in line and 'found 0 of them' in line


def test_nothing_is_overwritten(main, capsys, tmp_path, src):
    dst = tmp_path / 'thesis.pth'
    dst.write_text('mine')
    assert f'{dst}: exists already' in fails(main, capsys, dst, src)
    assert f'{src}: exists already' in fails(main, capsys, src, src)
    folder = tmp_path / 'folder'
    folder.mkdir()
    assert f'{folder}: exists already' in fails(main, capsys, folder, src)


def test_a_place_that_cannot_be_written(main, capsys, tmp_path, src):
    (tmp_path / 'file').write_text('mine')
    with pytest.raises(SystemExit):
        run(lambda: main([str(src), str(tmp_path / 'file' / 'dst.pth')]))
    err = capsys.readouterr().err.strip()
    assert str(tmp_path / 'file' / 'dst.pth') in err and '\n' not in err
    assert (tmp_path / 'file').read_text() == 'mine'


def call(*command, **environment):
    environment = {**os.environ, 'OMP_NUM_THREADS': '1', **environment}
    return subprocess.run(
        [sys.executable, *map(str, command)],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
    )


def test_as_a_script(tmp_path):
    done = call(SCRIPT, tmp_path / 'no.pth', tmp_path / 'dst.pth')
    assert done.returncode == 1
    assert 'no.pth: no such' in done.stderr and 'Traceback' not in done.stderr


@pytest.mark.slow
def test_testing_without_flow_weights_offline_is_one_line(main, tmp_path, src):
    dst, data = tmp_path / 'dst.pth', render_tiny_dataset(tmp_path / 'data')
    main([str(src), str(dst)])
    done = call(
        ROOT / 'tools' / 'test.py',
        CONFIG,
        dst,
        '--work-dir',
        tmp_path / 'work',
        '--cfg-options',
        f'test_dataloader.dataset.data_root={data}',
        # Offline: nobody listens at this address, and the cache is empty.
        https_proxy='http://127.0.0.1:9',
        TORCH_HOME=str(tmp_path / 'cache'),
    )
    assert done.returncode == 1
    assert 'Traceback' not in done.stdout + done.stderr
    (line,) = (line for line in done.stderr.splitlines() if line.startswith('error: '))
    assert 'raft_large_C_T_V1-22a6c225.pth' in line
    assert str(tmp_path / 'cache' / 'hub' / 'checkpoints') in line
