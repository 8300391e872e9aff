"""BasicVSR++ for deblurring: MMagic's, on frames of any size and with any flow."""

import torch.nn.functional as F
from mmagic.models.editors.basicvsr_plusplus_net.basicvsr_plusplus_net import BasicVSRPlusPlusNet
from mmagic.registry import MODELS
from torch import Tensor

Flows = tuple[Tensor, Tensor]


@MODELS.register_module()
class FlowBasicVSRPlusPlus(BasicVSRPlusPlusNet):
    """MMagic's ``BasicVSRPlusPlusNet`` at full resolution, given the flow of another estimator.

    Its own SPyNet, 1.4 M parameters that have to be trained before, is left out, and with it the
    smallest size of 256 x 256.

    Args:
        flow_estimator: Config of the flow estimator.
        mid_channels: Channels of the features, a multiple of 8.
        num_blocks: Residual blocks in each of the four branches.
        max_residue_magnitude: Largest offset beside the flow, in quarter-resolution pixels.
    """

    def __init__(
        self,
        flow_estimator: dict,
        mid_channels: int = 64,
        num_blocks: int = 15,
        max_residue_magnitude: int = 10,
    ) -> None:
        super().__init__(mid_channels, num_blocks, max_residue_magnitude, is_low_res_input=False)
        del self.spynet
        self.flow_estimator = MODELS.build(flow_estimator)
        self.cpu_cache = False

    def forward(self, lqs: Tensor, flows: Flows | None = None) -> Tensor:
        """Deblur the clips of a batch.

        Args:
            lqs: ``(n, t, 3, h, w)``, blurry frames in [0, 1]; any t >= 1 and h, w >= 16.
            flows: ``flows_forward`` and ``flows_backward``, see ``FlowEstimator``, or None to
                estimate them.

        Returns:
            ``(n, t, 3, h, w)``, sharp frames.
        """
        n, t, _, h, w = lqs.shape
        to_previous, to_next = self.flow_estimator(lqs) if flows is None else flows
        frames = F.pad(lqs.flatten(0, 1), (0, -w % 4, 0, -h % 4), mode='replicate')
        features = self.feat_extract(frames).unflatten(0, (n, t))
        feats = {'spatial': list(features.unbind(1))}
        for branch in ('backward_1', 'forward_1', 'backward_2', 'forward_2'):
            feats[branch] = []
            flow = to_next if branch.startswith('backward') else to_previous
            feats = self.propagate(feats, flow.to(features.dtype), branch)
        return self.upsample(frames.unflatten(0, (n, t)), feats)[..., :h, :w]
