"""Which windows take part in the sparse attention (Eq. 5-8 of the paper).

A selection is a registered callable ``(token_blur, window, block_index) -> WindowSelection``;
attention never looks at how the choice was made.
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from mmagic.registry import MODELS
from torch import Tensor

Size2 = tuple[int, int]


@dataclass(frozen=True)
class WindowSelection:
    """Window places that take part in the sparse attention, each with its frames.

    A place is a position (i, j) of the m x n grid of windows, over all frames of one clip.

    Attributes:
        places: ``(p, 3)`` int64, clip, row and column of each place that takes part.
        query_frames: ``(p, k_q)`` int64, the frames whose window asks, K_q for each place.
        key_frames: ``(p, k_kv)`` int64, the frames whose window answers, K_kv for each place.
    """

    places: Tensor
    query_frames: Tensor
    key_frames: Tensor

    def masks(self, n: int, t: int, m: int, n_windows: int) -> tuple[Tensor, Tensor]:
        """The selection as maps, for looking at it.

        Returns:
            Query and key/value windows, each ``(n, t, m, n_windows)`` bool.
        """
        masks = []
        clip, row, column = self.places[:, :, None].unbind(1)
        for frames in (self.query_frames, self.key_frames):
            mask = torch.zeros((n, t, m, n_windows), dtype=torch.bool, device=frames.device)
            mask[clip, frames, row, column] = True
            masks.append(mask)
        return masks[0], masks[1]


def _share(ratio: float, t: int) -> int:
    """Number of frames that are ``ratio`` of ``t``: rounded up, at least one, at most all."""
    return min(max(math.ceil(ratio * t - 1e-9), 1), t)  # 0.07 * 100 is a little over 7


def _frames_of_parity(t: int, block_index: int, device: torch.device) -> Tensor:
    """Frames of the block's parity, the other class where that one is empty (t = 1)."""
    frames = torch.arange(block_index % 2, t, 2, device=device)
    return frames if len(frames) else torch.arange(t, device=device)


@MODELS.register_module()
class BlurAwareSelection:
    """The paper's choice: blurry windows ask, sharp windows answer.

    U is the largest blur of each window. A place takes part if it is blurry in any frame
    (Eq. 5); there the blurriest frames are the queries (Eq. 7) and the sharpest frames of one
    parity, which alternates from block to block, the keys and values (Eq. 8). Among equals the
    earlier frame is taken.

    Args:
        theta: Blur from which a window counts as blurry.
        query_ratio: K_q as a share of the frames, rounded up.
        key_ratio: K_kv as a share of the frames, rounded up, at most the frames of the parity.
    """

    def __init__(
        self, theta: float = 0.3, query_ratio: float = 0.5, key_ratio: float = 0.5
    ) -> None:
        self.theta, self.query_ratio, self.key_ratio = theta, query_ratio, key_ratio

    def __call__(self, token_blur: Tensor, window: Size2, block_index: int) -> WindowSelection:
        """Choose the windows of one block.

        Args:
            token_blur: ``(n, t, M, N)`` in [0, 1], blur of each token; M and N multiples of the
                window.
            window: Rows and columns of a window in tokens.
            block_index: Index of the block, from 0.

        Returns:
            The places and frames that take part.
        """
        t = token_blur.shape[1]
        u = F.max_pool2d(token_blur, tuple(window))  # (n, t, m, n_w)
        places = (u >= self.theta).any(1).nonzero()  # (p, 3), Eq. 5
        u = u[places[:, 0], :, places[:, 1], places[:, 2]]  # (p, t)
        blurriest = u.argsort(dim=1, descending=True, stable=True)
        parity = _frames_of_parity(t, block_index, u.device)
        sharpest = parity[u[:, parity].argsort(dim=1, stable=True)]
        return WindowSelection(
            places,
            blurriest[:, : _share(self.query_ratio, t)],  # Eq. 7
            sharpest[:, : _share(self.key_ratio, t)],
        )  # Eq. 8


