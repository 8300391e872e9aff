import json
from pathlib import Path

import cv2
import pytest

from bsst_plugin.cli import run
from bsst_plugin.ops.precision import bfloat16_is_fast

SCRIPT = Path(__file__).resolve().parents[2] / 'tools' / 'benchmark.py'
CONFIG = "model = dict(type='VideoDeblurrer', generator={generator})\n"


@pytest.fixture(scope='module')
def script(load_script):
    return load_script(SCRIPT)


@pytest.fixture
def configs(tiny_generator, tmp_path):
    paths = []
    for name, depth in (('one', 1), ('two', 2)):
        generator = tiny_generator()
        generator['neck']['depth'] = depth
        paths.append(tmp_path / f'{name}.py')
        paths[-1].write_text(CONFIG.format(generator=generator))
    return [str(path) for path in paths]


def test_numbers_fit_together(script, configs, tmp_path, capsys):
    out = tmp_path / 'sub' / 'numbers.json'
    plot = tmp_path / 'sub' / 'plot.png'
    options = ['--frames', '2', '3', '--size', '64', '--runs', '2', '--json', str(out)]
    options += ['--plot', str(plot)]
    script.main([configs[0], '--vs', configs[1], *options])
    results = json.loads(out.read_text())
    assert [result['setting'][:8] for result in results] == ['2 frames', '3 frames']
    assert cv2.imread(str(plot)) is not None
    for result in results:
        assert set(result['networks']) == set(configs)
        assert result['ratio']['min'] <= result['ratio']['median'] <= result['ratio']['max']
        for network in result['networks'].values():
            parts = network['parts']
            whole = parts.pop('all')
            assert {'encoder', 'backbone', 'fusion', 'neck', 'decoder'} <= set(parts)
            assert 0 < sum(part['seconds'] for part in parts.values()) <= 1.2 * whole['seconds']
            assert sum(part['gmac'] for part in parts.values()) == pytest.approx(whole['gmac'])
            share = whole['gmac'] / whole['seconds'] / result['matrix_product_gmacs']
            assert whole['share_of_peak'] == pytest.approx(share)
            assert network['peak_memory'] > 0
        one, two = (result['networks'][config]['parts'] for config in configs)
        assert two['neck']['gmac'] > one['neck']['gmac']
        assert two['decoder']['gmac'] == one['decoder']['gmac']
    printed = capsys.readouterr().out
    assert 'decoder' in printed and 'pair by pair' in printed


def test_what_was_measured_outlives_an_interruption(script, configs, tmp_path, monkeypatch):
    measure = script.benchmark

    def stopped_at_three(networks, frames, *rest):
        if frames == 3:
            raise KeyboardInterrupt
        return measure(networks, frames, *rest)

    monkeypatch.setattr(script, 'benchmark', stopped_at_three)
    out = tmp_path / 'numbers.json'
    options = ['--frames', '2', '3', '--size', '64', '--runs', '1', '--json', str(out)]
    with pytest.raises(KeyboardInterrupt):
        script.main([configs[0], *options])
    assert [result['frames'] for result in json.loads(out.read_text())] == [2]


def test_training_step(script, configs, tmp_path, capsys):
    out = tmp_path / 'numbers.json'
    options = ['--frames', '2', '--size', '64', '--runs', '1', '--train', '--json', str(out)]
    script.main([configs[0], *options])
    assert 'a training step' in capsys.readouterr().out
    (network,) = json.loads(out.read_text())[0]['networks'].values()
    # What backpropagation multiplies is not counted.
    assert 'gmac' not in network['parts'].pop('all')
    assert all('gmac' in part for part in network['parts'].values())


def test_settings_can_be_changed(script, configs, tmp_path):
    gmac = {}
    for depth in (1, 2):
        out = tmp_path / f'{depth}.json'
        options = ['--frames', '2', '--size', '64', '--runs', '1', '--json', str(out)]
        changed = f'model.generator.neck.depth={depth}'
        script.main([configs[0], *options, '--cfg-options', changed])
        (network,) = json.loads(out.read_text())[0]['networks'].values()
        gmac[depth] = network['parts']['neck']['gmac']
    assert gmac[2] > gmac[1]


@pytest.mark.skipif(not bfloat16_is_fast(), reason='takes minutes on this CPU')
def test_bfloat16(script, configs, capsys):
    script.main([configs[0], '--frames', '2', '--size', '64', '--runs', '1', '--dtype', 'bf16'])
    assert 'bf16, inference' in capsys.readouterr().out


@pytest.mark.parametrize(
    'options, message',
    [
        (['--frames', '0'], '--frames must be at least 1'),
        (['--size', '8'], '--size must be at least 16'),
        (['--blurry', '2'], '--blurry must be a share'),
        (['--device', 'cuda:7'], 'no such GPU'),
        (['--vs', 'missing.py'], 'missing.py: no such config'),
        (['--json', __file__], 'exists already'),
        (['--plot', __file__], 'exists already'),
    ],
)
def test_bad_input_is_one_line(script, configs, capsys, options, message):
    with pytest.raises(SystemExit) as stop:
        run(lambda: script.main([configs[0], *options]))
    error = capsys.readouterr().err
    assert stop.value.code == 1
    assert message in error and error.count('\n') == 1
