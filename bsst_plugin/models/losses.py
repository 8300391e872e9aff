"""Losses that MMagic does not have; ``L1Loss`` and ``CharbonnierLoss`` are MMagic's."""

import torch
import torch.nn.functional as F
from mmagic.registry import MODELS
from torch import Tensor, nn


@MODELS.register_module()
class FrequencyLoss(nn.Module):
    """L1 distance between the 2-D Fourier transforms of prediction and target.

    Args:
        loss_weight: Factor of the loss.
    """

    def __init__(self, loss_weight: float = 1.0) -> None:
        super().__init__()
        self.loss_weight = loss_weight

    def forward(self, pred: Tensor, target: Tensor) -> Tensor:
        """Mean absolute difference of the complex spectra.

        Args:
            pred: ``(..., h, w)``.
            target: Same shape.

        Returns:
            Scalar.
        """
        # FFTs have no half precision for sizes that are not powers of two.
        spectrum = torch.fft.rfft2(pred.float() - target.float(), norm='ortho')
        return self.loss_weight * torch.view_as_real(spectrum).abs().mean()


@MODELS.register_module()
class BlurWeightedL1Loss(nn.Module):
    """L1 loss that counts blurry pixels more: weight ``1 + gain * B``, B the blur map.

    Args:
        gain: How much more a pixel of blur 1 counts than one of blur 0.
        loss_weight: Factor of the loss.
    """

    uses_blur_map = True

    def __init__(self, gain: float = 1.0, loss_weight: float = 1.0) -> None:
        super().__init__()
        self.gain, self.loss_weight = gain, loss_weight

    def forward(self, pred: Tensor, target: Tensor, blur_map: Tensor) -> Tensor:
        """Weighted mean of the absolute differences; the weights sum to one.

        Args:
            pred: ``(n, t, 3, h, w)``.
            target: Same shape.
            blur_map: ``(n, t, 1, h', w')`` in [0, 1], of any size.

        Returns:
            Scalar.
        """
        blur = F.interpolate(blur_map.flatten(0, 1), pred.shape[-2:], mode='bilinear').view_as(
            pred[:, :, :1]
        )
        weight = (1 + self.gain * blur).expand_as(pred)
        return self.loss_weight * ((pred - target).abs() * weight).sum() / weight.sum()


@MODELS.register_module()
class FrameRMSELoss(nn.Module):
    """Root mean square error of each frame, averaged over frames.

    A clip mixes sharp frames, where a small change costs many dB, with blurry ones, whose errors
    are ten times larger. The mean square forgets the former, its logarithm (PSNR) learns the
    latter slowly; this is between the two.

    Args:
        loss_weight: Factor of the loss.
        eps: Smallest error that counts, in the frames' units: bounds the gradient.
    """

    def __init__(self, loss_weight: float = 1.0, eps: float = 3e-3) -> None:
        super().__init__()
        self.loss_weight, self.eps = loss_weight, eps

    def forward(self, pred: Tensor, target: Tensor) -> Tensor:
        """Mean over frames of ``sqrt(MSE + eps ** 2)``.

        Args:
            pred: ``(..., 3, h, w)``.
            target: Same shape.

        Returns:
            Scalar.
        """
        mse = (pred - target).float().square().mean((-3, -2, -1))
        return self.loss_weight * (mse + self.eps**2).sqrt().mean()
