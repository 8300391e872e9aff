import copy
import json
from pathlib import Path
from urllib.error import URLError

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from mmagic.models.editors.basicvsr.basicvsr_net import SPyNet
from mmagic.registry import MODELS
from torchvision.models import _api
from torchvision.models.optical_flow import raft_large

from bsst_plugin.checkpoints.raft import to_torchvision
from bsst_plugin.errors import UserError
from bsst_plugin.models import DISFlow, MMFlowEstimator, RAFTFlow, SPyNetFlow
from bsst_plugin.ops import flow_warp

PARITY = Path(__file__).resolve().parents[1] / 'data' / 'parity'


def inside(x):
    """Without the border, where content enters and leaves."""
    return x[..., 6:-6, 6:-6]


def typical(flow):
    """Median of dx and dy, for each pair of frames."""
    return inside(flow).flatten(-2).median(-1).values


# DISFlow


@pytest.mark.parametrize('step', [(8, -4), (-6, 6), (0, 8)])
@pytest.mark.parametrize('size', [(128, 160), (131, 150)])
def test_dis_flow_sees_a_translation(moving_clip, step, size):
    clip = moving_clip(3, *size, step)
    forward, backward = DISFlow()(clip)
    quarter = (-(-size[0] // 4), -(-size[1] // 4))
    assert forward.shape == backward.shape == (1, 2, 2, *quarter)
    assert forward.dtype == backward.dtype == torch.float32
    # The texture moves by ``step``: what is here in frame i is there in frame i + 1.
    expected = torch.tensor(step) / 4
    torch.testing.assert_close(typical(backward)[0], expected.expand(2, 2), atol=0.15, rtol=0)
    torch.testing.assert_close(typical(forward)[0], -expected.expand(2, 2), atol=0.15, rtol=0)


def test_forward_flows_align_a_frame_with_the_next_one(moving_clip):
    clip = moving_clip(2, 128, 160, (8, -4))
    forward, backward = DISFlow()(clip)
    first, second = (F.avg_pool2d(frame, 4) for frame in clip.unbind(1))

    def distance(a, b):
        return inside(a - b).abs().mean()

    apart = distance(first, second)
    assert distance(flow_warp(first, forward[:, 0]), second) < 0.3 * apart
    assert distance(flow_warp(second, backward[:, 0]), first) < 0.3 * apart
    assert distance(flow_warp(first, backward[:, 0]), second) > 0.8 * apart  # the wrong way


def test_clips_of_a_batch_are_estimated_alone(moving_clip):
    clips = [moving_clip(3, 64, 64, step, seed) for seed, step in enumerate([(4, 0), (0, -4)])]
    together = DISFlow()(torch.cat(clips))
    alone = [torch.cat(flows) for flows in zip(*map(DISFlow(), clips), strict=True)]
    for got, expected in zip(together, alone, strict=True):
        assert torch.equal(got, expected)


@pytest.mark.parametrize('size', [(16, 16), (17, 130), (90, 19), (33, 47)])
def test_dis_flow_of_small_and_odd_frames(size):
    forward, backward = DISFlow()(torch.rand(2, 2, 3, *size))
    assert forward.shape == backward.shape == (2, 1, 2, -(-size[0] // 4), -(-size[1] // 4))
    assert forward.isfinite().all()


@pytest.mark.parametrize('estimator', [DISFlow, RAFTFlow])
def test_one_frame_has_no_flow(estimator):
    for flow in estimator()(torch.rand(2, 1, 3, 18, 30)):
        assert flow.shape == (2, 0, 2, 5, 8)
        assert flow.dtype == torch.float32


def test_still_clip_has_no_flow(moving_clip):
    for flow in DISFlow()(moving_clip(2, 64, 64, (0, 0))):
        assert flow.abs().max() < 1e-3


@pytest.mark.parametrize('max_pixels', [80 * 64, 3000])
def test_large_frames_are_reduced_and_their_flow_scaled_back(moving_clip, max_pixels):
    estimator = DISFlow(max_pixels=max_pixels)
    given, estimate = [], estimator.estimate

    def spy(first, second):
        given.append(first.shape)
        return estimate(first, second)

    estimator.estimate = spy
    forward, backward = estimator(moving_clip(3, 256, 320, (16, -8)))
    assert all(b * h * w <= max_pixels for b, _, h, w in given)
    assert max(h * w for _, _, h, w in given) > 0.8 * max_pixels  # no more than needed
    assert forward.shape == (1, 2, 2, 64, 80)
    expected = torch.tensor([4.0, -2.0]).expand(2, 2)
    torch.testing.assert_close(typical(backward)[0], expected, atol=0.4, rtol=0)
    torch.testing.assert_close(typical(forward)[0], -expected, atol=0.4, rtol=0)


def test_pairs_are_estimated_in_chunks_with_the_same_result(moving_clip):
    clip = moving_clip(5, 64, 64, (4, 2))
    whole, chunked = DISFlow(), DISFlow(max_pixels=2 * 32 * 32)
    calls, estimate = [], chunked.estimate

    def spy(first, second):
        calls.append(len(first))
        return estimate(first, second)

    chunked.estimate = spy
    for got, expected in zip(chunked(clip), whole(clip), strict=True):
        assert torch.equal(got, expected)
    assert calls == [2, 2, 2, 2]


def test_dis_flow_can_be_copied():
    copy.deepcopy(DISFlow())(torch.rand(1, 2, 3, 32, 32))


def test_unknown_preset_is_refused():
    with pytest.raises(UserError, match="'best'"):
        DISFlow(preset='best')


# RAFTFlow


@pytest.fixture
def no_download(monkeypatch, tmp_path):
    """An empty cache, and no network."""
    asked = []

    def refuse(url, *args, **kwargs):
        asked.append(url)
        raise URLError('no network')

    monkeypatch.setattr(_api, 'load_state_dict_from_url', refuse)
    monkeypatch.setattr(torch.hub, 'load_state_dict_from_url', refuse)
    monkeypatch.setenv('TORCH_HOME', str(tmp_path))
    return asked


def test_building_raft_needs_no_network(no_download, tiny_generator):
    MODELS.build(tiny_generator(flow_estimator=dict(type='RAFTFlow')))
    assert no_download == []


def test_raft_without_weights_offline_says_what_to_do_in_one_line(no_download, tmp_path):
    with pytest.raises(UserError) as error:
        RAFTFlow()(torch.rand(1, 2, 3, 32, 32))
    message = str(error.value)
    assert '\n' not in message
    (url,) = no_download
    assert url.endswith('raft_large_C_T_V1-22a6c225.pth')
    assert url in message
    assert f'{tmp_path}/hub/checkpoints' in message


@pytest.mark.parametrize('inside_a_network', [False, True])
def test_weights_of_a_checkpoint_are_not_downloaded(no_download, tiny_generator, inside_a_network):
    flow = dict(type='RAFTFlow', num_updates=1)
    if inside_a_network:
        source, target = (MODELS.build(tiny_generator(flow_estimator=flow)) for _ in range(2))
    else:
        source, target = MODELS.build(flow), MODELS.build(flow)
    estimators = [getattr(net, 'flow_estimator', net) for net in (source, target)]
    estimators[0].load_state_dict(raft_large(weights=None).state_dict())
    target.load_state_dict(source.state_dict())
    clip = torch.rand(1, 2, 3, 128, 128)
    estimators[1](clip)
    assert no_download == []
    for name, value in estimators[0].raft.state_dict().items():
        assert torch.equal(value, estimators[1].raft.state_dict()[name])


def test_weights_are_still_wanted_after_a_checkpoint_without_them(no_download, tiny_generator):
    net = MODELS.build(tiny_generator(flow_estimator=dict(type='RAFTFlow')))
    state = {k: v for k, v in net.state_dict().items() if not k.startswith('flow_estimator.')}
    missing, unexpected = net.load_state_dict(state, strict=False)
    assert unexpected == []
    assert all(key.startswith('flow_estimator.') for key in missing)
    with pytest.raises(UserError, match='could not be downloaded'):
        net(torch.rand(1, 2, 3, 32, 32))


def test_weights_that_were_never_loaded_do_not_pass_for_weights(no_download):
    never_used, flow = RAFTFlow(), RAFTFlow()
    flow.load_state_dict(never_used.state_dict(), strict=False)
    with pytest.raises(UserError, match='could not be downloaded'):
        flow(torch.rand(1, 2, 3, 32, 32))


@pytest.fixture(scope='module')
def raft():
    """RAFT with random weights, loaded as a checkpoint's would be."""
    torch.manual_seed(0)
    flow = RAFTFlow(num_updates=2)
    flow.load_state_dict(raft_large(weights=None).state_dict())
    return flow


def test_raft_stays_frozen_in_eval_mode(raft, tiny_generator):
    net = MODELS.build(tiny_generator(flow_estimator=dict(type='RAFTFlow'))).train()
    assert net.training
    assert net.backbone.training
    assert not any(module.training for module in net.flow_estimator.modules())
    assert not any(p.requires_grad for p in net.flow_estimator.parameters())

    before = {name: value.clone() for name, value in raft.state_dict().items()}
    clip = torch.rand(1, 2, 3, 64, 64, requires_grad=True)
    flows = raft.train()(clip)
    assert not any(flow.requires_grad for flow in flows)
    assert all(torch.equal(before[name], value) for name, value in raft.state_dict().items())


@pytest.mark.parametrize('size', [(16, 16), (40, 300), (258, 270)])
def test_raft_pads_small_and_odd_frames(raft, size):
    seen = []
    hook = raft.raft.register_forward_pre_hook(lambda _, args: seen.append(args[0].shape[-2:]))
    flows = raft(torch.rand(1, 2, 3, *size))
    hook.remove()
    for flow in flows:
        assert flow.shape == (1, 1, 2, -(-size[0] // 4), -(-size[1] // 4))
        assert flow.isfinite().all()
    half = [2 * -(-s // 4) for s in size]  # of the frame padded to a multiple of 4
    assert all(tuple(s) == tuple(max(128, -(-h // 8) * 8) for h in half) for s in seen)


@torch.no_grad()
def test_raft_gets_halved_frames_and_its_flow_is_halved(raft):
    clip = torch.rand(1, 2, 3, 256, 272)
    halves = [F.avg_pool2d(frame, 2) * 2 - 1 for frame in clip.unbind(1)]
    for got, pair in zip(raft(clip), (halves[::-1], halves), strict=True):
        flow = raft.raft(*pair, num_flow_updates=2)[-1]
        torch.testing.assert_close(got[:, 0], F.avg_pool2d(flow, 2) / 2, atol=1e-4, rtol=1e-3)


def test_raft_is_float32_under_autocast(raft):
    clip = torch.rand(1, 2, 3, 64, 64)
    exact = raft(clip)
    with torch.autocast('cpu', torch.bfloat16):
        for got, expected in zip(raft(clip), exact, strict=True):
            torch.testing.assert_close(got, expected)


# The three spellings of RAFT's weights, and mmflow's own RAFT.


@pytest.fixture(scope='module')
def official(formula):
    """RAFT's weights under the official names."""
    return formula.raft_state_dict(json.loads((PARITY / 'raft_keys.json').read_text()))


@pytest.fixture(scope='module')
def mmflow_raft():
    return MMFlowEstimator('mmflow::raft/raft_8xb2_100k_flyingthings3d-400x720.py')


def spelled(official, mmflow_raft, spelling):
    if spelling == 'official':
        return official
    if spelling == 'data parallel':
        return {f'module.{name}': value for name, value in official.items()}
    own = to_torchvision(official)
    if spelling == 'torchvision':
        return own
    names = mmflow_raft.model.state_dict()
    return {name: own[mine] for mine, name in to_torchvision({n: n for n in names}).items()}


@pytest.mark.parametrize('spelling', ['torchvision', 'official', 'data parallel', 'mmflow'])
def test_raft_in_every_spelling_equals_the_released_code(official, mmflow_raft, formula, spelling):
    weights = spelled(official, mmflow_raft, spelling)
    assert set(to_torchvision(weights)) == set(raft_large(weights=None).state_dict())
    flow = RAFTFlow()
    flow.load_state_dict(weights, strict=True)
    reference = np.load(PARITY / 'raft.npz')
    forward, backward = flow(formula.raft_frames(int(reference['frames_seed'])))
    for name, got in (('flows_forward', forward), ('flows_backward', backward)):
        assert np.abs(got.numpy()[..., ::2, ::2] - reference[name]).max() < 1e-4


def test_mmflow_raft_agrees(official, mmflow_raft, formula):
    weights = spelled(official, mmflow_raft, 'mmflow')
    mmflow_raft.load_state_dict({f'model.{name}': value for name, value in weights.items()})
    raft = RAFTFlow()
    raft.load_state_dict(official)
    clip = formula.raft_frames(7)[:, :, :, :200, :250]
    for got, expected in zip(mmflow_raft(clip), raft(clip), strict=True):
        torch.testing.assert_close(got, expected, atol=1e-3, rtol=0)


@pytest.mark.parametrize(
    'config',
    ['pwcnet/pwcnet-ft_4xb1_300k_sintel-384x768.py', 'gma/gma_8xb2_120k_flyingchairs-368x496.py'],
)
def test_other_mmflow_models_build_without_weights(config):
    flow = MMFlowEstimator(f'mmflow::{config}')
    assert not flow.has_weights
    with pytest.raises(UserError, match='no weights'):
        flow(torch.rand(1, 2, 3, 64, 64))


def test_mmflow_model_with_low_resolution_output():
    # Of mmflow's convolutional models this one runs without mmcv's CUDA operators.
    flow = MMFlowEstimator('mmflow::flownet/flownets_8xb1_slong_flyingchairs-384x448.py')
    state = {name: torch.rand_like(value) / 100 for name, value in flow.state_dict().items()}
    flow.load_state_dict(state)
    forward, _ = flow(torch.rand(2, 3, 3, 70, 90))
    assert forward.shape == (2, 2, 2, 18, 23) and forward.isfinite().all()


def test_unknown_mmflow_config_is_one_line():
    with pytest.raises(UserError, match='mmflow::raft/none.py: no such mmflow config') as error:
        MMFlowEstimator('mmflow::raft/none.py')
    assert '\n' not in str(error.value)


def test_spynet_equals_mmagic_s(no_download, tmp_path):
    source = SPyNet(pretrained=None)
    path = tmp_path / 'spynet.pth'
    torch.save(source.state_dict(), path)
    clip = torch.rand(1, 2, 3, 128, 192)
    forward, backward = SPyNetFlow(checkpoint=str(path))(clip)
    halves = [F.avg_pool2d(frame, 2) for frame in clip.unbind(1)]
    with torch.no_grad():
        for got, pair in ((forward, halves[::-1]), (backward, halves)):
            expected = F.avg_pool2d(source(*pair), 2) / 2
            # In pixels: six levels double the rounding of sums in another order to 1e-5.
            torch.testing.assert_close(got[:, 0], expected, atol=1e-4, rtol=1e-4)
    assert no_download == []
    with pytest.raises(UserError, match='spynet_20210409'):
        SPyNetFlow()(clip)
