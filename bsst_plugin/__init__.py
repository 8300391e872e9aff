"""Video deblurring for MMagic: BSSTNet and what it is compared with.

Importing the package registers its components and lets ``torch.load`` read MMEngine's
checkpoints with ``weights_only=True``.
"""

import os
import warnings

from bsst_plugin._check import check_mmcv
from bsst_plugin.version import __version__

check_mmcv()
# MMagic imports albumentations, which would ask the network for a newer release of itself.
os.environ.setdefault('NO_ALBUMENTATIONS_UPDATE', '1')

with warnings.catch_warnings():
    # What the packages below MMagic warn of when they are imported is for them to mend.
    warnings.simplefilter('ignore', FutureWarning)
    # These import mmcv: a missing one must have been named before.
    import bsst_plugin.checkpoints.keep  # noqa: F401
    from bsst_plugin import datasets, evaluation, hooks, models, optim_wrapper, train_loop
    from bsst_plugin.checkpoints.safe_globals import allow_mmengine_checkpoints

allow_mmengine_checkpoints()

__all__ = [
    '__version__',
    'datasets',
    'evaluation',
    'hooks',
    'models',
    'optim_wrapper',
    'train_loop',
]
