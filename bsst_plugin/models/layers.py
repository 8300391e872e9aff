"""Blocks that several parts of the network share."""

from collections.abc import Callable
from typing import TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bsst_plugin.ops import deform_conv2d
from bsst_plugin.ops.precision import no_autocast

_Layer = TypeVar('_Layer', bound=nn.Module)
LRELU_SLOPE = 0.1
# Pixels that a CPU works on at a time, of frames that do not depend on each other.
_CHUNK = 128 * 128


def in_chunks(
    function: Callable[..., Tensor], *inputs: Tensor, positions: int | None = None
) -> Tensor:
    """Apply a function that treats each item of a batch on its own.

    On a CPU without gradients it is given a few at a time, a single one if it is large: what is
    computed inside stays in the cache, and does not grow with the batch.

    Args:
        function: Maps the inputs to ``(b, ...)``.
        inputs: Each ``(b, ...)``.
        positions: Pixels or tokens of an item; by default those of the first input, taken to be
            ``(b, c, h, w)``.

    Returns:
        ``(b, ...)``.
    """
    first = inputs[0]
    chunk = max(1, _CHUNK // (positions or first.shape[-1] * first.shape[-2]))
    if torch.is_grad_enabled() or first.device.type != 'cpu' or len(first) <= chunk:
        return function(*inputs)
    out = None
    for start in range(0, len(first), chunk):
        part = function(*(x[start : start + chunk] for x in inputs))
        if out is None:
            last = part.dim() == 4 and part.is_contiguous(memory_format=torch.channels_last)
            out = torch.empty(
                (len(first), *part.shape[1:]),
                dtype=part.dtype,
                memory_format=torch.channels_last if last else torch.contiguous_format,
            )
        out[start : start + chunk] = part
    assert out is not None
    return out


def conv3x3(in_channels: int, out_channels: int, stride: int = 1, bias: bool = True) -> nn.Conv2d:
    """3 x 3 convolution that keeps the size (divided by ``stride``)."""
    return nn.Conv2d(in_channels, out_channels, 3, stride, 1, bias=bias)


def depthwise(channels: int, kernel_size: int) -> nn.Conv2d:
    """Convolution of each channel on its own, no bias, that keeps the size."""
    return nn.Conv2d(
        channels, channels, kernel_size, padding=kernel_size // 2, groups=channels, bias=False
    )


def plus_identity(x: Tensor, *layers: nn.Conv2d) -> Tensor:
    """``x`` plus what depth-wise convolutions make of it, as a single one: kernels add up.

    Args:
        x: ``(n, c, h, w)``.
        layers: See :func:`depthwise`.

    Returns:
        Same shape.
    """
    size = max(layer.kernel_size[0] for layer in layers)
    kernel = F.pad(x.new_ones((1, 1, 1, 1), dtype=torch.float32), (size // 2,) * 4)
    for layer in layers:
        kernel = kernel + F.pad(layer.weight, ((size - layer.kernel_size[0]) // 2,) * 4)
    return F.conv2d(x, kernel.to(x.dtype), padding=size // 2, groups=x.shape[1])


class LeadingConv3x3(nn.Conv2d):
    """3 x 3 convolution of inputs whose last channels may be missing, which counts as zero.

    Args:
        in_channels: Most channels of an input.
        out_channels: Channels of the output.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__(in_channels, out_channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """``(n, up to in_channels, h, w)`` to ``(n, out_channels, h, w)``."""
        return F.conv2d(x, self.weight[:, : x.shape[1]], self.bias, padding=1)


def leaky_relu() -> nn.LeakyReLU:
    """The LReLU between convolutions, slope 0.1."""
    return nn.LeakyReLU(LRELU_SLOPE, inplace=True)


def zeroed(layer: _Layer) -> _Layer:
    """The layer with all parameters zero: it says nothing until it has learned something."""
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)
    return layer


class LayerNorm2d(nn.Module):
    """LayerNorm over the channels of ``(n, c, h, w)``, statistics in float32.

    Args:
        channels: c.
        eps: Added to the variance.
    """

    def __init__(self, channels: int, eps: float = 1e-6) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        """Normalise ``(n, c, h, w)``; same shape and dtype."""
        last = x.permute(0, 2, 3, 1)  # where channels_last has them
        weight, bias = self.weight.to(x.dtype), self.bias.to(x.dtype)
        with no_autocast(x):  # it would copy all to float32, which the kernel computes in anyway
            out = F.layer_norm(last, weight.shape, weight, bias, self.eps)
        return out.permute(0, 3, 1, 2)


class ChannelAttention(nn.Module):
    """Scale each channel by a sigmoid of all channels' means (no reduction).

    Args:
        channels: Channels of input and output.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weights = nn.Sequential(
            nn.Conv2d(channels, channels, 1, bias=False),
            nn.ReLU(inplace=True),
            nn.Conv2d(channels, channels, 1, bias=False),
            nn.Sigmoid(),
        )

    def weigh(self, x: Tensor) -> Tensor:
        """Weights of the channels of ``(n, c, h, w)``, ``(n, c, 1, 1)``."""
        return self.weights(x.mean((2, 3), keepdim=True))

    def forward(self, x: Tensor) -> Tensor:
        """Scale the channels of ``(n, c, h, w)``; same shape."""
        return x * self.weigh(x)


class CAB(nn.Module):
    """Channel attention block: conv, LReLU, conv, channel attention, residual.

    Args:
        channels: Channels of input and output.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            conv3x3(channels, channels, bias=False),
            leaky_relu(),
            conv3x3(channels, channels, bias=False),
        )
        self.attention = ChannelAttention(channels)

    def forward(self, x: Tensor) -> Tensor:
        """Refine ``(n, c, h, w)``; same shape."""
        y = self.body(x)
        return torch.addcmul(x, y, self.attention.weigh(y))


class GatedCAB(nn.Module):
    """Gated channel attention block, CAB1 and CAB2 of the released network.

    LayerNorm, 1x1 to 2c, depth-wise 3x3 + identity, gate a * b, depth-wise k x k + depth-wise
    3x3 + identity, 1x1 to 2c, gate a * sigmoid(b), channel attention, 1x1; times ``beta``, plus
    the input. With ``extra_channels`` (CAB2), further channels pass a depth-wise 3x3 of their
    own and join before the norm; the residual is the main c channels.

    Args:
        channels: c, channels of the main input and of the output.
        kernel_size: k of the large depth-wise convolution.
        extra_channels: Channels of the second input; 0 for CAB1.
    """

    def __init__(self, channels: int, kernel_size: int = 5, extra_channels: int = 0) -> None:
        super().__init__()
        c = channels
        if extra_channels:
            self.extra = depthwise(extra_channels, 3)
        self.norm = LayerNorm2d(c + extra_channels)
        self.expand = nn.Conv2d(c + extra_channels, 2 * c, 1, bias=False)
        self.mix = depthwise(2 * c, 3)
        self.mix_large = depthwise(c, kernel_size)
        self.mix_small = depthwise(c, 3)
        self.expand_gate = nn.Conv2d(c, 2 * c, 1, bias=False)
        self.attention = ChannelAttention(c)
        self.project = nn.Conv2d(c, c, 1, bias=False)
        # Zero, so that a fresh block is the identity and deep stacks train from the start.
        self.beta = nn.Parameter(torch.zeros(1, c, 1, 1))

    def forward(self, x: Tensor, extra: Tensor | None = None) -> Tensor:
        """Refine ``x`` ``(n, c, h, w)``, given ``extra`` ``(n, extra_channels, h, w)``."""
        y = x if extra is None else torch.cat((x, self.extra(extra)), dim=1)
        y = self.expand(self.norm(y))  # (n, 2c, h, w)
        a, b = plus_identity(y, self.mix).chunk(2, dim=1)
        y = plus_identity(a * b, self.mix_large, self.mix_small)
        a, b = self.expand_gate(y).chunk(2, dim=1)
        y = self.project(self.attention(a * torch.sigmoid(b)))
        return torch.addcmul(x, y, self.beta.to(y.dtype))


class GuidedDeformConv(nn.Module):
    """Second-order deformable convolution: a condition says where two features are sampled.

    Args:
        channels: C, channels of each feature and of the output.
        condition_channels: Channels of the condition.
        deform_groups: Groups of offsets and masks; half of them sample the first feature.
        max_residue_magnitude: Largest learned offset in pixels.
    """

    def __init__(
        self,
        channels: int,
        condition_channels: int,
        deform_groups: int = 16,
        max_residue_magnitude: float = 5.0,
    ) -> None:
        super().__init__()
        c = channels
        self.max_residue_magnitude = max_residue_magnitude
        self.conv = conv3x3(2 * c, c)  # holds the weights, is not called
        self.conv_offset = nn.Sequential(
            conv3x3(condition_channels, c),
            leaky_relu(),
            conv3x3(c, c),
            leaky_relu(),
            conv3x3(c, c),
            leaky_relu(),
            zeroed(conv3x3(c, 27 * deform_groups)),
        )

    def forward(
        self,
        first: Tensor,
        second: Tensor,
        condition: Tensor,
        flows: tuple[Tensor, Tensor] | None = None,
        mask_bias: tuple[Tensor, Tensor] | None = None,
    ) -> Tensor:
        """Sample and convolve.

        Args:
            first: ``(n, c, h, w)``.
            second: Same shape.
            condition: ``(n, condition_channels, h, w)``.
            flows: Where the samples of each feature lie to begin with, ``(n, 2, h, w)`` in
                pixels, channel 0 is x.
            mask_bias: Added to the mask logits of each feature, ``(n, 1, h, w)``.

        Returns:
            ``(n, c, h, w)``.
        """
        out = self.conv_offset(condition).float()
        *residues, logits = out.chunk(3, dim=1)
        offset = self.max_residue_magnitude * torch.tanh(torch.cat(residues, dim=1))
        if flows is not None:
            half = offset.shape[1] // 4  # samples of each feature; y comes before x
            offset = offset + torch.cat(
                [flow.float().flip(1).repeat(1, half, 1, 1) for flow in flows], dim=1
            )
        if mask_bias is not None:
            half = logits.shape[1] // 2
            logits = logits + torch.cat(
                [bias.float().expand(-1, half, -1, -1) for bias in mask_bias], dim=1
            )
        features = torch.cat((first, second), dim=1)
        weight, bias = self.conv.parameters()
        return deform_conv2d(features, offset, torch.sigmoid(logits), weight, bias)
