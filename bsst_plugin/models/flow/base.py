"""What all flow estimators share: pairs of frames in, quarter-resolution flows out."""

import math
from abc import abstractmethod
from pathlib import Path
from pickle import UnpicklingError

import torch
import torch.nn.functional as F
from mmengine.model import BaseModule
from torch import Tensor, nn

from bsst_plugin.checkpoints.check import read_state_dict
from bsst_plugin.errors import UserError
from bsst_plugin.models.layers import zeroed
from bsst_plugin.ops.precision import no_autocast


class FlowEstimator(BaseModule):
    """Optical flow between neighbouring frames of a clip, frozen.

    Frames are halved (bilinear), subclasses estimate the flow of each pair there, and the flow is
    halved again, so that it lies on the grid of the quarter-resolution features. It runs in
    float32, without gradient and in eval mode always.

    Args:
        max_pixels: Largest frame that is given to the estimator, in pixels, and the largest sum
            of pixels of the pairs it gets at a time. Larger frames are reduced further and their
            flow scaled back. It bounds memory: RAFT needs about 6 GB for the default.
    """

    def __init__(self, max_pixels: int = 1920 * 1080) -> None:
        super().__init__()
        self.max_pixels = max_pixels

    def train(self, mode: bool = True) -> 'FlowEstimator':
        """Stay in eval mode: the estimator is frozen."""
        return super().train(False)

    @abstractmethod
    def estimate(self, first: Tensor, second: Tensor) -> Tensor:
        """Flow from ``first`` to ``second``, such that ``second`` warped by it gives ``first``.

        Args:
            first: ``(b, 3, h, w)`` float32 in [0, 1].
            second: Same shape.

        Returns:
            ``(b, 2, h, w)`` float32 in pixels, channel 0 is x.
        """

    @torch.no_grad()
    def forward(self, lqs: Tensor) -> tuple[Tensor, Tensor]:
        """Estimate the flows of each clip in both directions.

        Args:
            lqs: ``(n, t, 3, h, w)`` in [0, 1].

        Returns:
            ``flows_forward`` (frame i+1 to frame i) and ``flows_backward`` (frame i to frame
            i+1), each ``(n, t-1, 2, ceil(h/4), ceil(w/4))`` float32 in pixels of that size.
        """
        n, t, _, h, w = lqs.shape
        quarter = (math.ceil(h / 4), math.ceil(w / 4))
        if t == 1:
            none = lqs.new_zeros((n, 0, 2, *quarter), dtype=torch.float32)
            return none, none.clone()
        with no_autocast(lqs):
            frames = F.pad(lqs.flatten(0, 1).float(), (0, -w % 4, 0, -h % 4), mode='replicate')
            frames = F.interpolate(frames, scale_factor=0.5, mode='bilinear')
            scale = min(1.0, math.sqrt(self.max_pixels / (4 * quarter[0] * quarter[1])))
            if scale < 1:
                size = [max(round(scale * side), 1) for side in frames.shape[-2:]]
                frames = F.interpolate(frames, size=size, mode='bilinear', antialias=True)
            frames = frames.unflatten(0, (n, t))
            earlier, later = frames[:, :-1].flatten(0, 1), frames[:, 1:].flatten(0, 1)
            flows = [
                self._estimate_in_chunks(*pair) for pair in ((later, earlier), (earlier, later))
            ]
            flows = [_resize_flow(flow, quarter).unflatten(0, (n, t - 1)) for flow in flows]
        return flows[0], flows[1]

    def _estimate_in_chunks(self, first: Tensor, second: Tensor) -> Tensor:
        pairs = max(1, self.max_pixels // (first.shape[-1] * first.shape[-2]))
        chunks = zip(first.split(pairs), second.split(pairs), strict=True)
        return torch.cat([self.estimate(*chunk) for chunk in chunks])


class PretrainedFlowEstimator(FlowEstimator):
    """A flow estimator with weights of its own.

    They come with the checkpoint of the network; if none were loaded by the first use, they are
    read from where the estimator knows them to be. Building one needs no file and no network.
    Subclasses build their network with :func:`without_weights`.

    Args:
        checkpoint: File or address of the weights to use where the network's checkpoint has
            none, or None for the estimator's default.
        max_pixels: See :class:`FlowEstimator`.
    """

    def __init__(self, checkpoint: str | None = None, max_pixels: int = 1920 * 1080) -> None:
        super().__init__(max_pixels)
        self.checkpoint = checkpoint

    @property
    def has_weights(self) -> bool:
        """Whether weights were loaded: until then all are zero, in copies and files too."""
        return any(bool(parameter.any()) for parameter in self.parameters())

    @abstractmethod
    def read_weights(self) -> dict[str, Tensor]:
        """State dict of this module, read or downloaded.

        Raises:
            UserError: It cannot be had; the message names the file and where to get it.
        """

    def forward(self, lqs: Tensor) -> tuple[Tensor, Tensor]:
        """See :meth:`FlowEstimator.forward`."""
        if not self.has_weights and lqs.shape[1] > 1:
            self.load_state_dict(self.read_weights())
        return super().forward(lqs)


def without_weights(network: nn.Module) -> nn.Module:
    """A frozen network that waits for its weights, all of them zero."""
    return zeroed(network).requires_grad_(False).eval()


def download(url: str) -> dict[str, Tensor]:
    """Weights at an address, kept in torch's cache.

    Args:
        url: The address.

    Returns:
        The tensors by name.

    Raises:
        UserError: They are not in the cache and cannot be downloaded.
    """
    folder = Path(torch.hub.get_dir()) / 'checkpoints'
    try:
        content = torch.hub.load_state_dict_from_url(
            url, map_location='cpu', check_hash=True, weights_only=True
        )
    except (OSError, RuntimeError, UnpicklingError) as error:  # offline, wrong hash, damaged
        raise UserError(
            f'the weights of the flow estimator could not be downloaded ({error}): put {url} into '
            f'{folder}, or load a checkpoint that holds flow_estimator.*'
        ) from error
    return content.get('state_dict', content)


def read_or_download(checkpoint: str) -> dict[str, Tensor]:
    """Weights in a file or at an address."""
    if checkpoint.startswith(('http://', 'https://')):
        return download(checkpoint)
    return read_state_dict(checkpoint)


def _resize_flow(flow: Tensor, size: tuple[int, int]) -> Tensor:
    """Bring ``(b, 2, h, w)`` to another size, its values to pixels of that size."""
    scale = flow.new_tensor([size[1] / flow.shape[-1], size[0] / flow.shape[-2]])
    return F.interpolate(flow, size=size, mode='bilinear') * scale.view(2, 1, 1)
