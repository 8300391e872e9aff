"""BSSTNet, the generator: wires the boxes of Figure 2."""

import torch
from mmagic.registry import MODELS
from mmengine.model import BaseModule
from torch import Tensor

Flows = tuple[Tensor, Tensor]


@MODELS.register_module()
class BSSTNet(BaseModule):
    """Blur-aware spatio-temporal sparse transformer network (CVPR 2024).

    Frames are encoded, their motion tells the blur map, features are propagated in both
    directions (backbone), fused, refined by sparse attention (neck) and decoded to a residual.

    Args:
        encoder: Config of the frame encoder.
        flow_estimator: Config of the flow estimator.
        blur_map: Config of the blur map estimator.
        backbone: Config of the propagation, or None to leave it out.
        fusion: Config of the fusion of the backbone's features.
        neck: Config of the transformer, or None to leave it out.
        decoder: Config of the frame decoder.
        flow_refiner: Config of the learned correction of the flows, or None.
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

    @property
    def size_divisor(self) -> tuple[int, int]:
        """Frames are padded to multiples of these."""
        rows, columns = (1, 1) if self.neck is None else self.neck.size_divisor
        return 4 * rows, 4 * columns

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
        if flows is None:
            flows = self.flow_estimator(lqs)
        expected = (n, t - 1, 2, -(-h // 4), -(-w // 4))
        if any(flow.shape != expected for flow in flows):
            raise ValueError(
                f'flows of frames {tuple(lqs.shape)} must be {expected}, not '
                f'{tuple(flows[0].shape)} and {tuple(flows[1].shape)}'
            )
        rows, columns = self.size_divisor
        pad = (-w % columns, -h % rows)
        frames = _pad(lqs, pad[0], pad[1])
        quarter_size = (frames.shape[-2] // 4, frames.shape[-1] // 4)
        flows_forward, flows_backward = (
            _pad(f, quarter_size[1] - f.shape[-1], quarter_size[0] - f.shape[-2]) for f in flows
        )
        residual = self._restore(frames, flows_forward, flows_backward)
        return lqs + residual[..., :h, :w]

    def _restore(self, frames: Tensor, flows_forward: Tensor, flows_backward: Tensor) -> Tensor:
        n, t = frames.shape[:2]
        full, half, quarter = self.encoder(frames.flatten(0, 1))
        blur_map = self.blur_map(flows_forward, flows_backward)  # (n, t, 1, h/4, w/4)
        if self.flow_refiner is not None and t > 1:
            flows_forward, flows_backward = self.flow_refiner(
                blur_map, flows_forward, flows_backward
            )
            blur_map = self.blur_map(flows_forward, flows_backward).detach()
        feature = quarter.unflatten(0, (n, t))  # (n, t, c, h/4, w/4)
        if self.backbone is not None:
            feature = self.backbone(feature, flows_forward, flows_backward, 1 - blur_map)
        feature = self.fusion(feature)
        if self.neck is not None:
            feature = self.neck(feature, blur_map)
        residual = self.decoder(feature.flatten(0, 1), half, full, t)
        return residual.unflatten(0, (n, t))


def _pad(x: Tensor, right: int, bottom: int) -> Tensor:
    """Repeat the last column and row of ``(n, t, c, h, w)``; any size, t = 0 included."""
    if right == bottom == 0:
        return x
    h, w = x.shape[-2:]
    rows = torch.arange(h + bottom, device=x.device).clamp(max=h - 1)
    columns = torch.arange(w + right, device=x.device).clamp(max=w - 1)
    return x[..., rows[:, None], columns]
