"""A network from a checkpoint alone: the config is in it, or the tensors tell."""

import ast
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from mmagic.registry import MODELS
from torch import Tensor, nn

import bsst_plugin
from bsst_plugin.checkpoints.check import count_fitting, own_tensors, read_state_dict
from bsst_plugin.checkpoints.released import convert_released
from bsst_plugin.engine import read_config
from bsst_plugin.errors import UserError

PACKAGE = Path(bsst_plugin.__file__).parent
# Ships with the package, see docs/small_model.md.
DEFAULT_CHECKPOINT = PACKAGE / 'weights' / 'bsstnet_small.pth'
RELEASED_CONFIG = 'bsstnet_gopro_released.py'
# The transformer of the released code, and how an editing model calls the network.
RELEASED_PREFIX, GENERATOR = 'transsqattn.', 'generator.'


@dataclass(frozen=True)
class LoadedNetwork:
    """A network and where it comes from.

    Attributes:
        network: In eval mode, on the CPU; maps ``(n, t, 3, h, w)`` in [0, 1] to the same shape.
        checkpoint: The file of its weights.
        config: Its config, as text.
    """

    network: nn.Module
    checkpoint: Path
    config: str


def load_network(
    checkpoint: str | Path | None = None, config: str | Path | None = None
) -> LoadedNetwork:
    """Build a network and load its weights.

    Args:
        checkpoint: A checkpoint of a training or of a converter, or the authors' released file as
            it is; None for the weights that ship with the package.
        config: Config file that takes the place of the one in the checkpoint.

    Returns:
        The network.

    Raises:
        UserError: There is no such file, it is not a checkpoint, or its weights do not fit.
    """
    if checkpoint is None and not DEFAULT_CHECKPOINT.is_file():
        raise UserError(
            f"{DEFAULT_CHECKPOINT}: not in this installation; give --checkpoint: the authors' "
            f'released BSSTNet as it is, or one that tools/train.py configs/bsstnet_gopro.py wrote'
        )
    path = DEFAULT_CHECKPOINT if checkpoint is None else Path(checkpoint)
    state = read_state_dict(path)
    is_released = any(name.startswith(RELEASED_PREFIX) for name in state)
    embedded = _embedded_config(path) if config is None else None
    if config is None and embedded is None and is_released:
        config = _config_folder() / RELEASED_CONFIG
    cfg: Mapping[str, Any]
    if config is not None:
        from_file = read_config(str(config))
        cfg, text = from_file, from_file.pretty_text
    elif embedded is not None:
        cfg, text = _parse_config(path, embedded), embedded
    else:
        raise UserError(f'{path}: holds no config; give the one it was trained with as --config')
    if is_released:
        state = convert_released(state)
    elif any(name.startswith(GENERATOR) for name in state):
        # What else an editing model holds belongs to its losses.
        state = {
            name.removeprefix(GENERATOR): tensor
            for name, tensor in state.items()
            if name.startswith(GENERATOR)
        }
    network = _build(path if config is None else Path(config), cfg)
    _check_fit(path, state, network)
    network.load_state_dict(state, strict=False)
    return LoadedNetwork(network.eval(), path, text)


def _config_folder() -> Path:
    """Where the configs are: in a clone, or inside an installed package."""
    of_clone = PACKAGE.parent / 'configs'
    return of_clone if of_clone.is_dir() else PACKAGE / '.mim' / 'configs'


def _embedded_config(path: Path) -> str | None:
    """The config that MMEngine puts into checkpoints."""
    content = torch.load(path, map_location='cpu', weights_only=True)
    meta = content.get('meta')
    text = meta.get('cfg') if isinstance(meta, dict) else None
    return text if isinstance(text, str) else None


def _parse_config(path: Path, text: str) -> dict[str, Any]:
    """Read a config as data: MMEngine would run it, and a checkpoint may come from anywhere.

    Args:
        path: The checkpoint, for the message.
        text: Assignments of literals and calls of ``dict``, as MMEngine writes configs.

    Returns:
        The config.

    Raises:
        UserError: It is something else.
    """
    try:
        return {
            target.id: _literal(statement.value)
            for statement in ast.parse(text).body
            if isinstance(statement, ast.Assign)
            for target in statement.targets
            if isinstance(target, ast.Name)
        }
    except (SyntaxError, ValueError) as error:
        raise UserError(f'{path}: the config inside cannot be read; give it as --config') from error


def _literal(node: ast.expr) -> Any:
    """Value of a literal, in which ``dict(key=value)`` may stand for a dictionary."""
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == 'dict':
        return {keyword.arg: _literal(keyword.value) for keyword in node.keywords}
    if isinstance(node, ast.List):
        return [_literal(item) for item in node.elts]
    if isinstance(node, ast.Tuple):
        return tuple(_literal(item) for item in node.elts)
    if isinstance(node, ast.Dict):
        keys = [ast.literal_eval(key) for key in node.keys if key is not None]
        return dict(zip(keys, map(_literal, node.values), strict=True))
    return ast.literal_eval(node)


def _build(path: Path, cfg: Mapping[str, Any]) -> nn.Module:
    generator = (cfg.get('model') or {}).get('generator')
    if generator is None:
        raise UserError(f'{path}: its config has no model.generator; give another --config')
    try:
        return MODELS.build(generator)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else 'unknown'
        raise UserError(f'{path}: its network cannot be built ({reason})') from error


def _check_fit(path: Path, state: Mapping[str, Tensor], network: nn.Module) -> None:
    """Check that all weights are there, except for those that a flow estimator gets itself."""
    wanted = own_tensors(network)
    fitting = count_fitting(state, wanted)
    if fitting < len(wanted):
        raise UserError(
            f'{path}: {fitting} of {len(wanted)} tensors of {type(network).__name__} fit; give '
            f'the config it was trained with as --config'
        )