@MODELS.register_module()
class DenseSelection:
    """Every place takes part with all frames as queries and as keys (SST, Table 4)."""

    def __call__(self, token_blur: Tensor, window: Size2, block_index: int) -> WindowSelection:
        """Choose all windows; same arguments as ``BlurAwareSelection``."""
        n, t, rows, columns = token_blur.shape
        grid = torch.ones((n, rows // window[0], columns // window[1]), device=token_blur.device)
        places = grid.nonzero()
        frames = torch.arange(t, device=token_blur.device).expand(len(places), t)
        return WindowSelection(places, frames, frames)


@MODELS.register_module()
class RandomSelection:
    """A random choice that does not look at the blur map (Table 7).

    In each clip a share of the places takes part, and at each of them a share of the frames as
    queries and another as keys. The choice depends on the seed, the block and the sizes only.

    Args:
        ratio: The share of places, of query frames and of key frames, each rounded up.
        seed: Another seed, another choice.
    """

    def __init__(self, ratio: float = 0.5, seed: int = 0) -> None:
        self.ratio, self.seed = ratio, seed

    def __call__(self, token_blur: Tensor, window: Size2, block_index: int) -> WindowSelection:
        """Choose windows at random; same arguments as ``BlurAwareSelection``."""
        n, t, rows, columns = token_blur.shape
        n_windows = columns // window[1]
        num_places = rows // window[0] * n_windows
        # On the CPU, so that every device makes the same choice; each clip on its own.
        generator = torch.Generator().manual_seed(self.seed + block_index)
        chosen = torch.randperm(num_places, generator=generator)
        chosen = chosen[: _share(self.ratio, num_places)].sort().values
        frames = torch.rand((2, len(chosen), t), generator=generator).argsort(dim=-1)
        frames = frames[..., : _share(self.ratio, t)].repeat(1, n, 1).to(token_blur.device)
        clip = torch.arange(n).repeat_interleave(len(chosen))
        row, column = chosen // n_windows, chosen % n_windows
        places = torch.stack((clip, row.repeat(n), column.repeat(n)), dim=1)
        return WindowSelection(places.to(token_blur.device), frames[0], frames[1])


@MODELS.register_module()
class ReleasedSelection:
    """What the released code chooses, which differs from the paper.

    U is the average blur of each window. A place takes part if it is blurry in a frame of the
    block's parity. Queries and keys are half of that parity class each, rounded down. The
    ranking of the released code writes zeros into a tensor that it uses again in the next block:
    block 0 ranks its parity as meant, from block 1 on all blurs are zero and the sort alone
    breaks the ties. Its weights were trained that way.

    Args:
        theta: Blur above which a window counts as blurry.
    """

    def __init__(self, theta: float = 0.3) -> None:
        self.theta = theta

    def __call__(self, token_blur: Tensor, window: Size2, block_index: int) -> WindowSelection:
        """Choose the windows of one block; same arguments as ``BlurAwareSelection``."""
        t = token_blur.shape[1]
        parity = _frames_of_parity(t, block_index, token_blur.device)
        u = F.avg_pool2d(token_blur, tuple(window))  # (n, t, m, n_w)
        places = (u[:, parity] > self.theta).any(1).nonzero()
        ranked = torch.zeros_like(u)
        if block_index == 0:
            ranked[:, parity] = u[:, parity]
        sharpness = torch.zeros_like(u)
        sharpness[:, parity] = 1 - ranked[:, parity]
        count = max(len(parity) // 2, 1)
        frames = []
        for score in (ranked, sharpness):
            # Ties are the rule here, and argsort is not stable: the shape and the call decide
            # which frames come first, so they are the released code's.
            order = torch.argsort(score.unsqueeze(2), 1, True)[:, :count, 0]
            frames.append(order[places[:, 0], :, places[:, 1], places[:, 2]])
        return WindowSelection(places, *frames)
