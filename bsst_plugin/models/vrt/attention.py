"""Temporal mutual self attention (TMSA), the blocks of VRT.

Features are ``(n, t, h, w, c)``. A window's tokens attend to each other (self attention); in
windows of two frames, each frame's tokens also query the other frame (mutual attention), which
aligns the frames without a flow.
"""

import math
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from torchvision.ops import StochasticDepth

from bsst_plugin.models.fusion import Size3, _bias_rows, _fit_window

# Tokens that are worked on at a time where no gradient is wanted.
MAX_TOKENS = 2**18


def in_parts(function: Callable[[Tensor], Tensor], x: Tensor, size: int) -> Tensor:
    """Apply a function to ``size`` rows at a time, unless a gradient would keep all of it anyway.

    Args:
        function: Works on each row of a batch alone.
        x: The batch.
        size: Rows of a part.

    Returns:
        What ``function(x)`` gives.
    """
    if torch.is_grad_enabled() or len(x) <= size:
        return function(x)
    return torch.cat([function(part) for part in x.split(size)])


class GatedMLP(nn.Module):
    """Linear layers with a gate between them: ``out(gelu(gate(x)) * value(x))``.

    Args:
        in_channels: Channels of the input.
        hidden_channels: Channels of gate and value.
        out_channels: Channels of the output.
    """

    def __init__(self, in_channels: int, hidden_channels: int, out_channels: int) -> None:
        super().__init__()
        self.gate = nn.Linear(in_channels, hidden_channels)
        self.value = nn.Linear(in_channels, hidden_channels)
        self.out = nn.Linear(hidden_channels, out_channels)

    def forward(self, x: Tensor) -> Tensor:
        """``(..., in_channels)`` to ``(..., out_channels)``."""
        out = in_parts(self._transform, x.flatten(0, -2), MAX_TOKENS)
        return out.view(*x.shape[:-1], -1)

    def _transform(self, x: Tensor) -> Tensor:
        return self.out(F.gelu(self.gate(x)) * self.value(x))


