import json
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import cv2
import pytest
import torch
import torch.nn.functional as F
from mmagic.registry import MODELS
from torch import nn

from bsst_plugin.cli import run
from bsst_plugin.models.bsst import FusionFeedForward, PatchComposition, PatchEmbedding
from bsst_plugin.models.layers import GatedCAB, GuidedDeformConv

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / 'tools' / 'analysis' / 'complexity.py'
CONFIG = """
model = dict(type='VideoDeblurrer', generator={generator})
"""


@pytest.fixture(scope='module')
def script(load_script):
    return load_script(SCRIPT)


@pytest.fixture
def config(tiny_generator, tmp_path):
    path = tmp_path / 'tiny.py'
    path.write_text(CONFIG.format(generator=tiny_generator()))
    return path


def count_by_hand(net, lqs, flows, monkeypatch):
    """Multiply-accumulates of a clip by component, from the shapes that its layers see.

    Returns them without the product of the deformable convolutions, and that product.
    """
    rest, deform, hooks = defaultdict(float), defaultdict(float), []

    def macs(layer, x, out):
        if isinstance(layer, PatchEmbedding):  # a linear layer on each patch
            return out.numel() * layer.in_features
        if isinstance(layer, PatchComposition):  # and the sum of its biases, once
            tokens = x.numel() // layer.in_features
            one_clip = x.shape[-2] * x.shape[-1]
            return tokens * layer.weight.numel() + one_clip * layer.out_features
        if isinstance(layer, FusionFeedForward):  # the overlaps are counted by adding ones
            return x.shape[-3] * x.shape[-2] * layer.fc1.kernel_shape[1] ** 2
        if isinstance(layer, GatedCAB):  # depth-wise on 2c, then the two on c as one
            return out.numel() * (2 * 3**2 + layer.mix_large.kernel_size[0] ** 2)
        if isinstance(layer, nn.Linear):
            return out.numel() * layer.in_features
        # A convolution; the channels are those of the input, which may be fewer.
        taps = layer.kernel_size[0] * layer.kernel_size[1]
        taps *= layer.kernel_size[2] if len(layer.kernel_size) > 2 else 1
        return out.numel() * x.shape[1] // layer.groups * taps

    for name, layer in net.named_modules():
        part = name.split('.')[0]

        def add(layer, inputs, out, part=part):
            rest[part] += macs(layer, inputs[0], out)

        def add_deform(layer, inputs, out, part=part):
            deform[part] += out.numel() * 2 * inputs[0].shape[1] * 9

        if isinstance(layer, (nn.Conv2d, nn.Conv3d, nn.Linear, FusionFeedForward, GatedCAB)):
            hooks.append(layer.register_forward_hook(add))
        elif isinstance(layer, GuidedDeformConv):
            hooks.append(layer.register_forward_hook(add_deform))

    inside, kernel = [], F.scaled_dot_product_attention
    for name in ('fusion', 'neck'):
        part = getattr(net, name)
        hooks.append(part.register_forward_pre_hook(lambda *_, name=name: inside.append(name)))

    def attention(query, key, value, **kwargs):
        batch = query[..., 0, 0].numel()
        rest[inside[-1]] += 2 * batch * query.shape[-2] * key.shape[-2] * query.shape[-1]
        return kernel(query, key, value, **kwargs)

    with monkeypatch.context() as patch, torch.no_grad():
        patch.setattr(F, 'scaled_dot_product_attention', attention)
        net(lqs, flows)
    for hook in hooks:
        hook.remove()
    return rest, deform


