"""What a checkpoint of MMEngine holds beside tensors."""

from typing import Any

import numpy as np
import torch
from mmengine.logging import HistoryBuffer


def allow_mmengine_checkpoints() -> None:
    """Let ``torch.load(weights_only=True)`` read the log history that MMEngine saves.

    Only these few classes, none of which runs code of the file.
    """
    # The module of these two has another name in numpy 2.
    reconstruct: Any = np.empty(0).__reduce__()[0]
    scalar: Any = np.float64(0).__reduce__()[0]
    dtypes = [type(np.dtype(name)) for name in ('float64', 'float32', 'int64', 'int32')]
    torch.serialization.add_safe_globals(
        [
            HistoryBuffer,
            np.ndarray,
            np.dtype,
            reconstruct,
            scalar,
            # Pickle reaches the buffer's methods through getattr, which itself is not safe.
            (_history_method, 'builtins.getattr'),
            *dtypes,
        ]
    )


def _history_method(owner: type, name: str) -> Any:
    """``getattr`` for the methods of a history buffer and for nothing else."""
    if owner is not HistoryBuffer or name not in ('min', 'max', 'mean', 'current'):
        raise ValueError(f'a checkpoint may not use attribute {name} of {owner}')
    return getattr(owner, name)
