"""Flow estimators."""

from bsst_plugin.models.flow.base import FlowEstimator, PretrainedFlowEstimator
from bsst_plugin.models.flow.dis import DISFlow
from bsst_plugin.models.flow.mmflow_estimator import MMFlowEstimator
from bsst_plugin.models.flow.raft import RAFTFlow
from bsst_plugin.models.flow.refiner import FlowRefiner
from bsst_plugin.models.flow.spynet import SPyNetFlow

__all__ = [
    'DISFlow',
    'FlowEstimator',
    'FlowRefiner',
    'MMFlowEstimator',
    'PretrainedFlowEstimator',
    'RAFTFlow',
    'SPyNetFlow',
]
