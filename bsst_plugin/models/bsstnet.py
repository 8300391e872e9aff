"""BSSTNet, the generator: wires the boxes of Figure 2."""

from functools import partial

import torch
from mmagic.registry import MODELS
from mmengine.model import BaseModule
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from bsst_plugin.models.bsst import BSSTBlock
from bsst_plugin.models.fusion import SwinBlock
from bsst_plugin.models.layers import CAB, GatedCAB, GuidedDeformConv
from bsst_plugin.models.scale_mixture import smaller_residuals

Flows = tuple[Tensor, Tensor]
#: Blocks whose activations can be computed twice: small ones, so that few are held at a time.
RECOMPUTED = (CAB, GatedCAB, GuidedDeformConv, SwinBlock, BSSTBlock)


@MODELS.register_module()
class BSSTNet(BaseModule):
    """Blur-aware spatio-temporal sparse transformer network (CVPR 2024).

    Frames are encoded, their motion tells the blur map, features are propagated in both
    directions (backbone), fused, refined by sparse attention (neck) and decoded to a residual.

    Args:
        encoder: Config of the frame encoder; one with ``uses_flows`` gets the flows beside the
            frames.
        flow_estimator: Config of the flow estimator.
        blur_map: Config of the blur map estimator.
        backbone: Config of the propagation, or None to leave it out.
        fusion: Config of the fusion of the backbone's features.
        neck: Config of the transformer, or None to leave it out.
        decoder: Config of the frame decoder.
        flow_refiner: Config of the learned correction of the flows, or None.
        scales: Config of the mixture with what the network makes of smaller frames without backbone
            and neck, or None.
        mid_exposure: Config of what moves the result to the middle of the exposure, or None.
        with_cp: Whether to train with activation checkpointing: only the inputs of blocks are
            kept, what is inside is computed again on the way back. Takes longer and much less
            memory; the gradients are the same.
    """

    def __init__(
        self,
        encoder: dict = dict(type='FrameEncoder'),
        flow_estimator: dict = dict(type='RAFTFlow'),
        blur_map: dict = dict(type='BlurMapEstimator'),
        backbone: dict | None = dict(type='BBFP'),
        fusion: dict = dict(type='SwinFusion'),
        neck: dict | None = dict(type='BSST'),
        decoder: dict = dict(type='FrameDecoder'),
        flow_refiner: dict | None = None,
        scales: dict | None = None,
        mid_exposure: dict | None = None,
        with_cp: bool = False,
    ) -> None:
        super().__init__()
        self.encoder = MODELS.build(encoder)
        self.flow_estimator = MODELS.build(flow_estimator)
        self.blur_map = MODELS.build(blur_map)
        self.flow_refiner = None if flow_refiner is None else MODELS.build(flow_refiner)
        self.backbone = None if backbone is None else MODELS.build(backbone)
        self.fusion = MODELS.build(fusion)
        self.neck = None if neck is None else MODELS.build(neck)
        self.decoder = MODELS.build(decoder)
        self.scales = None if scales is None else MODELS.build(scales)
        self.mid_exposure = None if mid_exposure is None else MODELS.build(mid_exposure)
        if with_cp:
            for module in self.modules():
                if isinstance(module, RECOMPUTED):
                    # Reentrant checkpoints would lose gradients, and break distributed training.
                    recomputed = partial(checkpoint, module.forward, use_reentrant=False)
                    module.forward = recomputed  # type: ignore[method-assign]

    def forward(self, lqs: Tensor, flows: Flows | None = None) -> Tensor:
        """Deblur the clips of a batch.

        Args:
            lqs: ``(n, t, 3, h, w)``, blurry frames in [0, 1]; any n, t >= 1 and h, w >= 16.
            flows: ``flows_forward`` and ``flows_backward``, each ``(n, t-1, 2, ceil(h/4),
                ceil(w/4))`` in quarter-resolution pixels, or None to estimate them.

        Returns:
            ``(n, t, 3, h, w)``, sharp frames.

        Raises:
            ValueError: The frames are smaller than 16 x 16, or the flows do not fit them.
        """
        n, t, _, h, w = lqs.shape
        if min(h, w) < 16:
            raise ValueError(f'frames must be at least 16 x 16 pixels, these are {h} x {w}')
        padded, residual, encoded, flows = self.residual(lqs, flows)
        frames = padded.flatten(0, 1)
        if self.scales is not None:
            smaller = smaller_residuals(padded, self.residual_alone)
            residual = self.scales(frames, residual, encoded, *smaller)
        if self.mid_exposure is not None:
            residual = self.mid_exposure(frames, residual, encoded, flows)
        return lqs + residual.unflatten(0, (n, t))[..., :h, :w]

    def residual(
        self, lqs: Tensor, flows: Flows | None = None, refined: bool = True
    ) -> tuple[Tensor, Tensor, Tensor, Flows]:
        """What is added to frames, before scales are mixed.

        Args:
            lqs: See :meth:`forward`.
            flows: See :meth:`forward`.
            refined: Whether other frames tell something, see :meth:`refine`.

        Returns:
            The frames, padded, ``(n, t, 3, h', w')``; what is added to those, ``(n*t, 3, h', w')``;
            the features of the encoder, ``(n*t, c, h'/4, w'/4)``; and the flows, ``(n, t-1, 2,
            h'/4, w'/4)``.
        """
        n, t, _, h, w = lqs.shape
        flows_forward, flows_backward, blur_map = self.motion(lqs, flows)
        padded = _pad(lqs, *self._padded_size(h, w))
        frames = padded.flatten(0, 1).contiguous(memory_format=torch.channels_last)
        uses_flows = getattr(self.encoder, 'uses_flows', False)
        seen = (flows_forward, flows_backward) if uses_flows else ()
        *skips, encoded = self.encoder(frames, *seen)
        if refined:
            features = encoded.unflatten(0, (n, t))  # (n, t, c, h/4, w/4)
            feature = self.refine(features, flows_forward, flows_backward, blur_map).flatten(0, 1)
        else:
            feature = torch.zeros_like(encoded)
        return padded, self.decoder(feature, skips, t), encoded, (flows_forward, flows_backward)

    def residual_alone(self, lqs: Tensor) -> Tensor:
        """What is added to frames ``(n, t, 3, h, w)`` without ``refine``: ``(n*t, 3, h, w)``."""
        h, w = lqs.shape[-2:]
        return self.residual(lqs, refined=False)[1][..., :h, :w]

    def refine(
        self, feature: Tensor, flows_forward: Tensor, flows_backward: Tensor, blur_map: Tensor
    ) -> Tensor:
        """Backbone, fusion and neck: what other frames tell.

        Args:
            feature: ``(n, t, c, h', w')``, what the encoder made of the padded frames.
            flows_forward: See :meth:`motion`, as both others.
            flows_backward: See :meth:`motion`.
            blur_map: See :meth:`motion`.

        Returns:
            ``(n, t, c, h', w')``.
        """
        if self.backbone is not None:
            feature = self.backbone(feature, flows_forward, flows_backward, 1 - blur_map)
        feature = self.fusion(feature)
        return feature if self.neck is None else self.neck(feature, blur_map)

    def motion(self, lqs: Tensor, flows: Flows | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """Flows and blur map as the network uses them.

        Args:
            lqs: ``(n, t, 3, h, w)``, see :meth:`forward`.
            flows: See :meth:`forward`.

        Returns:
            ``flows_forward`` and ``flows_backward``, ``(n, t-1, 2, h', w')``, refined if there
            is a refiner, and the blur map B, ``(n, t, 1, h', w')``; h' and w' are a quarter of the
            padded frame.

        Raises:
            ValueError: The flows do not fit the frames.
        """
        n, t, _, h, w = lqs.shape
        if flows is None:
            flows = self.flow_estimator(lqs)
        expected = (n, t - 1, 2, -(-h // 4), -(-w // 4))
        if any(flow.shape != expected for flow in flows):
            raise ValueError(
                f'flows of frames {tuple(lqs.shape)} must be {expected}, not '
                f'{tuple(flows[0].shape)} and {tuple(flows[1].shape)}'
            )
        rows, columns = self._padded_size(h, w)
        flows_forward, flows_backward = (_pad(f, rows // 4, columns // 4) for f in flows)
        blur_map = self.blur_map(flows_forward, flows_backward)
        if self.flow_refiner is not None and t > 1:
            flows_forward, flows_backward = self.flow_refiner(
                blur_map, flows_forward, flows_backward
            )
            blur_map = self.blur_map(flows_forward, flows_backward).detach()
        return flows_forward, flows_backward, blur_map

    def _padded_size(self, h: int, w: int) -> tuple[int, int]:
        """Frames are padded to whole windows; without a neck, to what a refiner can halve."""
        rows, columns = (4, 4) if self.neck is None else self.neck.size_divisor
        return h + -h % (4 * rows), w + -w % (4 * columns)


def _pad(x: Tensor, rows: int, columns: int) -> Tensor:
    """Repeat the last row and column of ``(n, t, c, h, w)`` up to a size; t = 0 included."""
    h, w = x.shape[-2:]
    if (h, w) == (rows, columns):
        return x
    row = torch.arange(rows, device=x.device).clamp(max=h - 1)
    column = torch.arange(columns, device=x.device).clamp(max=w - 1)
    return x[..., row[:, None], column]
