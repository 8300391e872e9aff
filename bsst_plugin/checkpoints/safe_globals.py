"""What a checkpoint of MMEngine holds beside tensors."""

from typing import Any

import numpy as np
import torch
from mmengine.logging import HistoryBuffer


def allow_mmengine_checkpoints() -> None:
    """Let ``torch.load(weights_only=True)`` read the log history that MMEngine saves.

    Only these few classes, none of which runs code of the file.
    """
    reconstruct: Any = np.empty(0).__reduce__()[0]  # its module has another name in numpy 2
    torch.serialization.add_safe_globals(
        [
            HistoryBuffer,
            HistoryBuffer.min,
            HistoryBuffer.max,
            HistoryBuffer.mean,
            HistoryBuffer.current,
            np.ndarray,
            np.dtype,
            reconstruct,
            *(type(np.dtype(name)) for name in ('float64', 'float32', 'int64', 'int32')),
        ]
    )
