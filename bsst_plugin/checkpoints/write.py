"""Checkpoints that ``--checkpoint`` takes, and other files of PyTorch."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from bsst_plugin.errors import UserError
from bsst_plugin.files import whole_file


def check_is_new(dst: Path) -> None:
    """Refuse to overwrite a file.

    Args:
        dst: The file to be written.

    Raises:
        UserError: It exists already.
    """
    if dst.exists():
        raise UserError(f'{dst}: exists already; remove it or give another name')


def write_checkpoint(dst: Path, state: Mapping[str, Tensor], config: str) -> None:
    """Write the weights of a generator as a checkpoint of MMEngine.

    Args:
        dst: The file to write.
        state: The generator's tensors by name.
        config: Text of the config they belong to; it goes into the file.

    Raises:
        UserError: The file cannot be written.
    """
    content = {
        'meta': {'cfg': config},
        'state_dict': {f'generator.{name}': tensor for name, tensor in state.items()},
    }
    save(dst, content)


def save(dst: Path, content: Mapping[str, Any] | Sequence[Tensor]) -> None:
    """Write a file of PyTorch whole or not at all.

    Args:
        dst: The file to write, over an older one; its folder is made.
        content: What ``torch.load`` gives back with ``weights_only=True``.

    Raises:
        UserError: The file cannot be written.
    """
    try:
        with whole_file(dst) as file:
            torch.save(content, file)
    except OSError as error:
        raise UserError(f'{dst}: cannot be written ({error.strerror})') from error
