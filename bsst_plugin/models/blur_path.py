"""How far and which way each place moved while the shutter was open, as the blur shows it.

Flow tells how things moved from frame to frame. A hand that shakes moves otherwise within an
exposure, and the shutter may be open for a part of the time only; that can be seen in the blur
alone. Along a motion of length L the derivative of a blurry picture is the difference of two sharp
ones, ``(S(p + L/2) - S(p - L/2)) / L``: it is weak, and correlates with itself negatively at the
distance L (Yitzhaky and Kopeika, 1997). What correlates how is measured for several directions and
distances; a network that treats all directions alike weighs that against the flow.
"""

import math

import torch
import torch.nn.functional as F
from mmengine.model import BaseModule
from torch import Tensor, nn

from bsst_plugin.models.layers import LRELU_SLOPE, in_chunks, zeroed
from bsst_plugin.models.motion_path import flows_of_frames, frame_velocity

CELL = 8  # pixels of a side of the squares for each of which a path is estimated
DIRECTIONS = 12  # in half a turn: a path and its reverse blur alike
LENGTHS = (2, 3, 5, 7, 10, 14, 20, 28)  # pixels
_AREAS = (1, 3, 9)  # sides of the areas that are looked at, in cells, beside the whole frame
_NOISE = 1e-5  # squared derivative that any camera shows
# Correlations, contrast of a direction and of all, in each area; contrast as in the clip, in the
# largest two; motion along and across, of three flows.
_EVIDENCE = (len(LENGTHS) + 2) * (len(_AREAS) + 1) + 2 + 6


class BlurPath(BaseModule):
    """Judges which straight path blurs each cell; none is a possible answer.

    Args:
        channels: Channels of the features of each direction.
        num_blocks: Number of residual blocks.
    """

    def __init__(self, channels: int = 48, num_blocks: int = 3) -> None:
        super().__init__()
        self.see = nn.Conv3d(_EVIDENCE, channels, 1)
        self.blocks = nn.ModuleList(
            nn.Sequential(
                nn.Conv3d(
                    channels, channels, (3, 1, 1), padding=(1, 0, 0), padding_mode='circular'
                ),
                nn.LeakyReLU(LRELU_SLOPE),
                nn.Conv3d(channels, channels, (1, 3, 3), padding=(0, 1, 1)),
            )
            for _ in range(num_blocks)
        )
        # A fresh network says none.
        self.to_lengths = zeroed(nn.Conv3d(channels, len(LENGTHS), 1))
        self.to_none = zeroed(nn.Conv2d(2 * channels, 1, 1))

    def forward(self, evidence: Tensor) -> Tensor:
        """Judge.

        Args:
            evidence: See ``path_evidence``.

        Returns:
            ``(b, 1 + DIRECTIONS * len(LENGTHS), h', w')``, logits of no path at all and of those
            of ``path_table``.
        """
        x = F.leaky_relu(self.see(evidence), LRELU_SLOPE)  # (b, c, d, h', w')
        for block in self.blocks:
            x = F.leaky_relu(x + block(x), LRELU_SLOPE)
        none = self.to_none(torch.cat((x.mean(2), x.amax(2)), dim=1))
        return torch.cat((none, self.to_lengths(x).transpose(1, 2).flatten(1, 2)), dim=1)


def angles() -> list[float]:
    """Angle of each direction, radians, from the x axis towards the y axis, which points down."""
    return [math.pi * i / DIRECTIONS for i in range(DIRECTIONS)]


def path_table() -> Tensor:
    """Ways ``(DIRECTIONS * len(LENGTHS), 2)`` in pixels, x and y, all lengths of each direction."""
    return torch.tensor(
        [(length * math.cos(a), length * math.sin(a)) for a in angles() for length in LENGTHS]
    )


def path_evidence(frames: Tensor, flows_forward: Tensor, flows_backward: Tensor) -> Tensor:
    """What ``BlurPath`` is told of the directions in each cell, about as large as one.

    Args:
        frames: ``(n, t, 3, h, w)`` in [0, 1], h and w multiples of 4.
        flows_forward: ``(n, t-1, 2, h/4, w/4)`` in pixels of that size, frame i+1 to frame i.
        flows_backward: ``(n, t-1, 2, h/4, w/4)``, frame i to frame i+1.

    Returns:
        ``(n*t, c, DIRECTIONS, h', w')`` float32, h' and w' those of cells, rounded up.
    """
    products = in_chunks(derivative_products, frames.flatten(0, 1))
    return evidence_of_products(products, flows_forward, flows_backward)


def brightness(frames: Tensor) -> Tensor:
    """Y of ITU-R BT.601, ``(b, 1, h, w)``, of RGB frames ``(b, 3, h, w)``."""
    red, green, blue = frames.split(1, dim=1)
    return 0.299 * red + 0.587 * green + 0.114 * blue


