import numpy as np
import pytest
import torch
from mmagic.registry import MODELS

from bsst_plugin.models.losses import BlurWeightedL1Loss, FrameRMSELoss, FrequencyLoss


@pytest.mark.parametrize('size', [(8, 8), (7, 10), (1, 5)])
def test_frequency_loss_is_l1_between_spectra(size):
    pred, target = torch.rand(1, 2, 3, *size), torch.rand(1, 2, 3, *size)
    spectra = [np.fft.rfft2(x.numpy().astype(float), norm='ortho') for x in (pred, target)]
    difference = spectra[0] - spectra[1]
    expected = (np.abs(difference.real).mean() + np.abs(difference.imag).mean()) / 2
    assert FrequencyLoss(0.3)(pred, target).item() == pytest.approx(0.3 * expected, rel=1e-4)


def test_frequency_loss_takes_half_precision():
    pred = torch.rand(1, 2, 3, 6, 10).half()
    assert FrequencyLoss()(pred, pred + 0.5).isfinite()


def test_blur_weighted_loss_is_the_weighted_mean():
    pred, target, blur = (
        torch.rand(2, 3, 3, 4, 6),
        torch.rand(2, 3, 3, 4, 6),
        torch.rand(2, 3, 4, 6),
    )
    above = below = 0.0
    for b, t, c, i, j in np.ndindex(*pred.shape):
        weight = 1 + 2.5 * blur[b, t, i, j].item()
        above += weight * abs(pred[b, t, c, i, j].item() - target[b, t, c, i, j].item())
        below += weight
    loss = BlurWeightedL1Loss(gain=2.5, loss_weight=0.4)(pred, target, blur[:, :, None])
    assert loss.item() == pytest.approx(0.4 * above / below, rel=1e-5)


def test_blur_map_of_another_size_is_resized():
    pred, target = torch.rand(1, 2, 3, 8, 8), torch.zeros(1, 2, 3, 8, 8)
    blur = torch.zeros(1, 2, 1, 2, 2)
    blur[0, 1] = 1
    large = torch.zeros(1, 2, 1, 8, 8)
    large[0, 1] = 1
    loss = BlurWeightedL1Loss()
    assert loss(pred, target, blur).item() == pytest.approx(loss(pred, target, large).item())


def test_without_blur_it_is_l1():
    pred, target = torch.rand(1, 2, 3, 8, 8), torch.rand(1, 2, 3, 8, 8)
    loss = BlurWeightedL1Loss()(pred, target, torch.zeros(1, 2, 1, 2, 2))
    assert loss.item() == pytest.approx((pred - target).abs().mean().item(), rel=1e-5)


@pytest.mark.parametrize('kind', ['FrequencyLoss', 'BlurWeightedL1Loss', 'FrameRMSELoss'])
def test_losses_are_registered_and_pass_gradients(kind):
    loss = MODELS.build(dict(type=kind))
    pred = torch.rand(1, 2, 3, 8, 8, requires_grad=True)
    extra = (torch.rand(1, 2, 1, 2, 2),) if getattr(loss, 'uses_blur_map', False) else ()
    loss(pred, torch.rand(1, 2, 3, 8, 8), *extra).backward()
    assert (pred.grad != 0).any()


def test_frame_rmse_is_the_mean_over_frames():
    pred, target = torch.rand(2, 3, 3, 4, 6), torch.rand(2, 3, 3, 4, 6)
    errors = []
    for b, t in np.ndindex(2, 3):
        mse = ((pred[b, t] - target[b, t]).double() ** 2).mean().item()
        errors.append((mse + 0.1**2) ** 0.5)
    loss = FrameRMSELoss(loss_weight=0.7, eps=0.1)(pred, target)
    assert loss.item() == pytest.approx(0.7 * np.mean(errors), rel=1e-5)


def test_frame_rmse_of_a_perfect_frame_has_a_gradient():
    pred = torch.rand(1, 1, 3, 4, 4, requires_grad=True)
    FrameRMSELoss()(pred, pred.detach()).backward()
    assert pred.grad.isfinite().all()
