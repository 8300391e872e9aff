"""Video deblurring for MMagic: BSSTNet and what it is compared with.

Importing the package registers its components and lets ``torch.load`` read MMEngine's
checkpoints with ``weights_only=True``.
"""

import os

from bsst_plugin._check import check_mmcv
from bsst_plugin.version import __version__

check_mmcv()
# MMagic imports albumentations, which would ask the network for a newer release of itself.
os.environ.setdefault('NO_ALBUMENTATIONS_UPDATE', '1')

# These import mmcv: a missing one must have been named before.
import bsst_plugin.checkpoints.keep  # noqa: E402, F401
from bsst_plugin import datasets, evaluation, hooks, models, train_loop  # noqa: E402
from bsst_plugin.checkpoints.safe_globals import allow_mmengine_checkpoints  # noqa: E402

allow_mmengine_checkpoints()

__all__ = ['__version__', 'datasets', 'evaluation', 'hooks', 'models', 'train_loop']
