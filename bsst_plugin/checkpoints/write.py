"""Checkpoints that ``--checkpoint`` takes, and files that are written whole or not at all."""

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor

from bsst_plugin.errors import UserError


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


@contextmanager
def whole_file(path: Path) -> Iterator[BinaryIO]:
    """A file to write, which gets its name when it is complete and on the disk.

    Args:
        path: Its path; folders that are missing are made.

    Raises:
        OSError: It cannot be written; what there was of it is removed.
    """
    partial = path.with_name(f'.{path.name}.partial')
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(partial, 'wb') as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    except OSError:
        with suppress(OSError):
            partial.unlink(missing_ok=True)
        raise
