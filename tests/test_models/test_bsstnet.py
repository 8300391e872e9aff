import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mmagic.registry import MODELS

PATHS = [
    dict(),
    dict(
        blur_map=dict(type='BlurMapEstimator', reduction='mean'),
        flow_refiner=dict(type='FlowRefiner'),
    ),
]


@pytest.fixture(scope='module', params=PATHS, ids=['paper', 'refined flows'])
def net(request, tiny_generator, randomise):
    net = randomise(MODELS.build(tiny_generator(**copy.deepcopy(request.param)))).eval()
    if net.flow_refiner is not None:
        for parameter in net.flow_refiner.decode[-1].parameters():
            parameter.data *= 0.01  # random flows of some pixels
    return net


def make_flows(n, t, h, w, seed=0):
    """Motion in one corner of the frame, so that some windows are blurry and some are not."""
    generator = torch.Generator().manual_seed(seed)
    h, w = -(-h // 4), -(-w // 4)
    flows = 3 * torch.randn(2, n, t - 1, 2, 1, 1, generator=generator)
    flows = flows + 0.1 * torch.randn(2, n, t - 1, 2, h, w, generator=generator)
    flows[..., h // 2 :, :] *= 0.05
    flows[..., w // 2 :] *= 0.05
    return flows[0], flows[1]


@pytest.mark.parametrize('t', [1, 2, 3, 5])
@pytest.mark.parametrize('size', [(16, 16), (50, 70), (70, 34)], ids=str)
@torch.no_grad()
def test_any_length_and_size(net, t, size):
    lqs = torch.rand(1, t, 3, *size)
    out = net(lqs)
    assert out.shape == lqs.shape
    assert out.isfinite().all()
    assert not torch.equal(out, lqs)


@settings(max_examples=12, deadline=None)
@given(n=st.integers(1, 2), t=st.integers(1, 4), h=st.integers(16, 40), w=st.integers(16, 40))
def test_output_has_the_shape_of_the_input(tiny_generator, n, t, h, w):
    net = MODELS.build(tiny_generator())
    lqs = torch.rand(n, t, 3, h, w)
    with torch.no_grad():
        out = net(lqs)
    assert out.shape == lqs.shape
    assert out.isfinite().all()


def assert_equal_up_to_rounding(got, expected):
    """The random networks amplify: a tenth of a percent of the output's scale."""
    assert (got - expected).abs().max() < 1e-3 * expected.abs().max()


@pytest.mark.parametrize('t', [1, 2, 5])
@torch.no_grad()
def test_batch_of_two_equals_two_batches_of_one(net, t):
    lqs = torch.rand(2, t, 3, 50, 40)
    flows = make_flows(2, t, 50, 40)
    flows[0][1] *= 5  # clips of different speed are normalised alone
    flows[1][1] = flows[1][1].flip(2, 3)
    together = net(lqs, flows)
    for clip in range(2):
        part = slice(clip, clip + 1)
        alone = net(lqs[part], tuple(f[part] for f in flows))
        assert_equal_up_to_rounding(together[part], alone)


@pytest.mark.parametrize('t', [2, 5])
@torch.no_grad()
def test_flows_are_those_of_the_estimator(net, moving_clip, t):
    lqs = moving_clip(t, 50, 70, (4, 2))
    assert torch.equal(net(lqs), net(lqs, net.flow_estimator(lqs)))
    other = make_flows(1, t, 50, 70)
    assert not torch.allclose(net(lqs), net(lqs, other))


@pytest.mark.parametrize('t', [1, 2, 5])
@torch.no_grad()
def test_static_clip_gives_no_nan(net, t):
    lqs = torch.rand(1, 1, 3, 40, 40).expand(1, t, 3, 40, 40)
    still = torch.zeros(1, t - 1, 2, 10, 10)
    assert net(lqs, (still, still)).isfinite().all()
    assert net(torch.full((1, t, 3, 40, 40), 0.5)).isfinite().all()


@torch.no_grad()
def test_padding_repeats_the_border(tiny_generator, randomise):
    """What a clip of another size gives is what the clip padded by hand gives."""
    net = randomise(MODELS.build(tiny_generator()))
    lqs, flows = torch.rand(1, 3, 3, 50, 70), make_flows(1, 3, 50, 70)
    padded = torch.nn.functional.pad(lqs[0], (0, 26, 0, 14), mode='replicate')[None]
    wide = [torch.nn.functional.pad(f[0], (0, 6, 0, 3), mode='replicate')[None] for f in flows]
    assert padded.shape[-2:] == (64, 96)
    expected = net(padded, tuple(wide))[..., :50, :70]
    assert_equal_up_to_rounding(net(lqs, flows), expected)


def test_gradients_reach_every_parameter(net):
    net = copy.deepcopy(net).train()
    lqs, flows = torch.rand(1, 5, 3, 64, 64), make_flows(1, 5, 64, 64)
    selected = []
    hooks = [
        block.register_forward_pre_hook(lambda _, args: selected.append(len(args[1].places)))
        for block in net.neck.blocks
    ]
    (net(lqs, flows) - torch.rand_like(lqs)).abs().mean().backward()
    for hook in hooks:
        hook.remove()
    assert all(0 < places < 4 for places in selected)  # of 2 x 2: both paths of attention
    without = [
        name
        for name, parameter in net.named_parameters()
        if not name.startswith('flow_estimator.')
        and (parameter.grad is None or not parameter.grad.abs().sum() > 0)
    ]
    assert without == []
    assert all(p.grad.isfinite().all() for p in net.parameters() if p.grad is not None)


@pytest.mark.parametrize('size', [(15, 32), (32, 8)])
def test_too_small_frames_are_refused(tiny_generator, size):
    with pytest.raises(ValueError, match=f'16 x 16.*{size[0]} x {size[1]}'):
        MODELS.build(tiny_generator())(torch.rand(1, 2, 3, *size))


@pytest.mark.parametrize(
    'shape', [(1, 3, 2, 8, 10), (1, 2, 2, 32, 40), (1, 2, 2, 10, 8), (2, 2, 2, 8, 10)], ids=str
)
def test_flows_that_do_not_fit_are_refused(tiny_generator, shape):
    net = MODELS.build(tiny_generator())
    right, wrong = torch.zeros(1, 2, 2, 8, 10), torch.zeros(shape)
    for flows in ((wrong, wrong), (right, wrong)):
        with pytest.raises(ValueError, match='flows') as error:
            net(torch.rand(1, 3, 3, 32, 40), flows)
        assert str((1, 2, 2, 8, 10)) in str(error.value)
        assert str(shape) in str(error.value)


@pytest.mark.parametrize('backbone', [True, False])
@pytest.mark.parametrize('neck', [True, False])
@pytest.mark.parametrize('refiner', [True, False])
@torch.no_grad()
def test_backbone_and_neck_can_be_left_out(tiny_generator, backbone, neck, refiner):
    config = tiny_generator()
    if not backbone:
        config['backbone'] = None
        config['fusion']['in_channels'] = 8
    if not neck:
        config['neck'] = None
    if refiner:
        config['flow_refiner'] = dict(type='FlowRefiner')
    net = MODELS.build(config)
    lqs = torch.rand(1, 3, 3, 21, 35)
    assert net(lqs).shape == lqs.shape


@torch.no_grad()
def test_bfloat16_autocast_stays_near_float32(tiny_generator):
    torch.manual_seed(0)
    net = MODELS.build(tiny_generator())
    lqs, flows = torch.rand(1, 4, 3, 64, 64), make_flows(1, 4, 64, 64)
    exact = net(lqs, flows)
    with torch.autocast('cpu', torch.bfloat16):
        out = net(lqs, flows)
    psnr = -10 * torch.log10((out.float() - exact).square().mean())
    assert psnr > 45


@pytest.mark.parametrize('parts', PATHS, ids=['paper', 'refined flows'])
def test_recomputed_activations_give_the_same_gradients(tiny_generator, randomise, parts):
    lqs, flows = torch.rand(2, 3, 3, 32, 48), make_flows(2, 3, 32, 48)
    gradients, kept = {}, {}
    for with_cp in (False, True):
        net = randomise(MODELS.build(tiny_generator(**copy.deepcopy(parts), with_cp=with_cp)))
        sizes = {}  # by storage: of many views of a tensor one is kept
        with torch.autograd.graph.saved_tensors_hooks(
            lambda x, sizes=sizes: (sizes.update({x.untyped_storage().data_ptr(): x.nbytes}), x)[1],
            lambda x: x,
        ):
            out = net(lqs, flows)
        out.square().mean().backward()
        gradients[with_cp] = {name: p.grad for name, p in net.named_parameters()}
        kept[with_cp] = sum(sizes.values())
    assert kept[True] < 0.6 * kept[False]
    assert gradients[True].keys() == gradients[False].keys()
    for name, gradient in gradients[False].items():
        assert torch.equal(gradients[True][name], gradient), name


def test_copy_of_a_network_that_recomputes(tiny_generator, randomise):
    net = randomise(MODELS.build(tiny_generator(with_cp=True)))
    twin = copy.deepcopy(net)  # as an average of the weights is made
    lqs, flows = torch.rand(1, 2, 3, 16, 16), make_flows(1, 2, 16, 16)
    with torch.no_grad():
        before = twin(lqs, flows)
        for parameter in net.parameters():
            parameter.zero_()
        assert torch.equal(twin(lqs, flows), before)
        assert not torch.equal(net(lqs, flows), before)
