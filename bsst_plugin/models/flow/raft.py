"""RAFT, the flow estimator of the paper."""

import torch.nn.functional as F
from mmagic.registry import MODELS
from torch import Tensor
from torchvision.models.optical_flow import Raft_Large_Weights, raft_large

from bsst_plugin.checkpoints.raft import to_torchvision
from bsst_plugin.models.flow.base import PretrainedFlowEstimator, read_or_download, without_weights

MIN_SIZE = 128  # smaller inputs leave no pixel in the coarsest level of RAFT's correlation


@MODELS.register_module()
class RAFTFlow(PretrainedFlowEstimator):
    """torchvision's ``raft_large``, frozen, 20 updates.

    Its default weights are torchvision's ``C_T_V1``, which are those of the official
    ``raft-things.pth`` that the paper uses. Weights may be spelled as torchvision, the official
    code or mmflow do.

    Args:
        num_updates: Refinement steps of RAFT.
        checkpoint: See :class:`PretrainedFlowEstimator`.
        max_pixels: See :class:`FlowEstimator`.
    """

    def __init__(
        self, num_updates: int = 20, checkpoint: str | None = None, max_pixels: int = 1920 * 1080
    ) -> None:
        super().__init__(checkpoint, max_pixels)
        self.num_updates = num_updates
        self.raft = without_weights(raft_large(weights=None))
        self.register_load_state_dict_pre_hook(_rename)

    def read_weights(self) -> dict[str, Tensor]:
        """See :meth:`PretrainedFlowEstimator.read_weights`."""
        return read_or_download(self.checkpoint or Raft_Large_Weights.C_T_V1.url)

    def estimate(self, first: Tensor, second: Tensor) -> Tensor:
        """See :meth:`FlowEstimator.estimate`."""
        h, w = first.shape[-2:]
        pad = (0, max(MIN_SIZE - w, -w % 8), 0, max(MIN_SIZE - h, -h % 8))
        first, second = (F.pad(2 * x - 1, pad, mode='replicate') for x in (first, second))
        return self.raft(first, second, num_flow_updates=self.num_updates)[-1][..., :h, :w]


def _rename(module: RAFTFlow, state_dict: dict[str, Tensor], prefix: str, *_: object) -> None:
    """Bring the estimator's weights in a state dict to the names they have here."""
    names = [name for name in state_dict if name.startswith(prefix)]
    own = {name.removeprefix(prefix).removeprefix('raft.'): state_dict.pop(name) for name in names}
    renamed = to_torchvision(own)
    state_dict.update({f'{prefix}raft.{name}': tensor for name, tensor in renamed.items()})
