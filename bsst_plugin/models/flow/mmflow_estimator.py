"""Any model of mmflow as flow estimator."""

from typing import Any

import torch
import torch.nn.functional as F
from mmagic.registry import MODELS
from mmengine.config import Config
from mmengine.hub import get_config
from mmengine.model import revert_sync_batchnorm
from mmengine.registry import DefaultScope
from torch import Tensor

from bsst_plugin.errors import UserError
from bsst_plugin.models.flow.base import PretrainedFlowEstimator, read_or_download, without_weights


@MODELS.register_module()
class MMFlowEstimator(PretrainedFlowEstimator):
    """A model of mmflow, frozen.

    Args:
        config: mmflow's config, as ``mmflow::raft/raft_8xb2_100k_flyingthings3d-400x720.py`` or
            as a file.
        checkpoint: See :class:`PretrainedFlowEstimator`; there is no default.
        channel_order: ``'rgb'`` for weights that come from elsewhere, such as the official
            RAFT's; ``'bgr'`` for checkpoints that mmflow trained.
        test_cfg: Replaces settings of the model's ``test_cfg``. RAFT makes 20 updates here, as in
            :class:`RAFTFlow`.
        max_pixels: See :class:`FlowEstimator`.

    Raises:
        UserError: mmflow is not installed or has no such config.
    """

    def __init__(
        self,
        config: str,
        checkpoint: str | None = None,
        channel_order: str = 'rgb',
        test_cfg: dict = dict(iters=20),
        max_pixels: int = 1920 * 1080,
    ) -> None:
        super().__init__(checkpoint, max_pixels)
        if channel_order not in ('rgb', 'bgr'):
            raise UserError(
                f"MMFlowEstimator: channel_order must be 'rgb' or 'bgr', not {channel_order!r}"
            )
        self.channel_order = channel_order
        cfg = _read_config(config)
        model = cfg.model
        model.test_cfg = {**(model.get('test_cfg') or {}), **test_cfg}
        preprocessing = model.get('data_preprocessor') or {}
        self.divisor = _size_divisor(cfg)
        self.mean = torch.tensor(preprocessing.get('mean', [0.0])).view(-1, 1, 1) / 255
        self.std = torch.tensor(preprocessing.get('std', [255.0])).view(-1, 1, 1) / 255
        from mmflow.structures import FlowDataSample

        self._sample = FlowDataSample
        with DefaultScope.overwrite_default_scope('mmflow'):
            built = _mmflow_registry().build(model)
        # Synchronised statistics are for training on several GPUs; they do not run on a CPU.
        self.model = without_weights(revert_sync_batchnorm(built))

    def read_weights(self) -> dict[str, Tensor]:
        """See :meth:`PretrainedFlowEstimator.read_weights`."""
        if self.checkpoint is None:
            raise UserError(
                'MMFlowEstimator has no weights: set its checkpoint to one of mmflow for this '
                'config, or load a checkpoint that holds flow_estimator.*'
            )
        state = read_or_download(self.checkpoint)
        return {f'model.{name}': value for name, value in state.items()}

    def estimate(self, first: Tensor, second: Tensor) -> Tensor:
        """See :meth:`FlowEstimator.estimate`."""
        h, w = first.shape[-2:]
        least = 128  # as RAFT needs
        pad = (0, max(least - w, -w % self.divisor), 0, max(least - h, -h % self.divisor))
        pair = [F.pad(self._normalise(x), pad, mode='replicate') for x in (first, second)]
        metainfo = dict(img_shape=pair[0].shape[-2:], ori_shape=pair[0].shape[-2:])
        flows = []
        for images in torch.cat(pair, dim=1).split(1):  # mmflow 1.0 fills only the first sample
            sample = self._sample(metainfo=metainfo)
            (sample,) = self.model(images, [sample], mode='predict')
            flows.append(sample.pred_flow_fw.data)
        return torch.stack(flows)[..., :h, :w]

    def _normalise(self, frames: Tensor) -> Tensor:
        frames = frames if self.channel_order == 'rgb' else frames.flip(1)
        return (frames - self.mean.to(frames)) / self.std.to(frames)


def _mmflow_registry() -> Any:
    try:
        import mmflow.datasets  # noqa: F401
        import mmflow.models  # noqa: F401
        from mmflow.registry import MODELS as MMFLOW_MODELS
    except ImportError as error:
        raise UserError(
            f'MMFlowEstimator needs mmflow ({error}): pip install "bsst_plugin[flow]"'
        ) from error
    return MMFLOW_MODELS


def _read_config(config: str) -> Config:
    _mmflow_registry()
    try:
        return get_config(config) if '::' in config else Config.fromfile(config)
    except (FileNotFoundError, ValueError) as error:
        raise UserError(
            f'{config}: no such mmflow config; they are listed in the configs folder of mmflow'
        ) from error


def _size_divisor(cfg: Config) -> int:
    """What sizes must be multiples of, as the config's own test pipeline has it."""
    for step in cfg.get('test_pipeline', []):
        if 'exponent' in step:
            return 2 ** int(step['exponent'])
    return 64
