"""What the network saw in each frame of a clip, drawn: blur, selected windows, flow."""

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor, nn
from torchvision.utils import flow_to_image

from bsst_plugin.inference.tiling import Flows, Tiling, deblur_clip
from bsst_plugin.models.bsstnet import BSSTNet
from bsst_plugin.visualization.maps import blur_heat_map, draw_windows

# Motion that gets the full colour, as a part of the diagonal of a frame.
FULL_COLOUR = 0.02
# From the network, frames ``(1, t, 3, h, w)`` in [0, 1], the flows of the whole frames and the
# tiles to a picture ``(h, w, 3)`` uint8 of each frame.
View = Callable[[nn.Module, Tensor, Flows, Tiling], list[np.ndarray]]


def view_blur(network: nn.Module, lqs: Tensor, flows: Flows, tiling: Tiling) -> list[np.ndarray]:
    """The blur map over the frames, normalised in each tile as it is for the network."""
    return to_images(deblur_clip(_BlurPictures(network), lqs, flows, tiling))


def view_windows(network: nn.Module, lqs: Tensor, flows: Flows, tiling: Tiling) -> list[np.ndarray]:
    """The windows that the first block selects in each tile: queries orange, keys blue."""
    # Where tiles fade, two grids of windows would be seen at once.
    return to_images(
        deblur_clip(_WindowPictures(network), lqs, flows, replace(tiling, merge='cut'))
    )


def view_flow(network: nn.Module, lqs: Tensor, flows: Flows, tiling: Tiling) -> list[np.ndarray]:
    """The motion from each frame to the next in torchvision's colours.

    A motion of 2 % of the diagonal per frame, or more, has the full colour.
    """
    height, width = lqs.shape[-2:]
    to_previous, to_next = (4 * flow[0].cpu() for flow in flows)  # (t-1, 2, h/4, w/4) in pixels
    if not len(to_next):
        return [np.full((height, width, 3), 255, np.uint8)]
    limit = FULL_COLOUR * float(np.hypot(height, width))
    pictures = []
    for flow in torch.cat((to_next, -to_previous[-1:])):
        flow = flow * (limit / flow.norm(dim=0).clamp(min=limit))
        # torchvision gives the full colour to the longest vector: a column of such, cut off again.
        longest = flow.new_tensor([limit, 0.0]).view(2, 1, 1).expand(-1, flow.shape[1], 1)
        picture = flow_to_image(torch.cat((flow, longest), dim=2))[..., :-1]
        image = picture.permute(1, 2, 0).contiguous().numpy()
        pictures.append(cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR))
    return pictures


def draw_seen(network: nn.Module, lqs: Tensor, index: int) -> dict[str, np.ndarray]:
    """How a BSSTNet sees a frame of a clip.

    Args:
        network: The network; others see nothing that could be drawn.
        lqs: ``(1, t, 3, h, w)`` in [0, 1].
        index: The frame.

    Returns:
        The blur map and, if it has BSST, the selected windows, ``(h, w, 3)`` uint8, by their
        titles.
    """
    if not isinstance(network, BSSTNet):
        return {}
    flows = network.flow_estimator(lqs)
    views = {'blur map B': view_blur}
    if network.neck is not None:
        views['queries orange, keys blue'] = view_windows
    return {title: view(network, lqs, flows, Tiling())[index] for title, view in views.items()}


class _Pictures(nn.Module):
    """Draws what a BSSTNet sees, tile by tile, in the place of the network."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network: Any = network
        self.flow_estimator = network.flow_estimator

    @abstractmethod
    def draw(self, frames: list[np.ndarray], blur_map: Tensor) -> list[np.ndarray]:
        """Pictures of ``frames``, given the blur map ``(1, t, 1, h', w')`` of padded frames."""

    def forward(self, lqs: Tensor, flows: Flows) -> Tensor:
        """``(1, t, 3, h, w)`` in [0, 1], to the same shape."""
        *_, blur_map = self.network.motion(lqs, flows)
        pictures = np.stack(self.draw(to_images(lqs), blur_map.float().cpu()))
        return torch.from_numpy(pictures).permute(0, 3, 1, 2)[None] / 255


class _BlurPictures(_Pictures):
    def draw(self, frames: list[np.ndarray], blur_map: Tensor) -> list[np.ndarray]:
        height, width = (-(-side // 4) for side in frames[0].shape[:2])
        maps = blur_map[0, :, 0, :height, :width].numpy()
        return [blur_heat_map(*pair) for pair in zip(frames, maps, strict=True)]


class _WindowPictures(_Pictures):
    def draw(self, frames: list[np.ndarray], blur_map: Tensor) -> list[np.ndarray]:
        rows, columns = self.network.neck.size_divisor  # of a window, in quarter-resolution pixels
        grid = (blur_map.shape[-2] // rows, blur_map.shape[-1] // columns)
        masks = self.network.neck.select(blur_map)[0].masks(1, len(frames), *grid)
        queries, keys = (mask[0].numpy() for mask in masks)
        return [
            draw_windows(*parts, (4 * rows, 4 * columns))
            for parts in zip(frames, queries, keys, strict=True)
        ]


def to_images(frames: Tensor) -> list[np.ndarray]:
    """``(1, t, 3, h, w)`` in [0, 1] as ``(h, w, 3)`` uint8, clamped and rounded."""
    return [_image(frame) for frame in frames[0]]  # one by one: little is held beside them


def _image(frame: Tensor) -> np.ndarray:
    pixels = frame.clamp(0, 1).mul_(255).round_().to(torch.uint8)
    return np.ascontiguousarray(pixels.permute(1, 2, 0).cpu().numpy())
