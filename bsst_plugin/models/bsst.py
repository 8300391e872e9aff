"""Blur-aware spatio-temporal sparse transformer (section 3.4 of the paper)."""

import torch
import torch.nn.functional as F
from einops import rearrange
from mmagic.registry import MODELS
from mmengine.model import BaseModule
from torch import Tensor, nn

from bsst_plugin.models.layers import GatedCAB, conv3x3, in_chunks
from bsst_plugin.models.sparse_attention import SparseWindowAttention
from bsst_plugin.models.window_selection import Size2, WindowSelection


class PatchEmbedding(nn.Linear):
    """Soft split: overlapping patches, each through one linear layer.

    Unfolding and a linear layer are a strided convolution with the same weights; that is how it
    is computed.

    Args:
        channels: Channels of the feature.
        dim: Channels of a token.
        patch: Side p of a patch.
        stride: Step between patches.
    """

    def __init__(self, channels: int, dim: int, patch: int, stride: int) -> None:
        super().__init__(channels * patch**2, dim)
        self.kernel_shape = (channels, patch, patch)
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        """``(b, channels, h, w)`` to ``(b, dim, h/stride, w/stride)``."""
        weight = self.weight.view(-1, *self.kernel_shape)
        return F.conv2d(x, weight, self.bias, stride=self.stride, padding=self.kernel_shape[1] // 2)


class PatchComposition(nn.Linear):
    """Soft composition: each token through one linear layer to a patch, overlaps are summed.

    A linear layer and folding are a transposed convolution with the same weights.

    Args:
        dim: Channels of a token.
        channels: Channels of the feature.
        patch: Side p of a patch.
        stride: Step between patches.
    """

    def __init__(self, dim: int, channels: int, patch: int, stride: int) -> None:
        super().__init__(dim, channels * patch**2)
        self.kernel_shape = (channels, patch, patch)
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        """``(b, dim, M, N)`` to ``(b, channels, M * stride, N * stride)``."""
        weight = self.weight.t().view(-1, *self.kernel_shape)
        # The bias belongs to the patches: it is summed over the overlaps like the weights.
        one = x.new_ones((1, 1, *x.shape[-2:]))
        return self._compose(x, weight) + self._compose(one, self.bias.view(1, *self.kernel_shape))

    def overlaps(self, rows: int, columns: int) -> Tensor:
        """How many of ``rows * columns`` patches cover each pixel, ``(1, 1, h, w)``."""
        ones = self.weight.new_ones((1, 1, *self.kernel_shape[1:]))
        return self._compose(ones.new_ones((1, 1, rows, columns)), ones)

    def _compose(self, x: Tensor, weight: Tensor) -> Tensor:
        padding = self.kernel_shape[1] // 2
        # Patches are centred on every stride-th pixel from the first; the output padding adds the
        # pixels after the last centre that the soft split covered.
        return F.conv_transpose2d(
            x, weight, stride=self.stride, padding=padding, output_padding=self.stride - 1
        )


class FusionFeedForward(nn.Module):
    """Feed-forward layer that mixes overlapping patches in between.

    Linear, fold and divide by the number of overlaps, unfold, GELU, linear. GELU maps the zeros
    around the frame to zero, so it is applied before unfolding, to a sixth of the values.

    Args:
        dim: Channels of a token.
        hidden_channels: Channels of the folded feature.
        patch: Side p of a patch.
        stride: Step between patches.
    """

    def __init__(self, dim: int, hidden_channels: int, patch: int, stride: int) -> None:
        super().__init__()
        self.fc1 = PatchComposition(dim, hidden_channels, patch, stride)
        self.fc2 = PatchEmbedding(hidden_channels, dim, patch, stride)

    def forward(self, tokens: Tensor) -> Tensor:
        """Refine ``(n, t, M, N, dim)``; same shape."""
        n, _, rows, columns, _ = tokens.shape
        x = rearrange(tokens, 'n t m k c -> (n t) c m k')
        x = self.fc1(x) / self.fc1.overlaps(rows, columns)
        x = self.fc2(F.gelu(x))
        return rearrange(x, '(n t) c m k -> n t m k c', n=n)


class BSSTBlock(nn.Module):
    """LayerNorm, sparse attention, LayerNorm, feed-forward, both with residuals.

    Args:
        dim: Channels of a token.
        num_heads: Attention heads.
        window: Rows and columns of a window in tokens.
        pool: Rows and columns of tokens that make one pooled token.
        hidden_channels: Channels of the folded feature in the feed-forward layer.
        patch: Side p of a patch.
        stride: Step between patches.
    """

    def __init__(
        self,
        dim: int,
        num_heads: int,
        window: Size2,
        pool: Size2,
        hidden_channels: int,
        patch: int,
        stride: int,
    ) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim)
        self.attention = SparseWindowAttention(dim, num_heads, window, pool)
        self.norm2 = nn.LayerNorm(dim)
        self.ffn = FusionFeedForward(dim, hidden_channels, patch, stride)

    def forward(self, tokens: Tensor, selection: WindowSelection) -> Tensor:
        """Refine ``(n, t, M, N, dim)``; same shape."""
        tokens = tokens + self.attention(self.norm1(tokens), selection)
        return tokens + self.ffn(self.norm2(tokens))


