import json
from pathlib import Path

import numpy as np
import pytest
import torch
from mmagic.registry import DATASETS
from mmengine.config import Config

from bsst_plugin.checkpoints.load import load_network
from bsst_plugin.errors import UserError

REPO = Path(__file__).resolve().parents[2]


@pytest.fixture(scope='module')
def script(load_script):
    return load_script(REPO / 'tools' / 'fit_small.py')


@pytest.fixture(scope='module')
def main(script):
    return script.main


@pytest.fixture(scope='module')
def fitted(main, one_photograph, tmp_path_factory):
    out = tmp_path_factory.mktemp('fitted') / 'frames.pth'
    main([str(one_photograph), str(out), '--clips', '6', '--steps', '150', '--frames'])
    return out


@pytest.fixture(scope='module')
def go_on(main, one_photograph):
    """Train a stage from the checkpoint of another, beside it."""

    def train(start, name, *stage):
        out = start.with_name(name)
        options = ['--clips', '6', '--steps', '30', '--start', str(start)]
        main([str(one_photograph), str(out), *options, *stage])
        return out

    return train


@pytest.fixture(scope='module')
def whole(go_on, fitted):
    return go_on(fitted, 'whole.pth', '--lr', '2e-4')


@pytest.fixture(scope='module')
def second(go_on, whole):
    return go_on(whole, 'second.pth', '--second')


@pytest.fixture(scope='module')
def scales(go_on, second):
    return go_on(second, 'scales.pth', '--scales')


@pytest.mark.parametrize('stage', ['fitted', 'whole', 'second', 'scales'])
def test_frames_come_out_sharper(stage, one_photograph, request):
    network = load_network(request.getfixturevalue(stage)).network
    dataset = dict(Config.fromfile(str(one_photograph)).train_dataloader.dataset, pipeline=[])
    clips = DATASETS.build(dataset)
    before, after = [], []
    for index in range(6):
        blurry, sharp = (
            torch.from_numpy(np.stack(clips[index][key])).permute(0, 3, 1, 2)[None] / 255
            for key in ('img', 'gt')
        )
        before.append((blurry - sharp).square().mean().sqrt())
        with torch.no_grad():
            after.append((network(blurry) - sharp).square().mean().sqrt())
    assert np.mean(after) < 0.97 * np.mean(before)


def weights(path):
    return torch.load(path, weights_only=True)['state_dict']


def test_encoder_and_decoder_are_trained_then_all_then_second_pass_and_scales(
    main, fitted, whole, second, scales, one_photograph, tmp_path
):
    main(
        [str(one_photograph), str(tmp_path / 'one.pth'), '--clips', '1', '--steps', '1', '--frames']
    )
    one, frames, after, then = map(weights, (tmp_path / 'one.pth', fitted, whole, second))
    changed = {name for name in one if not torch.equal(one[name], frames[name])}
    parts = ('generator.encoder.', 'generator.decoder.')
    assert changed and all(name.startswith(parts) for name in changed)
    assert 'generator.decoder.merge.weight' not in changed
    assert not any('second_pass' in name for name in changed)
    changed = {name for name in one if not torch.equal(frames[name], after[name])}
    for part in ('encoder', 'backbone', 'fusion', 'neck', 'decoder.merge'):
        assert any(name.startswith(f'generator.{part}') for name in changed), part
    assert not any('second_pass' in name for name in changed)
    changed = {name for name in one if not torch.equal(after[name], then[name])}
    assert changed == {name for name in one if 'second_pass' in name}
    last = weights(scales)
    changed = {name for name in one if not torch.equal(then[name], last[name])}
    last_parts = ('generator.scales.', 'generator.mid_exposure.')
    assert changed == {name for name in one if name.startswith(last_parts)}


def test_validations_are_logged(fitted):
    lines = [json.loads(line) for line in fitted.with_suffix('.jsonl').read_text().splitlines()]
    assert [line['step'] for line in lines] == [15 * i for i in range(1, 11)]
    assert lines[-1]['PSNR'] > lines[-1]['input/PSNR']
    assert len({line['input/PSNR'] for line in lines}) == 1


def test_nothing_but_weights_and_figures_is_left(fitted, whole, second, scales):
    names = sorted(path.stem for path in fitted.parent.iterdir())
    stems = ('frames', 'scales', 'second', 'whole')
    assert names == [stem for stem in stems for _ in ('jsonl', 'pth')]


def test_an_interrupted_training_goes_on_to_the_same_weights(
    script, one_photograph, tmp_path, monkeypatch
):
    def command(name, steps=12):
        options = ['--frames', '--clips', '2', '--steps', f'{steps}']
        return [str(one_photograph), str(tmp_path / name), *options]

    script.main(command('a.pth'))
    validate, calls = script._psnr, []

    def interrupt(*args):
        calls.append(args)
        if len(calls) == 5:
            raise KeyboardInterrupt
        return validate(*args)

    monkeypatch.setattr(script, '_psnr', interrupt)
    with pytest.raises(KeyboardInterrupt):
        script.main(command('b.pth'))
    with pytest.raises(UserError, match='b.state: begun with another config or other options'):
        script.main(command('b.pth', steps=24))
    script.main(command('b.pth'))
    a, b = (tmp_path / name for name in ('a.jsonl', 'b.jsonl'))
    assert a.read_text() == b.read_text()
    a, b = (weights(tmp_path / name) for name in ('a.pth', 'b.pth'))
    assert all(torch.equal(a[name], b[name]) for name in a)


