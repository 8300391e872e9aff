"""Flow estimators."""

from bsst_plugin.models.flow.base import FlowEstimator
from bsst_plugin.models.flow.dis import DISFlow
from bsst_plugin.models.flow.raft import RAFTFlow
from bsst_plugin.models.flow.refiner import FlowRefiner

__all__ = ['DISFlow', 'FlowEstimator', 'FlowRefiner', 'RAFTFlow']
