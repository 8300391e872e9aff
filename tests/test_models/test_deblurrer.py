import pytest
import torch
from mmagic.registry import MODELS
from mmagic.structures import DataSample
from torchvision.models.optical_flow import raft_large

from bsst_plugin.errors import UserError
from bsst_plugin.inference import Tiling, deblur_clip
from bsst_plugin.models import VideoDeblurrer


@pytest.fixture
def build(tiny_generator):
    def make(**settings):
        torch.manual_seed(0)
        return MODELS.build(
            dict(
                type='VideoDeblurrer',
                generator=tiny_generator(),
                data_preprocessor=dict(
                    type='mmagic.DataPreprocessor', mean=[0.0] * 3, std=[255.0] * 3
                ),
                **settings,
            )
        )

    return make


@pytest.fixture
def batch():
    """Two clips of three frames with values in 0 to 255, as the pipeline packs them."""
    torch.manual_seed(1)
    blurry, sharp = torch.randint(0, 256, (2, 2, 3, 3, 32, 40)).float()
    return dict(inputs=list(blurry), data_samples=[DataSample(gt_img=clip) for clip in sharp])


def losses(model, batch):
    return model(**model.data_preprocessor(batch, True), mode='loss')


def tensors(batch):
    """Blurry and sharp clips in [0, 1]."""
    sharp = torch.stack([sample.gt_img for sample in batch['data_samples']])
    return torch.stack(batch['inputs']) / 255, sharp / 255


def test_loss_is_that_of_the_output(build, batch):
    model = build()
    blurry, sharp = tensors(batch)
    expected = (model.generator(blurry) - sharp).abs().mean()
    out = losses(model, batch)
    assert list(out) == ['loss']
    torch.testing.assert_close(out['loss'], expected)


def test_extra_losses_are_named_and_added(build, batch):
    model = build(
        pixel_loss=dict(type='CharbonnierLoss'),
        extra_losses=dict(
            loss_frequency=dict(type='FrequencyLoss', loss_weight=0.1),
            loss_blur=dict(type='BlurWeightedL1Loss'),
        ),
    )
    out = losses(model, batch)
    assert set(out) == {'loss', 'loss_frequency', 'loss_blur'}
    total, log = model.parse_losses(out)
    torch.testing.assert_close(total, sum(out.values()))


def test_blur_weighted_loss_gets_the_blur_map_of_the_clip(build, batch):
    model = build(extra_losses=dict(loss_blur=dict(type='BlurWeightedL1Loss', gain=3.0)))
    blurry, sharp = tensors(batch)
    calls, estimator = [], model.generator.flow_estimator
    estimator.register_forward_hook(lambda *_: calls.append(1))
    out = losses(model, batch)
    assert len(calls) == 1  # the flows serve the network and the loss
    flows = estimator(blurry)
    blur = model.generator.blur_map(*flows)  # (2, 3, 1, 8, 10)
    blur = torch.nn.functional.interpolate(blur.flatten(0, 1), (32, 40), mode='bilinear')
    weight = (1 + 3 * blur.view(2, 3, 1, 32, 40)).expand(2, 3, 3, 32, 40)
    error = (model.generator(blurry, flows) - sharp).abs()
    torch.testing.assert_close(out['loss_blur'], (error * weight).sum() / weight.sum())
    torch.testing.assert_close(out['loss'], error.mean())


def test_losses_reach_the_network_but_not_the_frozen_flow_estimator(build, batch):
    model = build()
    model.generator.flow_estimator = MODELS.build(dict(type='RAFTFlow', num_updates=1))
    model.generator.flow_estimator.load_state_dict(raft_large(weights=None).state_dict())
    losses(model, batch)['loss'].backward()
    assert all(p.grad is None for p in model.generator.flow_estimator.parameters())
    assert all(p.grad is not None for p in model.generator.encoder.parameters())


