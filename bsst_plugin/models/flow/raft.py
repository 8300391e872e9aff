"""RAFT, the flow estimator of the paper."""

from urllib.error import URLError

import torch
import torch.nn.functional as F
from mmagic.registry import MODELS
from torch import Tensor
from torchvision.models.optical_flow import Raft_Large_Weights, raft_large

from bsst_plugin.errors import UserError
from bsst_plugin.models.flow.base import FlowEstimator

MIN_SIZE = 128  # smaller inputs leave no pixel in the coarsest level of RAFT's correlation


@MODELS.register_module()
class RAFTFlow(FlowEstimator):
    """torchvision's ``raft_large``, frozen, 20 updates.

    The weights come with the checkpoint; if none were loaded by the first use, torchvision's
    ``C_T_V1`` are taken from its cache or downloaded. Those are the weights of the official
    ``raft-things.pth``, which the paper uses.

    Args:
        num_updates: Refinement steps of RAFT.
        max_pixels: See :class:`FlowEstimator`.
    """

    def __init__(self, num_updates: int = 20, max_pixels: int = 1920 * 1080) -> None:
        super().__init__(max_pixels)
        self.num_updates = num_updates
        self.raft = raft_large(weights=None).requires_grad_(False).eval()
        self.has_weights = False
        self.register_load_state_dict_pre_hook(_note_weights)

    def estimate(self, first: Tensor, second: Tensor) -> Tensor:
        """See :meth:`FlowEstimator.estimate`."""
        self._ensure_weights()
        h, w = first.shape[-2:]
        pad = (0, max(MIN_SIZE - w, -w % 8), 0, max(MIN_SIZE - h, -h % 8))
        first, second = (F.pad(2 * x - 1, pad, mode='replicate') for x in (first, second))
        return self.raft(first, second, num_flow_updates=self.num_updates)[-1][..., :h, :w]

    def _ensure_weights(self) -> None:
        if self.has_weights:
            return
        weights = Raft_Large_Weights.C_T_V1
        try:
            state = weights.get_state_dict(progress=True, check_hash=True)
        except (URLError, OSError) as error:
            cache = f'{torch.hub.get_dir()}/checkpoints/{weights.url.rsplit("/", 1)[-1]}'
            raise UserError(
                f'RAFT has no weights and they could not be downloaded ({error}): put '
                f'{weights.url} at {cache}, or load a checkpoint that holds flow_estimator.*'
            ) from error
        self.raft.load_state_dict(state)
        self.has_weights = True


def _note_weights(module: RAFTFlow, state_dict: dict[str, Tensor], prefix: str, *_: object) -> None:
    """Remember that the checkpoint being loaded brings flow weights."""
    module.has_weights |= any(key.startswith(prefix) for key in state_dict)