def derivative_products(frames: Tensor) -> Tensor:
    """Products of each cell's derivatives with themselves and those at some distance, means.

    Args:
        frames: ``(b, 3, h, w)`` in [0, 1].

    Returns:
        ``(b, DIRECTIONS, 1 + len(LENGTHS), h', w')`` float32: of ``D(p)^2``, and for each length L
        of ``D(p - L u / 2) D(p + L u / 2)``, D being the derivative in the direction u.
    """
    h, w = frames.shape[-2:]
    grey = F.pad(brightness(frames.float()), (1,) * 4, mode='replicate')
    for dim, length in ((2, h), (3, w)):  # a little smoother: neighbouring pixels' noise differs
        before, here, after = (grey.narrow(dim, i, length) for i in range(3))
        grey = (before + 2 * here + after) / 4
    reach = max(LENGTHS) // 2 + 2
    grey = F.pad(grey, (reach + 1,) * 4, mode='replicate')
    dx = (grey[..., 1:-1, 2:] - grey[..., 1:-1, :-2]) / 2
    dy = (grey[..., 2:, 1:-1] - grey[..., :-2, 1:-1]) / 2

    def cells(product: Tensor) -> Tensor:
        return F.avg_pool2d(product, CELL, ceil_mode=True, count_include_pad=False)

    rows = []
    for angle in angles():
        cosine, sine = math.cos(angle), math.sin(angle)
        derivative = cosine * dx + sine * dy

        def at(x: int, y: int, of: Tensor = derivative) -> Tensor:
            return of[..., reach + y : reach + y + h, reach + x : reach + x + w]

        products = [cells(at(0, 0).square())]
        for length in LENGTHS:
            x, y = round(length * cosine), round(length * sine)
            ahead = ((x + 1) // 2, (y + 1) // 2)
            products.append(cells(at(*ahead) * at(ahead[0] - x, ahead[1] - y)))
        rows.append(torch.cat(products, dim=1))
    return torch.stack(rows, dim=1)


def evidence_of_products(products: Tensor, flows_forward: Tensor, flows_backward: Tensor) -> Tensor:
    """``path_evidence`` of what ``derivative_products`` gave."""
    t = flows_forward.shape[1] + 1
    areas = []
    for side in _AREAS:
        area = F.avg_pool2d(products.flatten(1, 2), side, 1, side // 2, count_include_pad=False)
        areas.append(area.view_as(products))
    areas.append(products.mean((3, 4), keepdim=True).expand_as(products))
    parts = []
    for area in areas:
        contrast = area[:, :, :1].clamp(min=0) + _NOISE
        mean = contrast.mean(1, keepdim=True)
        parts += [area[:, :, 1:] / contrast, (contrast / mean).log()]
        parts.append(((1000 * mean).log() / 3).expand_as(contrast))
    for area in areas[:-3:-1]:
        contrast = (area[:, :, :1].clamp(min=0) + _NOISE).unflatten(0, (-1, t))
        parts.append((contrast / contrast.mean(1, keepdim=True)).log().flatten(0, 1))
    to_previous, to_next, _ = flows_of_frames(flows_forward, flows_backward)
    cosine, sine = (
        products.new_tensor([f(a) for a in angles()])[:, None, None] for f in (math.cos, math.sin)
    )
    for flow in (frame_velocity(flows_forward, flows_backward), to_previous, to_next):
        cell = F.avg_pool2d(flow.flatten(0, 1), 2, ceil_mode=True, count_include_pad=False) / 2
        x, y = cell[:, None].unbind(2)
        parts += [way.abs()[:, :, None] for way in (x * cosine + y * sine, y * cosine - x * sine)]
    return torch.cat(parts, dim=2).transpose(1, 2)


def likeliest_path(logits: Tensor, velocity: Tensor) -> tuple[Tensor, Tensor]:
    """The path that ``BlurPath`` takes to be the likeliest, a mean of it and its neighbours.

    Args:
        logits: ``(b, 1 + DIRECTIONS * len(LENGTHS), h', w')``, see ``BlurPath``.
        velocity: ``(b, 2, h/4, w/4)``: of the path and its reverse, which blur alike, the one is
            chosen that goes more this way, so that it changes slowly from place to place.

    Returns:
        The way from its beginning to its end, ``(b, 2, h/4, w/4)`` float32 in pixels of that size,
        zero where there is none; and how likely it and none is, ``(b, 2, h/4, w/4)``.
    """
    h, w = velocity.shape[-2:]
    shares = logits.float().softmax(dim=1)
    share, index = shares.max(dim=1, keepdim=True)  # (b, 1, h', w')
    near = shares * _neighbours().to(shares)[index[:, 0]].permute(0, 3, 1, 2)
    length, x, y = (
        (near * value.to(shares)[:, None, None]).sum(1) / near.sum(1)
        for value in _lengths_and_double_angles()
    )
    angle = torch.atan2(y, x) / 2

    def at_quarter(x: Tensor) -> Tensor:
        return F.interpolate(x, scale_factor=CELL // 4, mode='nearest')[..., :h, :w]

    path = at_quarter(torch.stack((length * angle.cos(), length * angle.sin()), dim=1)) / 4
    against = (path * velocity).sum(dim=1, keepdim=True) < 0
    likely = torch.cat((share, shares[:, :1]), dim=1)
    return torch.where(against, -path, path), at_quarter(likely)


def _neighbours() -> Tensor:
    """Which paths differ by one direction and length at most: ``(1 + paths, 1 + paths)``, 0 or 1.

    None has no neighbour.
    """
    paths = DIRECTIONS * len(LENGTHS)
    direction = torch.arange(paths) // len(LENGTHS)
    length = torch.arange(paths) % len(LENGTHS)
    turn = (direction[:, None] - direction) % DIRECTIONS
    near = (turn <= 1) | (turn == DIRECTIONS - 1)
    near &= (length[:, None] - length).abs() <= 1
    return torch.block_diag(torch.ones(1, 1), near.float())


def _lengths_and_double_angles() -> tuple[Tensor, Tensor, Tensor]:
    """Length of each path, and its way with the angle doubled, which its reverse shares."""
    ways = torch.cat((torch.zeros(1, 2), path_table()))
    length, angle = ways.norm(dim=1), 2 * torch.atan2(ways[:, 1], ways[:, 0])
    return length, length * angle.cos(), length * angle.sin()
