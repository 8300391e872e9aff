"""Say what is wrong with a checkpoint before it is used."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from mmengine.logging import print_log
from mmengine.model import is_model_wrapper
from torch import Tensor, nn

from bsst_plugin.errors import UserError

WAY_OUT = 'give a checkpoint that tools/train.py wrote or a model converter made'


def read_state_dict(path: str | Path, way_out: str = WAY_OUT) -> dict[str, Tensor]:
    """Tensors of a checkpoint of MMEngine or BasicSR, or of a bare state dict.

    Args:
        path: The file.
        way_out: What the message of an error tells the user to do.

    Returns:
        The tensors by name, without the prefix ``module.`` of data-parallel training.

    Raises:
        UserError: There is no such file, or it is not a checkpoint.
    """
    if not Path(path).is_file():
        raise UserError(f'{path}: no such checkpoint; {way_out}')
    try:
        content = torch.load(path, map_location='cpu', weights_only=True)
    except Exception as error:  # whatever the unpickler makes of bytes that are none of its own
        raise UserError(
            f'{path}: not a checkpoint, or a damaged one (it begins with {_head(path)}); {way_out}'
        ) from error
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
        raise UserError(f'{path}: holds no network weights ({_summary(content)}); {way_out}')
    return tensors


def own_tensors(network: nn.Module) -> dict[str, Tensor]:
    """What a checkpoint of a network has to hold.

    Weights of the flow estimator may be missing: it knows where to get its own.
    """
    state = network.state_dict()
    return {name: value for name, value in state.items() if 'flow_estimator.' not in name}


def count_fitting(state: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> int:
    """Number of the ``wanted`` tensors that ``state`` has under that name and in that shape."""
    return sum(name in state and state[name].shape == w.shape for name, w in wanted.items())


def check_fits(path: str | Path, model: nn.Module, partly: bool = False) -> None:
    """Check that a checkpoint holds every weight of a model, in its shape.

    MMEngine loads whatever matches and goes on with random weights for the rest.

    Args:
        path: The checkpoint.
        model: The model it shall be loaded into.
        partly: Whether some of the weights will do, with a warning.

    Raises:
        UserError: It is not a checkpoint, or one of another network.
    """
    network: Any = model.module if is_model_wrapper(model) else model
    wanted = own_tensors(network)
    fitting = count_fitting(read_state_dict(path), wanted)
    name = type(getattr(network, 'generator', network)).__name__
    fit = f'{fitting} of {len(wanted)} tensors of {name} fit'
    if partly and 0 < fitting < len(wanted):
        print_log(f'{path}: {fit}, the others start at random', level=logging.WARNING)
    elif fitting < len(wanted):
        raise UserError(
            f'{path}: a checkpoint of another network ({fit}); give the config it was trained '
            f'with, or convert it first if it is a released one (tools/model_converters)'
        )


def check_is(
    path: str | Path, state: Mapping[str, Tensor], wanted: Mapping[str, Tensor], what: str
) -> None:
    """Check that weights from elsewhere are those of a network, no fewer and no more.

    Args:
        path: Where they come from.
        state: The weights, under the names they have here.
        wanted: The network's tensors.
        what: What the file is expected to be.

    Raises:
        UserError: They are something else; the message says what was expected and found.
    """
    fitting = count_fitting(state, wanted)
    if fitting < len(wanted) or len(state) > len(wanted):
        raise UserError(
            f'{path}: not {what}; expected {len(wanted)} tensors that it uses, found {fitting} of '
            f'them and {len(state) - fitting} others'
        )


def _head(path: str | Path) -> str:
    with open(path, 'rb') as file:
        return repr(file.read(8))


def _summary(content: object) -> str:
    """What a file holds, in a few words."""
    if not isinstance(content, dict):
        return f'it is a {type(content).__name__}'
    names = [repr(name) for name in list(content)[:3]]
    return f'a dict of {len(content)}: ' + ', '.join(names) if names else 'an empty dict'