def sine_position(rows: int, columns: int, channels: int) -> Tensor:
    """Sines and cosines of the position in a window, ``(rows * columns, channels)``.

    Half of the channels tell the row, half the column. Positions count from 1 and are scaled to
    2 pi; frequencies fall from 1 to 1 / 10000.

    Args:
        rows: Rows of the window.
        columns: Columns of the window.
        channels: A multiple of 4.
    """
    if channels % 4:
        raise ValueError(f'channels must be a multiple of 4, not {channels}')
    frequency = 10_000.0 ** (-torch.arange(0, channels // 2, 2) / (channels // 2))

    def encode(size: int) -> Tensor:
        position = torch.arange(1.0, size + 1) / (size + 1e-6) * 2 * math.pi
        angle = position[:, None] * frequency
        return torch.stack((angle.sin(), angle.cos()), dim=-1).flatten(1)  # (size, channels / 2)

    row = encode(rows)[:, None].expand(-1, columns, -1)
    column = encode(columns)[None].expand(rows, -1, -1)
    return torch.cat((row, column), dim=-1).flatten(0, 1)


class TMSABlock(nn.Module):
    """LayerNorm, window attention, LayerNorm, gated MLP, both with residuals.

    Args:
        channels: Channels of input and output.
        num_heads: Attention heads.
        window: Frames, rows and columns of a window.
        shifted: Whether the windows are shifted by half their size.
        mutual: Whether there is mutual attention; the window has two frames then.
        mlp_ratio: Width of the MLP as a multiple of ``channels``.
        drop_path: Share of the samples that skip a residual branch in training.
    """

    position: Tensor  # where a token is in its frame's window, (tokens, c)

    def __init__(
        self,
        channels: int,
        num_heads: int,
        window: Size3,
        shifted: bool = False,
        mutual: bool = False,
        mlp_ratio: float = 2.0,
        drop_path: float = 0.0,
    ) -> None:
        super().__init__()
        self.window, self.shifted, self.mutual, self.num_heads = window, shifted, mutual, num_heads
        self.norm1 = nn.LayerNorm(channels)
        self.qkv = nn.Linear(channels, 3 * channels)
        table_size = (2 * window[0] - 1) * (2 * window[1] - 1) * (2 * window[2] - 1)
        self.relative_position_bias = nn.Parameter(torch.zeros(table_size, num_heads))
        nn.init.trunc_normal_(self.relative_position_bias, std=0.02)
        if mutual:
            self.mutual_qkv = nn.Linear(channels, 3 * channels)
            position = sine_position(window[1], window[2], channels)
            self.register_buffer('position', position.repeat(2, 1), persistent=False)
        self.proj = nn.Linear(2 * channels if mutual else channels, channels)
        self.norm2 = nn.LayerNorm(channels)
        self.mlp = GatedMLP(channels, int(channels * mlp_ratio), channels)
        self.drop_path = StochasticDepth(drop_path, mode='row')

    def forward(self, x: Tensor) -> Tensor:
        """Refine ``(n, t, h, w, c)``; same shape.

        With mutual attention t is even, and h and w are not below the window.
        """
        x = x + self.drop_path(self._attend(self.norm1(x)))
        return x + self.drop_path(self.mlp(self.norm2(x)))

    def _attend(self, x: Tensor) -> Tensor:
        n, t, h, w, _ = x.shape
        window, shift = _fit_window((t, h, w), self.window)
        if not self.shifted:
            shift = (0, 0, 0)
        pad = [-size % win for size, win in zip((t, h, w), window, strict=True)]
        x = F.pad(x, (0, 0, 0, pad[2], 0, pad[1], 0, pad[0]))
        if any(shift):
            x = x.roll([-s for s in shift], dims=(1, 2, 3))
        a, b, c = window
        x = rearrange(x, 'n (t a) (h b) (w c) d -> t h w n (a b c) d', a=a, b=b, c=c)
        x = self._attend_in_windows(x, window, shift)
        x = rearrange(x, 't h w n (a b c) d -> n (t a) (h b) (w c) d', a=a, b=b, c=c)
        if any(shift):
            x = x.roll(shift, dims=(1, 2, 3))
        return x[:, :t, :h, :w]

    def _attend_in_windows(
        self, x: Tensor, window: Size3, shift: Size3, wraps: tuple[bool, ...] = ()
    ) -> Tensor:
        """Attention in windows ``(t, h, w, n, tokens, c)``.

        Along a shifted axis the last window wraps around: it holds tokens from both ends of the
        clip, which do not see each other. Windows that wrap along the same axes share one mask, so
        they are attended to together and no mask per window is ever made.
        """
        axis = len(wraps)
        if axis < 3:
            parts = x.split((x.shape[axis] - 1, 1), dim=axis) if shift[axis] else (x,)
            done = [
                self._attend_in_windows(part, window, shift, (*wraps, i == 1))
                for i, part in enumerate(parts)
            ]
            return torch.cat(done, dim=axis) if shift[axis] else done[0]
        allowed = _same_side(window, shift, wraps, x.device)
        rows = _bias_rows(window, self.window, x.device)
        bias = self.relative_position_bias[rows].permute(2, 0, 1)  # (heads, tokens, tokens)
        # -100 as in Swin, not -inf; with less than four axes the fast kernels would not take it.
        bias = torch.where(allowed, bias, -100.0)[None]
        out = in_parts(
            lambda part: self._attention(part, bias, allowed),
            x.flatten(0, 3),
            max(1, MAX_TOKENS // x.shape[4]),
        )
        return out.view(x.shape)

    def _attention(self, x: Tensor, bias: Tensor, allowed: Tensor) -> Tensor:
        """Self and mutual attention of ``(windows, tokens, c)``."""
        query, key, value = rearrange(
            self.qkv(x), 'b l (three heads d) -> three b heads l d', three=3, heads=self.num_heads
        )
        out = F.scaled_dot_product_attention(query, key, value, bias.to(query.dtype))
        out = rearrange(out, 'b heads l d -> b l (heads d)')
        if self.mutual:
            out = torch.cat((self._mutual_attention(x, allowed), out), dim=-1)
        return self.proj(out)

    def _mutual_attention(self, x: Tensor, allowed: Tensor) -> Tensor:
        """Each frame's keys and values, in its place, queried by the other frame's tokens.

        The mask knows space only: in a window that wraps in time, the clip's last frame and its
        first one do query each other. The released weights were trained so.
        """
        query, key, value = rearrange(
            self.mutual_qkv(x + self.position),
            'b (frame l) (three heads d) -> three b frame heads l d',
            frame=2,
            three=3,
            heads=self.num_heads,
        )
        tokens = query.shape[-2]
        mask = torch.zeros((), dtype=query.dtype, device=x.device)
        mask = torch.where(allowed[:tokens, :tokens], mask, -100.0)
        out = F.scaled_dot_product_attention(
            query.flip(1).flatten(0, 1), key.flatten(0, 1), value.flatten(0, 1), mask
        )
        return rearrange(out, '(b frame) heads l d -> b (frame l) (heads d)', frame=2)


def _same_side(
    window: Size3, shift: Size3, wraps: tuple[bool, ...], device: torch.device
) -> Tensor:
    """Which pairs of tokens lie at the same end of the clip, ``(tokens, tokens)``."""
    sides = [
        (torch.arange(size, device=device) >= size - moved) & wrap
        for size, moved, wrap in zip(window, shift, wraps, strict=True)
    ]
    side = torch.stack(torch.meshgrid(*sides, indexing='ij')).flatten(1)  # (3, tokens)
    return (side[:, :, None] == side[:, None, :]).all(0)


class TMSAGroup(nn.Module):
    """TMSA blocks, every second one shifted, then a linear layer, with a residual around.

    Args:
        channels: Channels of input and output.
        num_heads: Attention heads.
        window: Frames, rows and columns of a window.
        drop_paths: For each block, see :class:`TMSABlock`; as many as there are blocks.
        mutual: Whether there is mutual attention.
        mlp_ratio: Width of the MLPs as a multiple of ``channels``.
        with_cp: Whether to compute a block anew for its gradients, to save memory in training.
    """

    def __init__(
        self,
        channels: int,
        num_heads: int,
        window: Size3,
        drop_paths: Sequence[float],
        mutual: bool = False,
        mlp_ratio: float = 2.0,
        with_cp: bool = False,
    ) -> None:
        super().__init__()
        self.with_cp = with_cp
        self.blocks = nn.ModuleList(
            TMSABlock(channels, num_heads, window, i % 2 == 1, mutual, mlp_ratio, drop_path)
            for i, drop_path in enumerate(drop_paths)
        )
        self.linear = nn.Linear(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        """Refine ``(n, t, h, w, c)``; same shape."""
        y = x
        for block in self.blocks:
            if self.with_cp and torch.is_grad_enabled():
                y = checkpoint(block, y, use_reentrant=False)
            else:
                y = block(y)
        return x + self.linear(y)
