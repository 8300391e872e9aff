# Copyright (c) the bsst_plugin authors. Licensed under the Apache License, Version 2.0.
"""Checks that run when the package is imported."""

import importlib
import re
from pathlib import Path

#: The range that MMagic 1.2 accepts.
_OLDEST, _BEFORE = (2, 0), (2, 2)


def check_mmcv() -> None:
    """Make sure that a suitable mmcv with compiled operators is installed.

    Raises:
        ImportError: mmcv is missing, does not load, has no compiled operators (mmcv-lite) or is of
            an unsuitable version. The message is one line that names the script to run.
    """
    # mmcv's extension links against torch's libraries, and a missing torch is another problem.
    importlib.import_module('torch')
    try:
        version: str = importlib.import_module('mmcv').__version__
        # Loaded, not only looked for: one compiled for another torch fails only here.
        importlib.import_module('mmcv._ext')
    except ImportError as error:
        reason = str(error).partition('\n')[0]
    else:
        numbers = tuple(int(part) for part in re.findall(r'\d+', version)[:2])
        if _OLDEST <= numbers < _BEFORE:
            return
        reason = f'found {version}'
    raise ImportError(
        'bsst_plugin needs mmcv >= 2.0.0, < 2.2 with its compiled operators '
        f'({reason}): run "python {_install_script()}"'
    )


def _install_script() -> Path:
    """Return the script that installs mmcv: of the clone, or of the installed package."""
    package = Path(__file__).resolve().parent
    of_clone = package.parent / 'tools' / 'install_mmcv.py'
    return of_clone if of_clone.exists() else package / '.mim' / 'tools' / 'install_mmcv.py'
