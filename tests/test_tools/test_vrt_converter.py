"""The converter of the released VRT checkpoints, on files with their names and shapes."""

import json
from pathlib import Path

import pytest
import torch
from mmagic.registry import MODELS
from mmagic.utils import register_all_modules
from mmengine.config import Config

from bsst_plugin.checkpoints.vrt import convert_vrt
from bsst_plugin.cli import run
from bsst_plugin.models import VRT

REPO = Path(__file__).resolve().parents[2]
KEYS = json.loads((REPO / 'tests/data/vrt/released_keys.json').read_text())


@pytest.fixture(scope='module')
def main(load_script):
    path = REPO / 'tools' / 'model_converters' / 'vrt.py'
    return load_script(path).main


@pytest.fixture(scope='module')
def params():
    """A file's tensors, each holding its number in the list; as files they are small."""
    return {
        name: torch.tensor(float(i)).expand(*shape) for i, (name, shape) in enumerate(KEYS.items())
    }


def refusal(main, capsys, *arguments):
    """The single line that the command prints when it refuses."""
    with pytest.raises(SystemExit) as stop:
        run(lambda: main([str(argument) for argument in arguments]))
    assert stop.value.code == 1
    line = capsys.readouterr().err.strip()
    assert line.startswith('error: ') and '\n' not in line
    return line


def test_every_tensor_has_a_place_and_no_other(params):
    with torch.device('meta'):
        net = VRT()
    state = convert_vrt(params)
    assert {name: v.shape for name, v in state.items()} == {
        name: v.shape for name, v in net.state_dict().items()
    }
    taken = sorted(int(value.flatten()[0]) for value in state.values())
    rebuilt = ('relative_position_index', 'position_bias')
    assert taken == [i for i, name in enumerate(KEYS) if not name.endswith(rebuilt)]
    assert (len(KEYS), len(taken)) == (1526, 1412)


@pytest.mark.parametrize('inside', ['params', None])
def test_converted_file_loads_strictly(main, capsys, params, tmp_path, inside):
    src, dst = tmp_path / 'released.pth', tmp_path / 'made' / 'vrt.pth'
    torch.save({inside: params} if inside else params, src)
    main([str(src), str(dst)])
    assert '1412 tensors' in capsys.readouterr().out
    assert [path.name for path in dst.parent.iterdir()] == ['vrt.pth']
    content = torch.load(dst, weights_only=True)
    register_all_modules(init_default_scope=True)
    model = MODELS.build(Config.fromstring(content['meta']['cfg'], '.py').model)
    model.load_state_dict(content['state_dict'], strict=True)
    expected = params['stage8.4.residual_group.blocks.3.mlp.fc12.bias']
    assert torch.equal(model.generator.refine[3].blocks[3].mlp.value.bias, expected)
    assert 'exists already' in refusal(main, capsys, src, dst)


def remove(params):
    del params['norm.weight']


def add(params):
    params['extra'] = torch.zeros(1)


def denoise(params):
    """The denoising network also sees a map of the noise."""
    params['conv_first.weight'] = torch.zeros(1).expand(96, 28, 1, 3, 3)


def replace(params):
    params.clear()
    params['weight'] = torch.zeros(3)


@pytest.mark.parametrize(
    'change, found',
    [
        (remove, 'found 1411 of them and 0 others'),
        (add, 'found 1412 of them and 1 others'),
        (denoise, 'found 1411 of them and 1 others'),
        (replace, 'found 0 of them and 1 others'),
    ],
)
def test_other_checkpoints_are_refused(main, capsys, params, tmp_path, change, found):
    params = dict(params)
    change(params)
    src, dst = tmp_path / 'other.pth', tmp_path / 'vrt.pth'
    torch.save(params, src)
    line = refusal(main, capsys, src, dst)
    assert line.startswith(f'error: {src}: not a released VRT for deblurring')
    assert 'expected 1412' in line and found in line
    assert not dst.exists()


def test_what_is_no_checkpoint_is_refused(main, capsys, tmp_path):
    src, dst = tmp_path / 'page.pth', tmp_path / 'vrt.pth'
    src.write_text('<html>')
    assert "give the authors' released VRT" in refusal(main, capsys, src, dst)
    assert 'no such checkpoint' in refusal(main, capsys, tmp_path / 'none.pth', dst)
