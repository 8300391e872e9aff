"""Where half precision is of use, and leaving autocast where it would be wrong."""

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor


def no_autocast(x: Tensor) -> AbstractContextManager:
    """Context in which operators on the device of ``x`` keep the dtype they are given."""
    kind = x.device.type
    if not torch.amp.is_autocast_available(kind):  # tensors without memory, for counting
        return nullcontext()
    return torch.autocast(kind, enabled=False)


def bfloat16_is_fast() -> bool:
    """Whether this CPU has instructions for bfloat16; without them it is far slower than float32.

    On machines whose torch cannot tell, the answer is yes.
    """
    if not torch.backends.mkldnn.is_available():
        return True
    return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