def test_predictions_carry_output_and_input(build, batch):
    model = build().eval()
    blurry, sharp = tensors(batch)
    with torch.no_grad():
        expected = model.generator(blurry).clamp(0, 1) * 255
        samples = model.val_step(batch)
    assert len(samples) == 2
    for index, sample in enumerate(samples):
        torch.testing.assert_close(sample.output.pred_img, expected[index], atol=0.51, rtol=0)
        torch.testing.assert_close(sample.output.input, 255 * blurry[index])
        torch.testing.assert_close(sample.gt_img, 255 * sharp[index])
        # Metrics look keys up in the prediction first, then in the sample.
        assert sample.input.shape == (3, 3, 32, 40)


@pytest.mark.parametrize('test_cfg', [None, dict(tile=32, overlap=8)])
def test_one_frame_is_a_clip_of_one(build, test_cfg):
    """MMagic packs it as an image."""
    model = build(test_cfg=test_cfg).eval()
    blurry, sharp = torch.randint(0, 256, (2, 2, 1, 3, 32, 40)).float()

    def batch(*clips):
        inputs, targets = clips
        return dict(inputs=list(inputs), data_samples=[DataSample(gt_img=x) for x in targets])

    images, clips = batch(blurry[:, 0], sharp[:, 0]), batch(blurry, sharp)
    one, same = (model.test_step(each) for each in (images, clips))
    for a, b in zip(one, same, strict=True):
        assert a.output.pred_img.shape == (3, 32, 40)
        assert torch.equal(a.output.pred_img, b.output.pred_img[0])
    found, expected = losses(model.train(), images), losses(model, clips)
    assert found['loss'] == expected['loss']


def test_tensor_mode_is_the_generator(build):
    model = build().eval()
    clip = torch.rand(1, 2, 3, 32, 32)
    with torch.no_grad():
        assert torch.equal(model(clip, mode='tensor'), model.generator(clip))


def test_predictions_in_tiles_are_those_of_the_inference_engine(build, batch):
    model = build(test_cfg=dict(tile=32, overlap=8, merge='smooth')).eval()
    blurry, _ = tensors(batch)
    expected = deblur_clip(model.generator, blurry, tiling=Tiling(32, 8, 'smooth'))
    shapes = []
    model.generator.register_forward_hook(lambda _, inputs, __: shapes.append(inputs[0].shape))
    with torch.no_grad():
        # `tensor` is what MMagicInferencer asks for.
        torch.testing.assert_close(model(blurry, mode='tensor'), expected)
        samples = model.val_step(batch)
    assert shapes == 4 * [(2, 3, 3, 32, 32)]
    for sample, clip in zip(samples, expected, strict=True):
        clip = 255 * clip.clamp(0, 1)
        torch.testing.assert_close(sample.output.pred_img, clip, atol=1e-3, rtol=0)


def test_long_videos_are_cut_in_time(build):
    model = build(test_cfg=dict(tile=32, overlap=8, num_frames=6)).eval()
    video = torch.rand(1, 9, 3, 32, 32)
    with torch.no_grad():
        first, last = (model.generator(clip) for clip in (video[:, :6], video[:, 3:]))
        out = model(video, mode='tensor')
    # Two frames at the inner ends of the clips are dropped; both have nothing else in common.
    torch.testing.assert_close(out[:, :4], first[:, :4])
    torch.testing.assert_close(out[:, 5:], last[:, 2:])


def test_training_sees_whole_frames(build, batch):
    whole, tiled = build(), build(test_cfg=dict(tile=32, overlap=8))
    assert torch.equal(losses(tiled, batch)['loss'], losses(whole, batch)['loss'])
    losses(tiled, batch)['loss'].backward()
    assert all(p.grad is not None for p in tiled.generator.encoder.parameters())


@pytest.mark.parametrize(
    'test_cfg, named',
    [(dict(tiles=64), 'tiles'), (dict(tile=30), 'tile=30'), (dict(num_frames=4), 'num_frames=4')],
)
def test_wrong_test_cfg_is_named(build, test_cfg, named):
    with pytest.raises(UserError, match=named):
        build(test_cfg=test_cfg)


@pytest.mark.parametrize('name', ['loss', 'frequency'])
def test_extra_losses_need_names_that_mmengine_adds_up(tiny_generator, name):
    with pytest.raises(UserError, match=name):
        VideoDeblurrer(tiny_generator(), extra_losses={name: dict(type='FrequencyLoss')})
