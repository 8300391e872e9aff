"""SPyNet, the flow estimator of BasicVSR++."""

from mmagic.models.editors.basicvsr.basicvsr_net import SPyNet
from mmagic.registry import MODELS
from torch import Tensor

from bsst_plugin.models.flow.base import PretrainedFlowEstimator, read_or_download, without_weights

WEIGHTS = 'https://download.openmmlab.com/mmediting/restorers/basicvsr/spynet_20210409-c6c1bd09.pth'


@MODELS.register_module()
class SPyNetFlow(PretrainedFlowEstimator):
    """MMagic's SPyNet, frozen; its default weights are those that MMagic uses.

    Args:
        checkpoint: See :class:`PretrainedFlowEstimator`.
        max_pixels: See :class:`FlowEstimator`.
    """

    def __init__(self, checkpoint: str | None = None, max_pixels: int = 1920 * 1080) -> None:
        super().__init__(checkpoint, max_pixels)
        self.spynet = without_weights(SPyNet(pretrained=None))

    def read_weights(self) -> dict[str, Tensor]:
        """See :meth:`PretrainedFlowEstimator.read_weights`."""
        state = read_or_download(self.checkpoint or WEIGHTS)
        # The normalisation's constants, which some files lack, are buffers of the module.
        return {**self.state_dict(), **{f'spynet.{name}': value for name, value in state.items()}}

    def estimate(self, first: Tensor, second: Tensor) -> Tensor:
        """See :meth:`FlowEstimator.estimate`."""
        return self.spynet(first, second)
