"""Networks and losses for images, applied to clips."""

import torch
from mmagic.registry import MODELS
from mmengine.model import BaseModule
from torch import Tensor, nn


@MODELS.register_module()
class FrameByFrame(BaseModule):
    """A network for single images on each frame of a clip.

    Args:
        generator: Config of the network, for instance MMagic's ``NAFNet``.
    """

    def __init__(self, generator: dict) -> None:
        super().__init__()
        self.generator = MODELS.build(generator)

    def forward(self, lqs: Tensor) -> Tensor:
        """Restore the frames of a batch, all at once only where their gradients are wanted.

        Args:
            lqs: ``(n, t, 3, h, w)``, frames in [0, 1], or ``(n, 3, h, w)``, which is how MMagic
                packs clips of one frame.

        Returns:
            Same shape.
        """
        frames = lqs.flatten(0, -4)
        size = len(frames) if torch.is_grad_enabled() else 1
        out = torch.cat([self.generator(part) for part in frames.split(size)])
        return out.reshape(lqs.shape)


@MODELS.register_module()
class FrameByFrameLoss(nn.Module):
    """A loss for batches of images on the frames of clips.

    Args:
        loss: Config of the loss, for instance MMagic's ``PSNRLoss``.
    """

    def __init__(self, loss: dict) -> None:
        super().__init__()
        self.loss = MODELS.build(loss)

    def forward(self, pred: Tensor, target: Tensor) -> Tensor:
        """Loss of a batch of clips.

        Args:
            pred: ``(n, t, 3, h, w)`` or ``(n, 3, h, w)``.
            target: Same shape.

        Returns:
            Scalar.
        """
        return self.loss(pred.flatten(0, -4), target.flatten(0, -4))
