"""The plugin's network with the released weights' names and shapes against the released code.

The fixtures hold what the released code computes with weights and clips made by a formula.
"""

import json
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest
import torch
from mmagic.registry import MODELS

from bsst_plugin.checkpoints.released import convert_released

DATA = Path(__file__).resolve().parents[1] / 'data' / 'parity'
KEYS = json.loads((DATA / 'released_keys.json').read_text())
BRANCHES = ('backward_1', 'forward_1', 'backward_2', 'forward_2')


@pytest.fixture(scope='module')
def net(formula):
    """The released network; loading is strict."""
    net = MODELS.build(
        dict(
            type='BSSTNet',
            flow_estimator=dict(type='DISFlow'),
            blur_map=dict(type='BlurMapEstimator', reduction='mean'),
            flow_refiner=dict(type='FlowRefiner'),
            neck=dict(type='BSST', selection=dict(type='ReleasedSelection')),
        )
    )
    net.load_state_dict(convert_released(formula.released_state_dict(KEYS)), strict=True)
    return net.eval()


def record(net, lqs, flows):
    """Run the network; what each stage gives, under the names of the fixtures."""
    seen, hooks = defaultdict(list), []

    def watch(module, name):
        hooks.append(module.register_forward_hook(lambda _, i, out: seen[name].append((i, out))))

    watch(net.encoder, 'encoder')
    watch(net.blur_map, 'blur_map')
    watch(net.flow_refiner, 'flows')
    watch(net.backbone, 'bbfp')
    watch(net.fusion, 'fused')
    watch(net.neck.soft_split, 'tokens_in')
    for block in net.neck.blocks:
        watch(block, 'blocks')
    watch(net.neck.compose_conv, 'composite')
    watch(net.neck.refine, 'refined')
    for block in net.decoder.shift_blocks:
        watch(block, 'shift')
    with torch.no_grad():
        output = net(lqs, flows)
    for hook in hooks:
        hook.remove()

    def out(name, index=0):
        return seen[name][index][1]

    def whole(name):
        """Of a module that gets a few frames at a time."""
        return torch.cat([value for _, value in seen[name]])

    stages = dict(
        zip(('shallow', 'enc_half', 'enc_quarter'), out('encoder'), strict=True),
        blur_map_raw=out('blur_map', 0),
        flow_fwd_refined=out('flows')[0],
        flow_bwd_refined=out('flows')[1],
        blur_map=out('blur_map', 1),
        fused=out('fused'),
        tokens_in=out('tokens_in').permute(0, 2, 3, 1),
        composite=whole('composite'),
        refined=whole('refined'),
        up_half=seen['shift'][0][0][0],
        dec_half=out('shift', 1),
        output=output,
    )
    for name, branch in zip(BRANCHES, out('bbfp').chunk(5, dim=2)[1:], strict=True):
        stages[f'bbfp_{name}'] = branch
    for index in range(4):
        stages[f'tokens_block{index}'] = out('blocks', index)
    selections = [inputs[1] for inputs, _ in seen['blocks']]
    return {name: value.contiguous().numpy() for name, value in stages.items()}, selections


def check(net, formula, t, seed):
    lqs, forward, backward = formula.clip(t, seed)
    stages, selections = record(net, lqs, (forward, backward))
    with np.load(DATA / f'released_t{t}.npz') as fixture:
        expected = {name.removesuffix('__shape') for name in fixture.files if '__shape' in name}
        assert expected - {'qmask', 'kvmask'} == set(stages)
        for name, value in stages.items():
            assert value.size == np.prod(fixture[f'{name}__shape']), name
            if f'{name}__idx' in fixture.files:
                value = value.reshape(-1)[fixture[f'{name}__idx']]
            else:
                value = value.reshape(fixture[f'{name}__shape'])[..., ::2, ::2]
            reference = fixture[name]
            assert value.shape == reference.shape, name
            # 1e-4 where the stage's own scale is about 1.
            limit = 1e-4 * max(1.0, float(np.abs(reference).mean()))
            assert np.abs(value - reference).max() < limit, name

        masks = [selection.masks(1, t, 4, 4) for selection in selections]
        for kind, name in enumerate(('qmask', 'kvmask')):
            got = torch.stack([mask[kind] for mask in masks])[..., None].numpy()
            assert 0 < fixture[name].sum() < fixture[name].size
            assert np.array_equal(got, fixture[name].astype(bool)), name


def test_four_frames_equal_the_released_code(net, formula):
    check(net, formula, 4, 21)


@pytest.mark.slow
def test_eight_frames_equal_the_released_code(net, formula):
    check(net, formula, 8, 11)


def test_number_of_parameters(net):
    assert sum(p.numel() for p in net.parameters()) == sum(
        int(np.prod(key['shape'])) for key in KEYS.values() if key['kind'] == 'used'
    )
    assert round(sum(p.numel() for p in net.parameters()) / 1e6, 2) == 38.46


def test_every_used_tensor_has_a_place_and_no_other(net):
    params = {name: torch.full(key['shape'], i) for i, (name, key) in enumerate(KEYS.items())}
    assert len(params) == 933
    converted = convert_released(params)
    assert {name: v.shape for name, v in converted.items()} == {
        name: p.shape for name, p in net.named_parameters()
    }
    number_of = {name: i for i, name in enumerate(KEYS)}
    taken = sorted(int(value.flatten()[0]) for value in converted.values())
    used = sorted(number_of[name] for name, key in KEYS.items() if key['kind'] == 'used')
    assert taken == used
    assert {key['kind'] for key in KEYS.values()} == {'used', 'unused', 'buffer'}
