"""Blur-aware sparse spatio-temporal attention (Eq. 4, 6, 9 and 10 of the paper)."""

import math

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from bsst_plugin.models.layers import zeroed
from bsst_plugin.models.window_selection import Size2, WindowSelection


class SparseWindowAttention(nn.Module):
    """Multi-head attention between the windows that a selection names.

    At a selected place the query windows attend to the key/value windows, enlarged by a ring of
    neighbouring tokens, and to the pooled tokens of the same frames. All other windows get
    standard window attention: at each place the frames that are not queries, in order, are cut
    into groups of t/4, and each group attends within itself.

    ``torch.compile`` works, with graph breaks where the number of windows depends on the data;
    for the same reason ``torch.export`` does not.

    Args:
        channels: Channels of a token.
        num_heads: Attention heads.
        window: Rows and columns of a window in tokens.
        pool: Rows and columns of tokens that make one pooled token.
    """

    def __init__(
        self, channels: int = 512, num_heads: int = 4, window: Size2 = (8, 8), pool: Size2 = (4, 4)
    ) -> None:
        super().__init__()
        self.num_heads, self.window = num_heads, window
        self.ring = (math.ceil(window[0] / 2), math.ceil(window[1] / 2))
        self.query = nn.Linear(channels, channels)
        self.key = nn.Linear(channels, channels)
        self.value = nn.Linear(channels, channels)
        self.proj = nn.Linear(channels, channels)
        self.pool = nn.Conv2d(channels, channels, pool, stride=pool, groups=channels)
        zeroed(self.pool)
        nn.init.constant_(self.pool.weight, 1 / (pool[0] * pool[1]))  # starts as the mean

    def forward(self, tokens: Tensor, selection: WindowSelection) -> Tensor:
        """Attend.

        Args:
            tokens: ``(n, t, M, N, c)``, M and N multiples of the window.
            selection: Which windows take part in the sparse attention.

        Returns:
            ``(n, t, M, N, c)``.
        """
        t = tokens.shape[1]
        query, key, value = self.query(tokens), self.key(tokens), self.value(tokens)
        grid = _WindowGrid(tokens.shape, self.window, self.ring, selection.places.device)
        out = torch.empty_like(query).flatten(0, 3)

        if len(selection.places):
            queries = grid.windows(selection.places, selection.query_frames)  # (p, k_q * 64)
            out[queries] = self._attend(
                query.flatten(0, 3)[queries],
                *self._enlarged_keys(grid, selection, tokens, key, value),
            )

        # The rest: (places, their frames that are not queries, in order).
        for places, frames in _rest(selection, grid, t):
            for group in frames.split(math.ceil(t / 4), dim=1):
                index = grid.windows(places, group)
                out[index] = self._attend(*(x.flatten(0, 3)[index] for x in (query, key, value)))
        return self.proj(out.view_as(query))

    def _enlarged_keys(
        self,
        grid: '_WindowGrid',
        selection: WindowSelection,
        tokens: Tensor,
        key: Tensor,
        value: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """Keys and values of the selected places, each ``(p, k_kv * (ring window + pooled), c)``.

        A token outside the frame takes part with zero key and zero value.
        """
        n, t = tokens.shape[:2]
        inside = grid.enlarged_windows(selection.places, selection.key_frames)
        pooled = self.pool(rearrange(tokens, 'n t h w c -> (n t) c h w'))
        pooled = rearrange(pooled, '(n t) c h w -> n t (h w) c', n=n, t=t)  # Eq. 4
        clip = selection.places[:, :1]
        out = []
        for layer, x in ((self.key, key), (self.value, value)):
            x = F.pad(x, (0, 0, *grid.padding)).flatten(0, 3)
            out.append(
                torch.cat(
                    (x[inside], layer(pooled)[clip, selection.key_frames].flatten(1, 2)), dim=1
                )
            )
        return out[0], out[1]

    def _attend(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """Eq. 9 and 10, each ``(places, tokens, c)``."""
        query, key, value = (
            rearrange(x, 'p l (heads d) -> p heads l d', heads=self.num_heads)
            for x in (query, key, value)
        )
        out = F.scaled_dot_product_attention(query, key, value)
        return rearrange(out, 'p heads l d -> p l (heads d)')


class _WindowGrid:
    """Positions of the tokens of each window in the flattened tokens of a batch."""

    def __init__(self, shape: torch.Size, window: Size2, ring: Size2, device: torch.device) -> None:
        self.n, self.t, rows, columns, _ = shape
        self.m, self.n_windows = rows // window[0], columns // window[1]
        self.window, self.ring, self.device = window, ring, device
        self.size = (rows, columns)
        self.padding = (ring[1], ring[1], ring[0], ring[0])  # of columns, then rows

    def windows(self, places: Tensor, frames: Tensor) -> Tensor:
        """Tokens of the windows at ``places`` ``(p, 3)`` in ``frames`` ``(p, k)``.

        Returns:
            ``(p, k * window tokens)`` int64, into tokens flattened over n, t, M, N.
        """
        return self._index(places, frames, self.window, self.size)

    def enlarged_windows(self, places: Tensor, frames: Tensor) -> Tensor:
        """The same with the ring around each window, into tokens padded by the ring."""
        extent = (self.window[0] + 2 * self.ring[0], self.window[1] + 2 * self.ring[1])
        size = (self.size[0] + 2 * self.ring[0], self.size[1] + 2 * self.ring[1])
        return self._index(places, frames, extent, size)

    def _index(self, places: Tensor, frames: Tensor, extent: Size2, size: Size2) -> Tensor:
        clip, row, column = places.unbind(1)
        first = row * self.window[0] * size[1] + column * self.window[1]  # top left token
        frame = (clip[:, None] * self.t + frames) * (size[0] * size[1])  # (p, k)
        inner = torch.arange(extent[0], device=self.device)[:, None] * size[1]
        inner = (inner + torch.arange(extent[1], device=self.device)).flatten()
        return (first[:, None, None] + frame[:, :, None] + inner).flatten(1)


def _rest(selection: WindowSelection, grid: _WindowGrid, t: int) -> list[tuple[Tensor, Tensor]]:
    """Windows that are not queries: places ``(p, 3)`` with their frames ``(p, k)``, in order.

    Two batches, since the selected places have fewer of them than the others.
    """
    device = selection.places.device
    chosen = torch.zeros((grid.n, grid.m, grid.n_windows), dtype=torch.bool, device=device)
    chosen[selection.places.unbind(1)] = True
    others = (~chosen).nonzero()
    batches = [(others, torch.arange(t, device=device).expand(len(others), t))]
    is_query = torch.zeros((len(selection.places), t), dtype=torch.bool, device=device)
    is_query.scatter_(1, selection.query_frames, True)
    frames = (~is_query).nonzero()[:, 1].view(len(is_query), t - selection.query_frames.shape[1])
    batches.append((selection.places, frames))
    return [(places, frames) for places, frames in batches if frames.numel()]
