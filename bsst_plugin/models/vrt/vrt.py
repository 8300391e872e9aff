"""VRT, the generator: eight stages of temporal mutual self attention and parallel warping."""

import itertools
from collections.abc import Sequence

import numpy as np
import torch
from einops import rearrange
from mmagic.registry import MODELS
from mmengine.model import BaseModule
from torch import Tensor, nn

from bsst_plugin.models.fusion import Size3
from bsst_plugin.models.layers import conv3x3
from bsst_plugin.models.vrt.attention import TMSAGroup
from bsst_plugin.models.vrt.spynet import PyramidSPyNet
from bsst_plugin.models.vrt.warping import ParallelWarping, with_neighbours

# Scales of the first seven stages; the eighth works at full resolution, without warping.
SCALES = (1, 2, 4, 8, 4, 2, 1)
# Pixels of the pairs that are given to the flow estimator at a time.
FLOW_PIXELS = 2**20


class Stage(nn.Module):
    """Change of scale, mutual and self attention, self attention over more frames, warping.

    Args:
        channels: Channels of input and output.
        num_heads: Attention heads.
        window: Frames, rows and columns of a window; mutual attention sees two of the frames.
        rescale: ``'same'``, ``'down'`` (to half the size) or ``'up'`` (to twice the size).
        mutual_depth: Blocks with mutual attention.
        drop_paths: For each block, see :class:`TMSABlock`; as many as there are blocks.
        deform_groups: See :class:`ParallelWarping`.
        max_residue_magnitude: See :class:`ParallelWarping`.
        with_cp: See :class:`TMSAGroup`.
    """

    def __init__(
        self,
        channels: int,
        num_heads: int,
        window: Size3,
        rescale: str,
        mutual_depth: int,
        drop_paths: Sequence[float],
        deform_groups: int,
        max_residue_magnitude: float,
        with_cp: bool,
    ) -> None:
        super().__init__()
        c, self.rescale = channels, rescale
        gathered = {'same': c, 'down': 4 * c, 'up': c // 4}[rescale]
        self.norm = nn.LayerNorm(gathered)
        self.linear = nn.Identity() if rescale == 'same' else nn.Linear(gathered, c)
        # As the authors train: both groups start at the stage's first rate.
        rates = drop_paths[:mutual_depth], drop_paths[: len(drop_paths) - mutual_depth]
        self.mutual_group = TMSAGroup(
            c, num_heads, (2, window[1], window[2]), rates[0], mutual=True, with_cp=with_cp
        )
        self.self_group = TMSAGroup(c, num_heads, window, rates[1], with_cp=with_cp)
        self.warping = ParallelWarping(c, deform_groups, max_residue_magnitude)

    def forward(self, x: Tensor, flows_forward: Tensor, flows_backward: Tensor) -> Tensor:
        """Work on a clip.

        Args:
            x: ``(n, t, h, w, c)``, from the stage before.
            flows_forward: See :class:`ParallelWarping`, at the scale of this stage.
            flows_backward: Likewise.

        Returns:
            ``(n, t, h', w', c)`` at the scale of this stage.
        """
        if self.rescale == 'down':
            x = rearrange(x, 'n t (h b) (w a) c -> n t h w (a b c)', a=2, b=2)
        elif self.rescale == 'up':
            x = rearrange(x, 'n t h w (a b c) -> n t (h b) (w a) c', a=2, b=2)
        x = self.linear(self.norm(x))
        x = self.self_group(self.mutual_group(x))
        return self.warping(x, flows_forward, flows_backward)


@MODELS.register_module()
class VRT(BaseModule):
    """Video restoration transformer (Liang et al., arXiv 2201.12288), for deblurring.

    A U-Net of seven stages over a clip, then self attention at full resolution. Neighbouring
    frames are aligned implicitly, by mutual attention between two frames, and explicitly, by
    deformable convolution along the flow of a SPyNet that is trained with the network. Defaults
    are those of the released deblurring networks, 18.3 M parameters; their weights are converted
    by ``tools/model_converters/vrt.py``.

    Args:
        channels: Channels of the first seven stages, a multiple of 4 and of ``num_heads``.
        refine_channels: Channels of the eighth stage, a multiple of ``num_heads``.
        depths: Blocks in each of the first seven stages.
        refine_depths: Blocks in each group of the eighth stage; the last two groups see one frame
            at a time.
        num_heads: Attention heads.
        window: Frames (an even number), rows and columns of a window.
        mutual_ratio: Share of a stage's blocks that have mutual attention, rounded down.
        deform_groups: Groups of offsets and masks of the deformable convolutions.
        drop_path_rate: Stochastic depth of the last block; it grows linearly from zero.
        with_cp: Whether to compute a block anew for its gradients: slower training, in a fraction
            of the memory.
    """

    def __init__(
        self,
        channels: int = 96,
        refine_channels: int = 120,
        depths: Sequence[int] = (8, 8, 8, 8, 8, 8, 8),
        refine_depths: Sequence[int] = (4, 4, 4, 4),
        num_heads: int = 6,
        window: Size3 = (6, 8, 8),
        mutual_ratio: float = 0.75,
        deform_groups: int = 16,
        drop_path_rate: float = 0.2,
        with_cp: bool = False,
    ) -> None:
        super().__init__()
        self.window = window = (window[0], window[1], window[2])
        blocks = [*depths, *refine_depths]
        rates = iter(np.linspace(0, drop_path_rate, sum(blocks)).tolist())
        drop_paths = [list(itertools.islice(rates, depth)) for depth in blocks]
        self.spynet = PyramidSPyNet()
        self.embed = conv3x3(9 * 3, channels)
        self.stages = nn.ModuleList(
            Stage(
                channels,
                num_heads,
                window,
                rescale,
                int(depths[i] * mutual_ratio),
                drop_paths[i],
                deform_groups,
                max_residue_magnitude=10 / scale,
                with_cp=with_cp,
            )
            for i, (scale, rescale) in enumerate(
                zip(SCALES, ('same', *['down'] * 3, *['up'] * 3), strict=True)
            )
        )
        self.widen = nn.Sequential(nn.LayerNorm(channels), nn.Linear(channels, refine_channels))
        windows = [window] * (len(refine_depths) - 2) + [(1, window[1], window[2])] * 2
        self.refine = nn.Sequential(
            *(
                TMSAGroup(refine_channels, num_heads, size, part, with_cp=with_cp)
                for size, part in zip(windows, drop_paths[len(depths) :], strict=True)
            )
        )
        self.norm = nn.LayerNorm(refine_channels)
        self.project = nn.Linear(refine_channels, channels)
        self.to_frame = conv3x3(channels, 3)

    def forward(self, lqs: Tensor) -> Tensor:
        """Deblur the clips of a batch.

        Clips are mirrored to whole windows: in time to pairs, or to multiples of the window if
        longer; in space to multiples of 8, the window at the smallest scale at least.

        Args:
            lqs: ``(n, t, 3, h, w)``, blurry frames in [0, 1]; any n, t >= 1 and h, w >= 16.

        Returns:
            ``(n, t, 3, h, w)``, sharp frames.

        Raises:
            ValueError: The frames are smaller than 16 x 16.
        """
        t, _, h, w = lqs.shape[1:]
        if min(h, w) < 16:
            raise ValueError(f'frames must be at least 16 x 16 pixels, these are {h} x {w}')
        frames = self._pad(lqs)
        n, padded = frames.shape[:2]
        flows_forward, flows_backward = self.flows(frames)
        x = with_neighbours(frames.float(), flows_forward[0], flows_backward[0])
        shallow = self.embed(x.flatten(0, 1)).unflatten(0, (n, padded)).permute(0, 1, 3, 4, 2)
        x = self._unet(shallow, flows_forward, flows_backward)
        x = shallow + self.project(self.norm(self.refine(self.widen(x))))
        residual = self.to_frame(x.flatten(0, 1).permute(0, 3, 1, 2)).unflatten(0, (n, padded))
        return lqs + residual[:, :t, :, :h, :w]

    def flows(self, frames: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """Flows between neighbouring frames.

        Args:
            frames: ``(n, t, 3, h, w)`` in [0, 1]; h and w are multiples of 8.

        Returns:
            ``flows_forward`` (frame i+1 to frame i) and ``flows_backward`` (frame i to frame
            i+1), each at four scales: ``(n, t-1, 2, h/s, w/s)`` float32 in pixels of that size,
            for s = 1, 2, 4, 8.
        """
        n, t, _, h, w = frames.shape
        earlier, later = frames[:, :-1].flatten(0, 1), frames[:, 1:].flatten(0, 1)
        size = max(1, FLOW_PIXELS // (h * w))

        def estimate(first: Tensor, second: Tensor) -> list[Tensor]:
            pairs = zip(first.split(size), second.split(size), strict=True)
            scales = zip(*(self.spynet(*pair) for pair in pairs), strict=True)
            return [torch.cat(parts).unflatten(0, (n, t - 1)) for parts in scales]

        return estimate(later, earlier), estimate(earlier, later)

    def _unet(self, x: Tensor, flows_forward: list[Tensor], flows_backward: list[Tensor]) -> Tensor:
        """The first seven stages; those of the way up add what the way down gave at their scale."""
        skips: list[Tensor] = []
        for i, (stage, scale) in enumerate(zip(self.stages, SCALES, strict=True)):
            level = scale.bit_length() - 1
            x = stage(x, flows_forward[level], flows_backward[level])
            if i < 3:
                skips.append(x)
            elif i > 3:
                x = x + skips.pop()
        return x

    def _pad(self, lqs: Tensor) -> Tensor:
        """Mirror a clip, its border frames, rows and columns included, to whole windows."""
        t, _, h, w = lqs.shape[1:]
        frames = self.window[0] if t > self.window[0] else 2
        sizes = (
            t + -t % frames,
            max(h + -h % 8, 8 * self.window[1]),
            max(w + -w % 8, 8 * self.window[2]),
        )
        for axis, size in zip((1, 3, 4), sizes, strict=True):
            old = lqs.shape[axis]
            if size > old:
                index = torch.arange(size, device=lqs.device) % (2 * old)
                lqs = lqs.index_select(axis, torch.minimum(index, 2 * old - 1 - index))
        return lqs