@pytest.mark.parametrize('t, share', [(1, 0.5), (4, 0.0), (4, 0.5), (5, 1.0)])
@pytest.mark.parametrize('refiner', [None, dict(type='FlowRefiner')], ids=['paper', 'refined'])
def test_counts_what_the_layers_do(script, monkeypatch, tiny_generator, t, share, refiner):
    size, parts = 64, tiny_generator(flow_refiner=refiner)
    counted = script.count(MODELS.build(parts), t, size, share)
    net = MODELS.build(parts)
    net.neck.selection = script.FixedShare(net.neck.selection, share)
    places = []
    hook = net.neck.blocks[0].register_forward_pre_hook(
        lambda _, inputs: places.append(len(inputs[1].places))
    )
    flows = torch.zeros(2, 1, t - 1, 2, size // 4, size // 4)
    rest, deform = count_by_hand(net, torch.rand(1, t, 3, size, size), flows, monkeypatch)
    hook.remove()
    assert places == [share * 4]  # of 2 x 2

    scale = 1e9 * t
    for name in rest.keys() | deform.keys():
        got = counted[f'BSSTNet.{name}']
        assert got.get('rest', 0) * scale == pytest.approx(rest[name], rel=1e-9), name
        assert got.get('deform', 0) * scale == pytest.approx(deform[name], rel=1e-9), name
    assert counted['Global']['rest'] * scale == pytest.approx(sum(rest.values()), rel=1e-9)
    assert rest['neck'] > 0 and rest['fusion'] > 0 and (deform['backbone'] > 0) == (t > 1)


def test_sparse_attention_costs_less_than_dense(script, tiny_generator):
    def neck(share, selection):
        parts = tiny_generator()
        parts['neck']['selection'] = dict(type=selection)
        counts = script.count(MODELS.build(parts), 4, 64, share)
        return counts['BSSTNet.neck']['rest']

    costs = [neck(places / 4, 'BlurAwareSelection') for places in range(5)]
    assert costs == sorted(set(costs)) and costs[-1] < neck(0.0, 'DenseSelection')
    # Each place costs the same, and the first one also the tokens that all places share.
    assert costs[3] - costs[2] == pytest.approx(costs[2] - costs[1], rel=1e-6)


def test_writes_tables_numbers_and_a_plot(script, capsys, config, tmp_path):
    out = tmp_path / 'new' / 'out'
    script.main([str(config), '--frames', '3', '2', '--size', '64', '--out', str(out)])
    said = capsys.readouterr().out
    content = json.loads((out / 'complexity.json').read_text())
    parameters, gmac = content['parameters'], content['gmac_per_frame']
    net = MODELS.build(script._read_generator(str(config)))
    assert sum(parameters.values()) == sum(p.numel() for p in net.parameters())
    assert set(gmac) == {'2', '3'}
    for row in gmac.values():
        components = sum(row[name] for name in parameters if name != 'flow_estimator')
        assert row['all'] == pytest.approx(components)
        assert row['without deformable convolution'] < row['all']
    for word in ('parameters', 'backbone', 'without deformable convolution', 'Table 4', '64 x 64'):
        assert word in said
    plot = cv2.imread(str(out / 'complexity.png'))
    assert plot.shape[0] > 300 and plot.std() > 10
    assert sorted(path.name for path in out.parent.iterdir()) == ['out']


def test_without_out_it_writes_to_work_dirs(script, config, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    script.main([str(config), '--frames', '2', '--size', '16'])
    (plot,) = tmp_path.glob('work_dirs/complexity/tiny_*/complexity.png')
    assert plot.stat().st_size > 0


def fails(script, capsys, *argv):
    """The single line that the command prints when it fails."""
    with pytest.raises(SystemExit) as stop:
        run(lambda: script.main([str(arg) for arg in argv]))
    assert stop.value.code == 1
    err = capsys.readouterr().err.strip()
    assert err.startswith('error: ') and '\n' not in err
    return err


@pytest.mark.parametrize(
    'wrong', [('--frames', 0), ('--size', 15), ('--blurry', 1.5), ('--blurry', 'nan')], ids=str
)
def test_wrong_numbers(script, capsys, config, tmp_path, monkeypatch, wrong):
    monkeypatch.chdir(tmp_path)
    assert wrong[0] in fails(script, capsys, config, *wrong)
    assert not (tmp_path / 'work_dirs').exists()


def test_wrong_configs(script, capsys, tmp_path):
    path = tmp_path / 'config.py'
    assert f'{path}: no such config' in fails(script, capsys, path)
    path.write_text('model = dict(')
    assert f'{path}: not a config' in fails(script, capsys, path)
    for text in ('a = 1', "model = dict(type='Other')", "model = dict(generator=dict(type='X'))"):
        path.write_text(text)
        assert f'{path}: not the config of a BSSTNet' in fails(script, capsys, path)


def test_nothing_is_overwritten(script, capsys, config, tmp_path):
    out = tmp_path / 'out'
    out.mkdir()
    (out / 'thesis.txt').write_text('mine')
    assert f'{out}: exists already' in fails(script, capsys, config, '--out', out)
    file = out / 'thesis.txt'
    assert f'{file}: exists already' in fails(script, capsys, config, '--out', file)
    below = file / 'new'
    line = fails(script, capsys, config, '--frames', 1, '--size', 16, '--out', below)
    assert f'{below}: cannot be written' in line
    assert [path.read_text() for path in out.iterdir()] == ['mine']


def test_as_a_script(tmp_path):
    command = [sys.executable, str(SCRIPT), str(tmp_path / 'no.py')]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert 'no.py: no such config' in done.stderr and 'Traceback' not in done.stderr


@pytest.mark.slow
def test_paper_s_network_costs_what_the_paper_says(script):
    generator = script._read_generator(str(ROOT / 'configs' / 'bsstnet_gopro.py'))
    counts = script.count(MODELS.build(generator), 48, 256, 0.5)['Global']
    assert 130 < counts['rest'] < 133.05
    assert counts['deform'] == pytest.approx(11, abs=0.5)
