from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from mmagic.registry import DATASETS
from mmengine.config import Config

from bsst_plugin.checkpoints.load import load_network
from bsst_plugin.errors import UserError

REPO = Path(__file__).resolve().parents[2]


@pytest.fixture(scope='module')
def main(load_script):
    return load_script(REPO / 'tools' / 'fit_guess.py').main


@pytest.fixture(scope='module')
def config(tmp_path_factory):
    """The small model's config, on one photograph and with few frames."""
    root = tmp_path_factory.mktemp('photographs')
    folder = root / 'train' / 'backgrounds'
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    layers = [cv2.resize(rng.random((n, n, 3)), (400, 300)) for n in (4, 16, 64)]
    assert cv2.imwrite(str(folder / 'a.png'), (255 * np.mean(layers, 0)).astype(np.uint8))
    path = root / 'config.py'
    path.write_text(
        f"_base_ = ['{REPO}/configs/bsstnet_small.py']\n"
        f"train_dataloader = dict(dataset=dict(data_root='{root}',\n"
        f'    settings=dict(num_frames=4, size=64), capture=dict(exposure=(0.8, 0.8))))\n'
    )
    return path


@pytest.fixture(scope='module')
def fitted(main, config, tmp_path_factory):
    out = tmp_path_factory.mktemp('fitted') / 'guess.pth'
    main([str(config), str(out), '--clips', '6', '--steps', '150'])
    return out


@torch.no_grad()
def test_frames_come_out_sharper(fitted, config):
    network = load_network(fitted).network
    dataset = dict(Config.fromfile(str(config)).train_dataloader.dataset, pipeline=[])
    clips = DATASETS.build(dataset)
    before, after = [], []
    for index in range(6):
        blurry, sharp = (
            torch.from_numpy(np.stack(clips[index][key])).permute(0, 3, 1, 2)[None] / 255
            for key in ('img', 'gt')
        )
        before.append((blurry - sharp).square().mean().sqrt())
        after.append((network(blurry) - sharp).square().mean().sqrt())
    assert np.mean(after) < 0.97 * np.mean(before)


def test_only_the_guess_is_fitted(main, fitted, config, tmp_path):
    main([str(config), str(tmp_path / 'one.pth'), '--clips', '1', '--steps', '1'])
    states = [
        torch.load(path, weights_only=True)['state_dict'] for path in (fitted, tmp_path / 'one.pth')
    ]
    changed = {name for name in states[0] if not torch.equal(states[0][name], states[1][name])}
    assert changed and all(name.startswith('generator.decoder.to_guess') for name in changed)


def test_what_is_there_stays(main, config, tmp_path):
    out = tmp_path / 'guess.pth'
    out.write_bytes(b'mine')
    with pytest.raises(UserError, match='exists already'):
        main([str(config), str(out)])
    assert out.read_bytes() == b'mine'


def test_other_networks_make_no_guesses(main, tmp_path):
    config = str(REPO / 'configs' / 'bsstnet_demo.py')
    with pytest.raises(UserError, match='CompactDecoder'):
        main([config, str(tmp_path / 'guess.pth'), '--clips', '1', '--steps', '1'])


def test_a_config_that_is_not_there_is_named(main, tmp_path):
    with pytest.raises(UserError, match='none.py: no such config file'):
        main([str(tmp_path / 'none.py'), str(tmp_path / 'guess.pth')])


@pytest.mark.parametrize('option', ['--clips', '--steps', '--lr'])
def test_settings_out_of_range_are_refused(main, config, tmp_path, option):
    with pytest.raises(UserError, match=option):
        main([str(config), str(tmp_path / 'guess.pth'), option, '0'])
