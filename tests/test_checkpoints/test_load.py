"""Networks from checkpoints alone."""

import copy
import json
from pathlib import Path

import pytest
import torch
from mmagic.registry import MODELS
from mmengine.config import Config

from bsst_plugin.checkpoints import load
from bsst_plugin.checkpoints.load import load_network
from bsst_plugin.errors import UserError

KEYS = Path(__file__).resolve().parents[1] / 'data' / 'parity' / 'released_keys.json'


@pytest.fixture
def network(tiny_generator, randomise):
    return randomise(MODELS.build(tiny_generator()))


@pytest.fixture
def config(tiny_generator):
    return Config(dict(model=dict(type='VideoDeblurrer', generator=tiny_generator())))


@pytest.fixture
def checkpoint(tmp_path, network, config):
    """As MMEngine writes it: the editing model's tensors and the config's text."""
    state = {f'generator.{name}': value for name, value in network.state_dict().items()}
    state['pixel_loss.weight'] = torch.zeros(1)
    path = tmp_path / 'iter_1.pth'
    torch.save({'state_dict': state, 'meta': {'cfg': config.pretty_text, 'iter': 1}}, path)
    return path


def same(first, second):
    states = first.state_dict(), second.state_dict()
    return all(torch.equal(states[0][name], states[1][name]) for name in states[0])


def test_config_comes_from_the_checkpoint(checkpoint, network, config):
    loaded = load_network(checkpoint)
    assert same(loaded.network, network) and not loaded.network.training
    assert loaded.checkpoint == checkpoint and loaded.config == config.pretty_text
    clip = torch.rand(1, 3, 3, 32, 32)
    network.eval()
    assert torch.equal(loaded.network(clip), network(clip))


def test_config_file_overrides(checkpoint, network, config, tmp_path):
    other = copy.deepcopy(config)
    other.model.generator.neck.selection = dict(type='DenseSelection')
    other.dump(tmp_path / 'other.py')
    loaded = load_network(checkpoint, tmp_path / 'other.py')
    assert type(loaded.network.neck.selection).__name__ == 'DenseSelection'
    assert same(loaded.network, network)


def test_bare_tensors_need_a_config(network, config, tmp_path):
    torch.save(network.state_dict(), tmp_path / 'bare.pth')
    with pytest.raises(UserError, match='bare.pth: holds no config.*--config'):
        load_network(tmp_path / 'bare.pth')
    config.dump(tmp_path / 'config.py')
    assert same(load_network(tmp_path / 'bare.pth', tmp_path / 'config.py').network, network)


@pytest.mark.slow
@pytest.mark.parametrize('wrap', [lambda state: state, lambda state: {'params': state}])
def test_released_file_as_it_is(tmp_path, formula, wrap):
    state = formula.released_state_dict(json.loads(KEYS.read_text()))
    torch.save(wrap(state), tmp_path / 'BSST_gopro.pth')
    loaded = load_network(tmp_path / 'BSST_gopro.pth').network
    assert loaded.flow_refiner is not None
    assert type(loaded.neck.selection).__name__ == 'ReleasedSelection'
    assert torch.equal(loaded.neck.soft_split.weight, state['softsplit.embedding.weight'])
    state.pop('softsplit.embedding.weight')
    torch.save(wrap(state), tmp_path / 'less.pth')
    with pytest.raises(UserError, match='less.pth: .* tensors of BSSTNet fit'):
        load_network(tmp_path / 'less.pth')


def test_without_a_checkpoint(checkpoint, network, monkeypatch, tmp_path):
    monkeypatch.setattr(load, 'DEFAULT_CHECKPOINT', tmp_path / 'none.pth')
    with pytest.raises(UserError, match='--checkpoint.*train'):
        load_network()
    monkeypatch.setattr(load, 'DEFAULT_CHECKPOINT', checkpoint)
    assert same(load_network().network, network)


def test_config_in_a_checkpoint_is_never_run(checkpoint, tmp_path):
    content = torch.load(checkpoint)
    for text in (
        f'model = open({str(tmp_path / "evil")!r}, "w")',
        f'import os\nmodel = dict(a=os.system("touch {tmp_path / "evil"}"))',
        'model = [',
    ):
        content['meta']['cfg'] = text
        torch.save(content, checkpoint)
        with pytest.raises(UserError, match='iter_1.pth: the config inside cannot be read'):
            load_network(checkpoint)
    assert not (tmp_path / 'evil').exists()


def test_wrong_files(checkpoint, config, tmp_path):
    with pytest.raises(UserError, match='no.pth: no such checkpoint'):
        load_network(tmp_path / 'no.pth')
    (tmp_path / 'text.pth').write_text('text')
    with pytest.raises(UserError, match='text.pth: not a checkpoint'):
        load_network(tmp_path / 'text.pth')
    with pytest.raises(UserError, match='no.py: no such config'):
        load_network(checkpoint, tmp_path / 'no.py')
    (tmp_path / 'bad.py').write_text('model = dict(')
    with pytest.raises(UserError, match='bad.py: not a config'):
        load_network(checkpoint, tmp_path / 'bad.py')
    (tmp_path / 'less.py').write_text('other = dict()')
    with pytest.raises(UserError, match='less.py: .*no model.generator'):
        load_network(checkpoint, tmp_path / 'less.py')
    config.model.generator.type = 'NoSuchNetwork'
    config.dump(tmp_path / 'unknown.py')
    with pytest.raises(UserError, match='unknown.py: .*cannot be built.*NoSuchNetwork'):
        load_network(checkpoint, tmp_path / 'unknown.py')
    config.model.generator.type = 'BSSTNet'
    config.model.generator.neck = None
    config.dump(tmp_path / 'smaller.py')
    load_network(checkpoint, tmp_path / 'smaller.py')
    config.model.generator.encoder.shallow_channels = 24
    config.dump(tmp_path / 'wider.py')
    with pytest.raises(UserError, match='iter_1.pth: .* of .* tensors of BSSTNet fit'):
        load_network(checkpoint, tmp_path / 'wider.py')