@pytest.mark.parametrize(
    'stage, parts',
    [('--second', ['decoder.second_pass']), ('--scales', ['scales', 'mid_exposure'])],
)
def test_only_what_is_trained_does_not_see_everything(
    script, one_photograph, whole, tmp_path, monkeypatch, stage, parts
):
    class Begun(Exception):
        pass

    def begin(network, *_):
        raise Begun(network)

    monkeypatch.setattr(script, 'Fit', begin)
    with pytest.raises(Begun) as begun:
        script.main([str(one_photograph), str(tmp_path / 'a.pth'), stage, '--start', str(whole)])
    network = begun.value.args[0]
    hidden = {n: m.p for n, m in network.named_modules() if isinstance(m, torch.nn.Dropout)}
    assert len(hidden) == 3 and set(hidden.values()) == {0, script.HIDDEN}
    assert {name for name in hidden if hidden[name]} == {f'{part}.judge.0' for part in parts}


def test_weights_from_before_there_was_a_second_pass_are_a_start(
    main, whole, one_photograph, tmp_path
):
    before = {name: x for name, x in weights(whole).items() if 'second_pass' not in name}
    start, out = tmp_path / 'before.pth', tmp_path / 'out.pth'
    torch.save({'state_dict': before}, start)
    options = ['--clips', '1', '--steps', '1', '--lr', '1e-9', '--start', str(start)]
    main([str(one_photograph), str(out), *options])
    after = weights(out)
    assert all(torch.allclose(after[name], before[name], atol=1e-6) for name in before)


def test_a_second_pass_needs_a_first(main, one_photograph, whole, tmp_path):
    out = str(tmp_path / 'a.pth')
    with pytest.raises(UserError, match='--second needs --start'):
        main([str(one_photograph), out, '--second'])
    config = tmp_path / 'config.py'
    decoder = 'model = dict(generator=dict(decoder=dict(second_blocks=0)))'
    config.write_text(f"_base_ = ['{one_photograph}']\n{decoder}\n")
    with pytest.raises(UserError, match='config.py: its network has no second pass'):
        main([str(config), out, '--second', '--start', str(whole)])


def test_scales_need_both_passes(main, one_photograph, whole, tmp_path):
    out = str(tmp_path / 'a.pth')
    with pytest.raises(UserError, match='--scales needs --start'):
        main([str(one_photograph), out, '--scales'])
    first = {name: x for name, x in weights(whole).items() if 'second_pass' not in name}
    start = tmp_path / 'first.pth'
    torch.save({'state_dict': first}, start)
    with pytest.raises(UserError, match='first.pth: its decoder is not that of the config'):
        main([str(one_photograph), out, '--scales', '--start', str(start)])
    config = tmp_path / 'config.py'
    config.write_text(f"_base_ = ['{one_photograph}']\nmodel = dict(generator=dict(scales=None))\n")
    with pytest.raises(UserError, match='config.py: its network has no mixture of scales'):
        main([str(config), out, '--scales', '--start', str(whole)])


def test_weights_of_another_network_are_refused(main, one_photograph, tmp_path):
    other = tmp_path / 'other.pth'
    torch.save({'state_dict': {'generator.encoder.a': torch.zeros(1)}}, other)
    with pytest.raises(UserError, match='other.pth: its encoder is not that of the config'):
        main([str(one_photograph), str(tmp_path / 'small.pth'), '--start', str(other)])


def test_what_is_there_stays(main, one_photograph, tmp_path):
    out = tmp_path / 'frames.pth'
    out.write_bytes(b'mine')
    with pytest.raises(UserError, match='exists already'):
        main([str(one_photograph), str(out)])
    assert out.read_bytes() == b'mine'


def test_a_folder_that_cannot_be_written_is_named(main, one_photograph, tmp_path):
    (tmp_path / 'file').touch()
    with pytest.raises(UserError, match='a.state: cannot be written'):
        main([str(one_photograph), str(tmp_path / 'file' / 'a.pth')])


def test_other_networks_are_refused(main, tmp_path):
    config = str(REPO / 'configs' / 'bsstnet_demo.py')
    with pytest.raises(UserError, match='CompactDecoder'):
        main([config, str(tmp_path / 'frames.pth'), '--clips', '1', '--steps', '1', '--frames'])


def test_a_config_that_is_not_there_is_named(main, tmp_path):
    with pytest.raises(UserError, match='none.py: no such config file'):
        main([str(tmp_path / 'none.py'), str(tmp_path / 'frames.pth')])


@pytest.mark.parametrize('option', ['--clips', '--steps', '--lr'])
def test_settings_out_of_range_are_refused(main, one_photograph, tmp_path, option):
    with pytest.raises(UserError, match=option):
        main([str(one_photograph), str(tmp_path / 'frames.pth'), option, '0'])
