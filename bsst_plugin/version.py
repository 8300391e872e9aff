# Copyright (c) the bsst_plugin authors. Licensed under the Apache License, Version 2.0.
"""Version of the package, the only place that states it."""

__version__ = '0.1.0'
