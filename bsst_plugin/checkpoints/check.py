"""Say what is wrong with a checkpoint before it is used."""

from pathlib import Path
from typing import Any

import torch
from mmengine.model import is_model_wrapper
from torch import Tensor, nn

from bsst_plugin.errors import UserError


def read_state_dict(path: str | Path) -> dict[str, Tensor]:
    """Tensors of a checkpoint of MMEngine or BasicSR, or of a bare state dict.

    Args:
        path: The file.

    Returns:
        The tensors by name, without the prefix ``module.`` of data-parallel training.

    Raises:
        UserError: There is no such file, or it is not a checkpoint.
    """
    if not Path(path).is_file():
        raise UserError(f'{path}: no such checkpoint')
    way_out = 'give a checkpoint that tools/train.py wrote or a model converter made'
    try:
        content = torch.load(path, map_location='cpu', weights_only=True)
    except Exception as error:  # whatever the unpickler makes of bytes that are none of its own
        raise UserError(f'{path}: not a checkpoint, or a damaged one; {way_out}') from error
    state = content if isinstance(content, dict) else {}
    for key in ('state_dict', 'params'):  # MMEngine's name for the weights, and BasicSR's
        inner = state.get(key, state)
        state = inner if isinstance(inner, dict) else {}
    tensors = {
        name.removeprefix('module.'): value
        for name, value in state.items()
        if isinstance(name, str) and isinstance(value, Tensor)
    }
    if not state or len(tensors) < len(state):
        raise UserError(f'{path}: holds no network weights; {way_out}')
    return tensors


def check_fits(path: str | Path, model: nn.Module) -> None:
    """Check that a checkpoint holds every weight of a model, in its shape.

    MMEngine loads whatever matches and goes on with random weights for the rest. Weights of the
    flow estimator may be missing: it knows where to get its own.

    Args:
        path: The checkpoint.
        model: The model it shall be loaded into.

    Raises:
        UserError: It is not a checkpoint, or one of another network.
    """
    state = read_state_dict(path)
    network: Any = model.module if is_model_wrapper(model) else model
    wanted = {
        name: value.shape
        for name, value in network.state_dict().items()
        if 'flow_estimator.' not in name
    }
    fitting = sum(name in state and state[name].shape == shape for name, shape in wanted.items())
    if fitting < len(wanted):
        raise UserError(
            f'{path}: a checkpoint of another network ({fitting} of {len(wanted)} tensors of '
            f'{type(getattr(network, "generator", network)).__name__} fit); give the config it was '
            f'trained with'
        )
