"""Training in bfloat16 without a GPU."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from mmagic.registry import OPTIM_WRAPPERS
from mmengine.optim import OptimWrapper
from torch import nn


@OPTIM_WRAPPERS.register_module()
class BFloat16OptimWrapper(OptimWrapper):
    """MMEngine's ``OptimWrapper`` with autocast to bfloat16 on a CPU.

    ``AmpOptimWrapper`` needs a GPU. Gradients have the range of those in float32, so that no loss
    is scaled. Takes the same arguments as ``OptimWrapper``.
    """

    @contextmanager
    def optim_context(self, model: nn.Module) -> Iterator[None]:
        """Around the forward pass."""
        with super().optim_context(model), torch.autocast('cpu', torch.bfloat16):
            yield
