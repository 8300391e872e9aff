"""Operators without parameters: warping by flow and deformable convolution."""

from bsst_plugin.ops.deform_conv import deform_conv2d
from bsst_plugin.ops.warp import flow_consistency, flow_warp

__all__ = ['deform_conv2d', 'flow_consistency', 'flow_warp']
