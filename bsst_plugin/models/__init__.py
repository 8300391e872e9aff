"""The registered parts of BSSTNet, and what it is compared with."""

from bsst_plugin.models.alignment import BlurAwareAlignment, FlowGuidedAlignment
from bsst_plugin.models.basicvsrpp import FlowBasicVSRPlusPlus
from bsst_plugin.models.bbfp import BBFP
from bsst_plugin.models.blur_map import BlurMapEstimator
from bsst_plugin.models.bsst import BSST
from bsst_plugin.models.bsstnet import BSSTNet
from bsst_plugin.models.compact import CompactDecoder, CompactEncoder
from bsst_plugin.models.deblurrer import VideoDeblurrer
from bsst_plugin.models.decoder import FrameDecoder
from bsst_plugin.models.encoder import FrameEncoder
from bsst_plugin.models.flow import (
    DISFlow,
    FlowEstimator,
    FlowRefiner,
    MMFlowEstimator,
    RAFTFlow,
    SPyNetFlow,
)
from bsst_plugin.models.flow_vrt import FlowVRT
from bsst_plugin.models.frame_by_frame import FrameByFrame, FrameByFrameLoss
from bsst_plugin.models.fusion import SwinFusion
from bsst_plugin.models.losses import BlurWeightedL1Loss, FrameRMSELoss, FrequencyLoss
from bsst_plugin.models.mid_exposure import MidExposure
from bsst_plugin.models.scale_mixture import ScaleMixture
from bsst_plugin.models.vrt import VRT
from bsst_plugin.models.window_selection import (
    BlurAwareSelection,
    DenseSelection,
    RandomSelection,
    ReleasedSelection,
    WindowSelection,
)

__all__ = [
    'BBFP',
    'BSST',
    'BSSTNet',
    'BlurAwareAlignment',
    'BlurAwareSelection',
    'BlurMapEstimator',
    'BlurWeightedL1Loss',
    'CompactDecoder',
    'CompactEncoder',
    'DISFlow',
    'DenseSelection',
    'FlowBasicVSRPlusPlus',
    'FlowEstimator',
    'FlowGuidedAlignment',
    'FlowRefiner',
    'FlowVRT',
    'FrameByFrame',
    'FrameByFrameLoss',
    'FrameDecoder',
    'FrameEncoder',
    'FrameRMSELoss',
    'FrequencyLoss',
    'MMFlowEstimator',
    'MidExposure',
    'RAFTFlow',
    'RandomSelection',
    'ReleasedSelection',
    'SPyNetFlow',
    'ScaleMixture',
    'SwinFusion',
    'VRT',
    'VideoDeblurrer',
    'WindowSelection',
]
