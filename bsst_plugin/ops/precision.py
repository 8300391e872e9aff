"""Leaving autocast where half precision would be wrong."""

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor


def no_autocast(x: Tensor) -> AbstractContextManager:
    """Context in which operators on the device of ``x`` keep the dtype they are given."""
    kind = x.device.type
    if not torch.amp.is_autocast_available(kind):  # tensors without memory, for counting
        return nullcontext()
    return torch.autocast(kind, enabled=False)
