"""Fusion of the propagated features: two residual Swin groups over time and space."""

from functools import partial
from itertools import product
from math import prod

import torch
import torch.nn.functional as F
from einops import rearrange
from mmagic.registry import MODELS
from mmengine.model import BaseModule
from torch import Tensor, nn

from bsst_plugin.models.layers import in_chunks

Size3 = tuple[int, int, int]


def _fit_window(clip: Size3, window: Size3) -> tuple[Size3, Size3]:
    """Window and shift for a clip: no larger than the clip, and no shift where it fits once."""
    size = tuple(min(c, w) for c, w in zip(clip, window, strict=True))
    shift = tuple(0 if c <= w else w // 2 for c, w in zip(clip, window, strict=True))
    return size, shift  # type: ignore[return-value]


def _partition(x: Tensor, window: Size3) -> Tensor:
    """``(n, t, h, w, c)`` to windows ``(n, num_windows, tokens, c)``."""
    return rearrange(
        x, 'n (t a) (h b) (w c) d -> n (t h w) (a b c) d', a=window[0], b=window[1], c=window[2]
    )


def _regions(padded: Size3, window: Size3, shift: Size3, device: torch.device) -> Tensor:
    """Part of the clip that each token of the shifted windows is from, ``(num_windows, tokens)``.

    A shifted window at the border holds tokens from opposite ends of the clip: they do not see
    each other.
    """
    region = torch.zeros((1, *padded, 1), device=device)
    for axis in range(3):
        position = torch.arange(padded[axis], device=device)
        index = (position >= padded[axis] - window[axis]).int()
        index += (position >= padded[axis] - shift[axis]).int() if shift[axis] else 0
        region += (index * 3**axis).view([-1 if a == axis + 1 else 1 for a in range(5)])
    return _partition(region, window)[0, :, :, 0]


def _kinds(padded: Size3, window: Size3, shift: Size3, device: torch.device) -> list[Tensor]:
    """Indices of the windows that lie alike at the border, so that their regions are the same."""
    counts = [size // win for size, win in zip(padded, window, strict=True)]
    index = torch.arange(prod(counts), device=device).view(counts)
    ends = [(slice(-1), slice(-1, None)) if s else (slice(None),) for s in shift]
    return [index[at].flatten() for at in product(*ends)]


def _bias_rows(window: Size3, table_window: Size3, device: torch.device) -> Tensor:
    """Row of the bias table for each pair of tokens of a window, ``(tokens, tokens)``.

    The table is made for ``table_window``; the window of a small clip may be smaller.
    """
    axes = torch.meshgrid(*(torch.arange(size, device=device) for size in window), indexing='ij')
    rows = torch.zeros((), dtype=torch.long, device=device)
    for axis, size in zip(axes, table_window, strict=True):
        position = axis.flatten()
        rows = rows * (2 * size - 1) + position[:, None] - position[None, :] + size - 1
    return rows


class SwinBlock(nn.Module):
    """LayerNorm, (shifted) window attention, LayerNorm, MLP, both with residuals.

    Args:
        channels: Channels of input and output.
        num_heads: Attention heads.
        window: Frames, rows and columns of a window.
        shifted: Whether the windows are shifted by half their size.
        mlp_ratio: Width of the MLP as a multiple of ``channels``.
    """

    def __init__(
        self, channels: int, num_heads: int, window: Size3, shifted: bool, mlp_ratio: float
    ) -> None:
        super().__init__()
        self.window, self.shifted, self.num_heads = window, shifted, num_heads
        self.norm1 = nn.LayerNorm(channels)
        self.qkv = nn.Linear(channels, 3 * channels)
        table_size = (2 * window[0] - 1) * (2 * window[1] - 1) * (2 * window[2] - 1)
        self.relative_position_bias = nn.Parameter(torch.zeros(table_size, num_heads))
        nn.init.trunc_normal_(self.relative_position_bias, std=0.02)
        self.proj = nn.Linear(channels, channels)
        self.norm2 = nn.LayerNorm(channels)
        hidden = int(channels * mlp_ratio)
        self.mlp = nn.Sequential(
            nn.Linear(channels, hidden), nn.GELU(), nn.Linear(hidden, channels)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Refine ``(n, t, h, w, c)``; same shape."""
        x = x + self._attend(self.norm1(x))
        return in_chunks(
            self._mix_channels, x.flatten(0, 1), positions=x.shape[2] * x.shape[3]
        ).view_as(x)

    def _mix_channels(self, x: Tensor) -> Tensor:
        return x + self.mlp(self.norm2(x))

    def _attend(self, x: Tensor) -> Tensor:
        _, t, h, w, _ = x.shape
        window, shift = _fit_window((t, h, w), self.window)
        if not self.shifted:
            shift = (0, 0, 0)
        pad = [-size % win for size, win in zip((t, h, w), window, strict=True)]
        x = F.pad(x, (0, 0, 0, pad[2], 0, pad[1], 0, pad[0]))
        padded = (x.shape[1], x.shape[2], x.shape[3])
        x = x.roll([-s for s in shift], dims=(1, 2, 3))
        windows = _partition(x, window)  # (n, m, l, c)
        rows = _bias_rows(window, self.window, x.device)
        bias = self.relative_position_bias[rows].permute(2, 0, 1)[None]  # (1, heads, l, l)
        regions = _regions(padded, window, shift, x.device)
        kinds = _kinds(padded, window, shift, x.device)
        parts = []
        for members in kinds:
            region = regions[members[:1]]  # (1, l)
            apart = region.T != region
            # -100 as in Swin, not -inf. For each window its own bias, it would take more memory
            # than all features.
            parts.append(self._attend_within(windows[:, members], bias.masked_fill(apart, -100.0)))
        out = torch.cat(parts, dim=1)[:, torch.cat(kinds).argsort()]
        out = rearrange(
            out,
            'n (t h w) (a b c) d -> n (t a) (h b) (w c) d',
            a=window[0],
            b=window[1],
            c=window[2],
            h=padded[1] // window[1],
            w=padded[2] // window[2],
        )
        return out.roll(shift, dims=(1, 2, 3))[:, :t, :h, :w]

    def _attend_within(self, windows: Tensor, bias: Tensor) -> Tensor:
        """Attention inside windows ``(n, m, l, c)``, bias ``(1, heads, l, l)``; same shape."""
        attend = partial(self._attention, bias)
        out = in_chunks(attend, windows.flatten(0, 1), positions=windows.shape[2])
        return out.view_as(windows)

    def _attention(self, bias: Tensor, windows: Tensor) -> Tensor:
        query, key, value = rearrange(
            self.qkv(windows),
            'b l (three heads d) -> three b heads l d',
            three=3,
            heads=self.num_heads,
        )
        out = F.scaled_dot_product_attention(query, key, value, attn_mask=bias.to(query.dtype))
        return self.proj(rearrange(out, 'b heads l d -> b l (heads d)'))


class SwinGroup(nn.Module):
    """Swin blocks, every second one shifted, then a linear layer, with a residual around.

    Args:
        channels: Channels of input and output.
        depth: Number of blocks.
        num_heads: Attention heads.
        window: Frames, rows and columns of a window.
        mlp_ratio: Width of the MLP as a multiple of ``channels``.
    """

    def __init__(
        self, channels: int, depth: int, num_heads: int, window: Size3, mlp_ratio: float
    ) -> None:
        super().__init__()
        self.blocks = nn.Sequential(
            *(
                SwinBlock(channels, num_heads, window, shifted=i % 2 == 1, mlp_ratio=mlp_ratio)
                for i in range(depth)
            )
        )
        self.linear = nn.Linear(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        """Refine ``(n, t, h, w, c)``; same shape."""
        return x + self.linear(self.blocks(x))


@MODELS.register_module()
class SwinFusion(BaseModule):
    """Reduce the encoder's and all branches' features to C channels and mix them.

    Grouped convolution, LayerNorm, residual Swin groups, LayerNorm: the "reconstruction" of the
    released network, which feeds the transformer.

    Args:
        in_channels: Channels of the concatenated features.
        channels: C of the paper.
        conv_groups: Groups of the convolution.
        num_groups: Number of residual Swin groups.
        depth: Blocks in each group.
        num_heads: Attention heads.
        window: Frames, rows and columns of a window.
        mlp_ratio: Width of the MLPs as a multiple of ``channels``.
    """

    def __init__(
        self,
        in_channels: int = 960,
        channels: int = 192,
        conv_groups: int = 3,
        num_groups: int = 2,
        depth: int = 2,
        num_heads: int = 6,
        window: Size3 = (2, 8, 8),
        mlp_ratio: float = 2.0,
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, channels, 3, padding=1, groups=conv_groups)
        self.norm_in = nn.LayerNorm(channels)
        self.groups = nn.Sequential(
            *(
                SwinGroup(channels, depth, num_heads, (window[0], window[1], window[2]), mlp_ratio)
                for _ in range(num_groups)
            )
        )
        self.norm_out = nn.LayerNorm(channels)

    def forward(self, features: Tensor) -> Tensor:
        """Fuse ``(n, t, in_channels, h, w)`` to ``(n, t, channels, h, w)``."""
        n, t = features.shape[:2]
        x = in_chunks(self.conv, features.flatten(0, 1))
        x = rearrange(x, '(n t) c h w -> n t h w c', n=n, t=t)
        x = self.norm_out(self.groups(self.norm_in(x)))
        return rearrange(x, 'n t h w c -> n t c h w')
