"""VRT, the video restoration transformer, in its deblurring form."""

from bsst_plugin.models.vrt.vrt import VRT

__all__ = ['VRT']
