"""How every command ends: with a result, or with one line."""

import sys
from collections.abc import Callable
from typing import NoReturn

import torch

from bsst_plugin.errors import UserError


def run(main: Callable[[], int | None]) -> NoReturn:
    """Run a command and exit.

    Args:
        main: The command; returns its exit code, None for 0.

    Raises:
        SystemExit: Always: 1 with one line on stderr for a :class:`UserError` and where a GPU has
            too little memory, 130 if interrupted, else what ``main`` returned.
    """
    try:
        code = main()
    except UserError as error:
        # From a data loader's worker the message arrives below the worker's traceback.
        line = str(error).strip().splitlines()[-1]
        line = line.removeprefix('bsst_plugin.errors.UserError: ')
        # At once: between the pieces that print() writes a worker's own remark may come.
        sys.stderr.write(f'error: {line}\n')
        code = 1
    except torch.cuda.OutOfMemoryError as error:
        reason = str(error).partition('. ')[0]
        sys.stderr.write(
            f'error: out of GPU memory: use smaller frames, clips or batches ({reason})\n'
        )
        code = 1
    except KeyboardInterrupt:
        print('interrupted', file=sys.stderr)
        code = 130
    sys.exit(code)