@MODELS.register_module()
class BSST(BaseModule):
    """Neck: soft split, blocks of blur-aware sparse attention, soft composition.

    Args:
        channels: C of the paper.
        dim: Channels of a token.
        depth: Number of blocks.
        num_heads: Attention heads.
        window: Rows and columns of a window in tokens.
        pool: Rows and columns of tokens that make one pooled token.
        hidden_channels: Channels of the folded feature in the feed-forward layers.
        patch: Side p of a patch (odd). The paper says 4, the released network has 5.
        stride: Step s between patches.
        selection: Config of the window selection.
    """

    def __init__(
        self,
        channels: int = 192,
        dim: int = 512,
        depth: int = 4,
        num_heads: int = 4,
        window: Size2 = (8, 8),
        pool: Size2 = (4, 4),
        hidden_channels: int = 40,
        patch: int = 5,
        stride: int = 2,
        selection: dict = dict(type='BlurAwareSelection'),
    ) -> None:
        super().__init__()
        self.window = (window[0], window[1])  # configs may give lists
        self.patch, self.stride = patch, stride
        self.selection = MODELS.build(selection)
        self.soft_split = PatchEmbedding(channels, dim, patch, stride)
        self.blocks = nn.ModuleList(
            BSSTBlock(dim, num_heads, self.window, pool, hidden_channels, patch, stride)
            for _ in range(depth)
        )
        self.soft_composition = PatchComposition(dim, channels, patch, stride)
        self.compose_conv = conv3x3(channels, channels)
        self.merge = GatedCAB(channels, extra_channels=channels)
        self.refine = GatedCAB(channels)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, std=0.01)
                nn.init.zeros_(module.bias)

    @property
    def size_divisor(self) -> Size2:
        """The feature's height and width must be multiples of these: whole windows."""
        return self.stride * self.window[0], self.stride * self.window[1]

    def token_blur(self, blur_map: Tensor) -> Tensor:
        """Blur of each token: ``(n, t, 1, h, w)`` average-pooled to ``(n, t, M, N)``."""
        blur = F.avg_pool2d(
            blur_map.flatten(0, 1).float(), self.patch, self.stride, self.patch // 2
        )
        return rearrange(blur, '(n t) 1 m k -> n t m k', n=len(blur_map))

    @torch.no_grad()
    def select(self, blur_map: Tensor) -> list[WindowSelection]:
        """Windows that take part in each block, from the blur map ``(n, t, 1, h, w)``."""
        token_blur = self.token_blur(blur_map)
        return [self.selection(token_blur, self.window, i) for i in range(len(self.blocks))]

    def forward(self, feature: Tensor, blur_map: Tensor) -> Tensor:
        """Refine the fused feature.

        Args:
            feature: ``(n, t, c, h, w)``, h and w multiples of ``size_divisor``.
            blur_map: ``(n, t, 1, h, w)`` in [0, 1], B of the paper.

        Returns:
            ``(n, t, c, h, w)``.
        """
        n = len(feature)
        feature = feature.flatten(0, 1)
        tokens = rearrange(self.soft_split(feature), '(n t) c m k -> n t m k c', n=n)
        for block, selection in zip(self.blocks, self.select(blur_map), strict=True):
            tokens = block(tokens, selection)
        tokens = rearrange(tokens, 'n t m k c -> (n t) c m k')
        refined = in_chunks(self._compose, feature, tokens)
        return rearrange(refined, '(n t) c h w -> n t c h w', n=n)

    def _compose(self, feature: Tensor, tokens: Tensor) -> Tensor:
        composed = self.compose_conv(self.soft_composition(tokens))
        return self.refine(self.merge(feature, composed))
