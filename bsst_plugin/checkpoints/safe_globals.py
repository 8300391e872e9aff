"""What a checkpoint of MMEngine holds beside tensors."""
import numpy as np
import torch
from mmengine.logging import HistoryBuffer

try:
    from numpy._core.multiarray import _reconstruct
except ImportError:  # numpy < 2
    from numpy.core.multiarray import _reconstruct


def allow_mmengine_checkpoints() -> None:
    """Let ``torch.load(weights_only=True)`` read the log history that MMEngine saves.

    Only these few classes, none of which runs code of the file.
    """
    torch.serialization.add_safe_globals([
        HistoryBuffer, HistoryBuffer.min, HistoryBuffer.max, HistoryBuffer.mean,
        HistoryBuffer.current, np.ndarray, np.dtype, _reconstruct,
        *(type(np.dtype(name)) for name in ('float64', 'float32', 'int64', 'int32')),
    ])
