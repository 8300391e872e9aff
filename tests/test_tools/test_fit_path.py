import json
from pathlib import Path

import pytest
import torch

from bsst_plugin.errors import UserError

REPO = Path(__file__).resolve().parents[2]


@pytest.fixture(scope='module')
def main(load_script):
    return load_script(REPO / 'tools' / 'fit_path.py').main


@pytest.fixture(scope='module')
def fitted(main, one_photograph, tmp_path_factory):
    out = tmp_path_factory.mktemp('fitted') / 'path.pth'
    main([str(one_photograph), str(out), '--clips', '12', '--steps', '60'])
    return out


def test_it_learns_to_explain_the_blur(fitted):
    lines = [json.loads(line) for line in fitted.with_suffix('.jsonl').read_text().splitlines()]
    assert [line['step'] for line in lines] == [6 * i for i in range(1, 11)]
    assert lines[-1]['at_most'] > lines[-1]['explained'] > 1
    assert len({line['at_most'] for line in lines}) == 1


def test_nothing_else_learns(main, fitted, one_photograph, tmp_path):
    main([str(one_photograph), str(tmp_path / 'one.pth'), '--clips', '1', '--steps', '1'])
    one, after = (
        torch.load(path, weights_only=True)['state_dict'] for path in (tmp_path / 'one.pth', fitted)
    )
    changed = {name for name in one if not torch.equal(one[name], after[name])}
    learning = {name for name in one if name.startswith('generator.encoder.blur_path.')}
    assert changed == learning


def test_only_weights_and_figures_are_left(fitted):
    names = sorted(path.name for path in fitted.parent.iterdir())
    assert names == ['path.jsonl', 'path.pth']


def test_frames_are_fitted_from_it(load_script, fitted, one_photograph, tmp_path):
    fit_small = load_script(REPO / 'tools' / 'fit_small.py').main
    out = tmp_path / 'frames.pth'
    options = ['--clips', '1', '--steps', '1', '--frames', '--start', str(fitted)]
    fit_small([str(one_photograph), str(out), *options])
    before, after = (torch.load(x, weights_only=True)['state_dict'] for x in (fitted, out))
    kept = [name for name in before if name.startswith('generator.encoder.blur_path.')]
    assert kept and all(torch.equal(before[name], after[name]) for name in kept)


def test_a_config_without_the_part_is_refused(main, tmp_path):
    config = str(REPO / 'configs' / 'bsstnet_demo.py')
    with pytest.raises(UserError, match='bsstnet_demo.py: its encoder is no CompactEncoder'):
        main([config, str(tmp_path / 'path.pth')])


@pytest.mark.parametrize('option', ['--clips', '--steps', '--batch', '--lr'])
def test_settings_out_of_range_are_refused(main, one_photograph, tmp_path, option):
    with pytest.raises(UserError, match='must be at least 1'):
        main([str(one_photograph), str(tmp_path / 'path.pth'), option, '0'])
