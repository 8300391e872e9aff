"""The editing model around a generator: losses in training, predictions in evaluation."""

from typing import Any

from mmagic.models import BaseEditModel
from mmagic.registry import MODELS
from mmagic.structures import DataSample
from torch import Tensor, nn

from bsst_plugin.errors import UserError
from bsst_plugin.inference import MARGIN, Tiling, deblur_clips


@MODELS.register_module()
class VideoDeblurrer(BaseEditModel):
    """Deblur clips with a generator that maps ``(n, t, 3, h, w)`` to the same shape.

    Predictions carry the blurry ``input`` beside ``pred_img``, so that metrics can tell what there
    was to gain.

    Args:
        generator: Config of the generator, for instance ``BSSTNet``.
        pixel_loss: Config of the main loss.
        extra_losses: Configs of further losses by name; they are added to the main one. The names
            hold ``loss``, which is how MMEngine knows them.
        train_cfg: As in ``BaseEditModel``.
        test_cfg: How evaluation and inference bound their memory: ``tile``, ``overlap`` and
            ``merge`` of :class:`Tiling`, and ``num_frames``, the longest clip that the network is
            given at a time. None gives it whole frames and whole clips.
        init_cfg: As in ``BaseEditModel``.
        data_preprocessor: As in ``BaseEditModel``; it brings frames to [0, 1].

    Raises:
        UserError: ``extra_losses`` or ``test_cfg`` has a name or a setting that does not fit.
    """

    def __init__(
        self,
        generator: dict,
        pixel_loss: dict = dict(type='L1Loss'),
        extra_losses: dict[str, dict] | None = None,
        train_cfg: dict | None = None,
        test_cfg: dict | None = None,
        init_cfg: dict | None = None,
        data_preprocessor: dict | None = None,
    ) -> None:
        super().__init__(generator, pixel_loss, train_cfg, test_cfg, init_cfg, data_preprocessor)
        for name in extra_losses or {}:
            if 'loss' not in name or name == 'loss':
                raise UserError(f"extra_losses: call {name!r} something like 'loss_frequency'")
        self.extra_losses = nn.ModuleDict(
            {name: MODELS.build(loss) for name, loss in (extra_losses or {}).items()}
        )
        self.num_frames: int | None = None
        self.tiling: Tiling | None = None
        if test_cfg is not None:
            self._bound_memory(**test_cfg)

    def _bound_memory(self, num_frames: int | None = None, **tiling: Any) -> None:
        if num_frames is not None and num_frames <= 2 * MARGIN:
            raise UserError(f'test_cfg: num_frames={num_frames} must be more than {2 * MARGIN}')
        try:
            self.num_frames, self.tiling = num_frames, Tiling(**tiling)
        except TypeError as error:
            raise UserError(
                f'test_cfg: {sorted(tiling)} must be among tile, overlap, merge and num_frames'
            ) from error

    def forward_tensor(
        self, inputs: Tensor, data_samples: DataSample | None = None, **kwargs: Any
    ) -> Tensor:
        """Output of the generator; outside of training in tiles and clips, see ``test_cfg``.

        Args:
            inputs: ``(n, t, 3, h, w)``, blurry frames in [0, 1], or ``(n, 3, h, w)``, which is how
                MMagic packs clips of one frame.
            data_samples: Not used.
            **kwargs: ``flows``, if the generator takes them and they are at hand.

        Returns:
            Same shape.
        """
        if inputs.dim() == 4:
            return self.forward_tensor(inputs[:, None], data_samples, **kwargs)[:, 0]
        if self.tiling is None or self.training:
            return self.generator(inputs, **kwargs)
        return deblur_clips(
            self.generator, inputs, tiling=self.tiling, num_frames=self.num_frames, **kwargs
        )

    def forward_train(
        self, inputs: Tensor, data_samples: DataSample, **kwargs: Any
    ) -> dict[str, Tensor]:
        """Losses of a batch.

        Args:
            inputs: As for :meth:`forward_tensor`.
            data_samples: Stacked samples with the sharp frames ``gt_img``.
            **kwargs: Passed to the generator.

        Returns:
            The losses by name; MMEngine sums those whose name holds ``loss``.
        """
        target = data_samples.gt_img
        if inputs.dim() == 4:
            inputs, target = inputs[:, None], target[:, None]
        losses = {'loss': self.pixel_loss, **self.extra_losses}
        if any(getattr(loss, 'uses_blur_map', False) for loss in losses.values()):
            kwargs['flows'] = self.generator.flow_estimator(inputs)
            blur_map = self.generator.blur_map(*kwargs['flows'])
        pred = self.generator(inputs, **kwargs)
        out = {}
        for name, loss in losses.items():
            extra = (blur_map,) if getattr(loss, 'uses_blur_map', False) else ()
            out[name] = loss(pred, target, *extra)
        return out

    def forward_inference(
        self, inputs: Tensor, data_samples: DataSample, **kwargs: Any
    ) -> DataSample:
        """Predictions of a batch.

        Args:
            inputs: As for :meth:`forward_tensor`.
            data_samples: Stacked samples.
            **kwargs: Passed to the generator.

        Returns:
            Stacked predictions ``pred_img`` and ``input``, of the shape of ``inputs``, in [0, 255].
        """
        pred = self.forward_tensor(inputs, data_samples, **kwargs)
        destruct = self.data_preprocessor.destruct
        return DataSample(
            pred_img=destruct(pred, data_samples).cpu(),
            input=destruct(inputs, data_samples, 'img').cpu(),
            metainfo=data_samples.metainfo,
        )
