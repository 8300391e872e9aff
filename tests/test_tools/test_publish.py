import hashlib
from pathlib import Path

import pytest
import torch
from mmagic.registry import MODELS

from bsst_plugin.checkpoints.load import load_network
from bsst_plugin.cli import run

SCRIPT = Path(__file__).resolve().parents[2] / 'tools' / 'model_converters' / 'publish.py'


@pytest.fixture(scope='module')
def main(load_script):
    return load_script(SCRIPT).main


@pytest.fixture
def trained(tiny_generator, randomise, tmp_path):
    """A checkpoint as a training leaves it, and its network."""
    generator = tiny_generator()
    network = randomise(MODELS.build(generator))
    state = {f'generator.{name}': tensor for name, tensor in network.state_dict().items()}
    content = dict(
        meta=dict(cfg=f"model = dict(type='VideoDeblurrer', generator={generator})", iter=7),
        state_dict={**state, 'step_counter': torch.zeros(1)},
        ema_state_dict={f'module.{name}': torch.zeros(3) for name in state},
        optimizer=dict(state={}, param_groups=[]),
    )
    path = tmp_path / 'iter_7.pth'
    torch.save(content, path)
    return path, network


def test_keeps_weights_and_config(main, trained, tmp_path, capsys):
    path, network = trained
    out = tmp_path / 'sub' / 'small.pth'
    main([str(path), str(out)])
    content = torch.load(out, weights_only=True)
    assert set(content) == {'meta', 'state_dict'} and set(content['meta']) == {'cfg'}
    loaded = load_network(out).network.state_dict()
    assert set(loaded) == set(network.state_dict())
    assert all(torch.equal(loaded[name], t) for name, t in network.state_dict().items())
    assert hashlib.sha256(out.read_bytes()).hexdigest() in capsys.readouterr().out


def test_bad_input_is_one_line(main, trained, tmp_path, capsys):
    path, _ = trained
    for src, dst, named in ((path, path, path), (tmp_path / 'none.pth', 'new.pth', 'none.pth')):
        with pytest.raises(SystemExit) as stop:
            run(lambda src=src, dst=dst: main([str(src), str(dst)]))
        error = capsys.readouterr().err
        assert stop.value.code == 1 and str(named) in error and error.count('\n') == 1
