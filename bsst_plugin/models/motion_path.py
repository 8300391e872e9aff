"""Where a moving pixel was during the exposure, how to see and how to undo that.

What blurs a pixel lies along its path while the shutter is open. To first order the path is a
straight line, whose direction and length the flows to the two neighbouring frames tell.
"""

from collections.abc import Sequence
from functools import partial
from itertools import product

import torch
import torch.nn.functional as F
from torch import Tensor

from bsst_plugin.models.layers import in_chunks
from bsst_plugin.ops.precision import no_autocast
from bsst_plugin.ops.warp import flow_warp, sampling_grid

_DARKEST = 1 / 255  # pixel value; darker ones would get any ratio
_MOMENTUM = 0.9  # a of the acceleration
_MOVING = 2.0  # pixels a frame: slower ones tell nothing of the exposure
_FEW, _LITTLE = 1e-3, 1e-5  # pixels and squared contrast, against division by zero


def flows_of_frames(flows_forward: Tensor, flows_backward: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The flows of each frame to its two neighbours.

    Args:
        flows_forward: ``(n, t-1, 2, h, w)`` in pixels, frame i+1 to frame i.
        flows_backward: ``(n, t-1, 2, h, w)`` in pixels, frame i to frame i+1.

    Returns:
        The flows to the previous and to the next frame, ``(n, t, 2, h, w)`` float32, zero where
        there is none; and by how much to divide a sum over neighbours for their mean, 1 at both
        ends of the clip and 2 in between, ``(t, 1, 1, 1)``.
    """
    n, steps, _, h, w = flows_forward.shape
    none = flows_forward.new_zeros((n, 1, 2, h, w), dtype=torch.float32)
    to_previous = torch.cat((none, flows_forward.float()), dim=1)
    to_next = torch.cat((flows_backward.float(), none), dim=1)
    neighbours = none.new_full((steps + 1, 1, 1, 1), 2)
    neighbours[0] = neighbours[-1] = 1
    return to_previous, to_next, neighbours


def frame_velocity(flows_forward: Tensor, flows_backward: Tensor) -> Tensor:
    """Velocity of each frame's pixels in the middle of its exposure.

    It is the mean of the way to the next frame and the way from the previous one; the first and
    the last frame of a clip have one of them only.

    Args:
        flows_forward: ``(n, t-1, 2, h, w)`` in pixels, frame i+1 to frame i.
        flows_backward: ``(n, t-1, 2, h, w)`` in pixels, frame i to frame i+1.

    Returns:
        ``(n, t, 2, h, w)`` float32 in pixels a frame; zero for a clip of one frame.
    """
    to_previous, to_next, neighbours = flows_of_frames(flows_forward, flows_backward)
    return (to_next - to_previous) / neighbours


def frame_acceleration(flows_forward: Tensor, flows_backward: Tensor) -> Tensor:
    """Acceleration of each frame's pixels: the way to the next frame less that from the previous.

    Args:
        flows_forward: ``(n, t-1, 2, h, w)`` in pixels, frame i+1 to frame i.
        flows_backward: ``(n, t-1, 2, h, w)`` in pixels, frame i to frame i+1.

    Returns:
        ``(n, t, 2, h, w)`` float32 in pixels a frame squared; zero at both ends of a clip.
    """
    to_previous, to_next, neighbours = flows_of_frames(flows_forward, flows_backward)
    return (to_next + to_previous) * (neighbours - 1)


def neighbour_differences(
    frames: Tensor, flows_forward: Tensor, flows_backward: Tensor, camera: bool = True
) -> Tensor:
    """What the frames before and after show instead, moved like the camera and like the pixels.

    Where something passed in front of a resting background, the neighbours show the background
    and the frame a mixture, whose path tells nothing. The camera's motion is taken to be a
    translation, the median of the flow. What lies beyond a frame is its border repeated.

    Args:
        frames: ``(n, t, 3, h, w)`` in [0, 1].
        flows_forward: ``(n, t-1, 2, h/4, w/4)`` in pixels of that size, frame i+1 to frame i.
        flows_backward: ``(n, t-1, 2, h/4, w/4)``, frame i to frame i+1.
        camera: Whether they are moved like the camera, too.

    Returns:
        ``(n*t, 3, 4, h, w)``, previous and next frame moved like the camera, then both moved like
        the pixels, or the latter two only, each less the frame, dtype of ``frames``; zero where
        there is no such frame.
    """
    t = frames.shape[1]
    differences = []
    for step, flow in zip((-1, 1), flows_of_frames(flows_forward, flows_backward)[:2], strict=True):
        others = frames[:, (torch.arange(t) + step).clamp(0, t - 1)]
        parts = (part.flatten(0, 1) for part in (frames, others, flow))
        differences.append(in_chunks(partial(_differences, camera=camera), *parts))
    return torch.stack(differences, dim=3).flatten(2, 3)


def _differences(frames: Tensor, others: Tensor, flow: Tensor, camera: bool) -> Tensor:
    """What ``others`` show instead, moved like camera and pixels, ``(b, 3, 1 or 2, h, w)``."""
    ways = [flow]
    if camera:
        ways.insert(0, of_camera(flow))
    moved = []
    for way in ways:
        moved.append(flow_warp(others, of_pixels(way), 'border') - frames)
    return torch.stack(moved, dim=2)


@torch.no_grad()
def path_deconvolutions(
    frames: Tensor,
    velocity: Tensor,
    gammas: Sequence[float],
    exposures: Sequence[float],
    iterations: Sequence[int],
) -> Tensor:
    """What Richardson and Lucy's method makes of frames whose shutter was open that long.

    Light, a power of the pixel values, is taken to be a mean along the path of each pixel,
    ``I = A x`` with ``(A x)(p) = (x(p - e v(p) / 3) + x(p) + x(p + e v(p) / 3)) / 3``. From
    ``x_0 = I`` it iterates ``x_(k+1) = z A(I / (A z))`` with ``z = x_k (x_k / x_(k-1))^a``, which
    goes the way of the last step a little further (Biggs and Andrews, 1997) and saves half of the
    steps; of that power its Pade approximant is taken, in a tenth of the time. More points of the
    path take longer and make the result no better, only softer. A is its own transpose only where
    neighbours move alike: at the edges of moving things the result is not to be trusted.

    Args:
        frames: ``(b, 3, h, w)`` in [0, 1].
        velocity: ``(b, 2, h/4, w/4)`` in pixels of that size a frame, v.
        gammas: Powers to assume: about 2.2 for a camera, 1 where pixel values were averaged.
        exposures: Exposures e to assume for each of them, in frames.
        iterations: Steps after which to look at the result, ascending, for each exposure.

    Returns:
        ``(b, 3, len(gammas) * len(exposures) * len(iterations), h, w)``, the results less the
        frames, dtype of ``frames``; carries no gradient. Where nothing moves it is zero.
    """
    full = of_pixels(velocity)
    values = frames.float().clamp(_DARKEST, 1)
    all_ends = [_path_ends(full, exposure) for exposure in exposures]
    results = []
    for gamma, ends in product(gammas, all_ends):
        light, darkest = values**gamma, _DARKEST**gamma
        last = now = light
        for step in range(1, max(iterations) + 1):
            ahead = _power(now, last).mul_(now).clamp_(darkest, 1)
            last, now = now, _corrected(ahead, light, ends, ends, darkest)
            if step in iterations:
                results.append(now ** (1 / gamma) - values)
    return torch.stack(results, dim=2).to(frames.dtype)


def path_corrections(
    frames: Tensor,
    restored: Tensor,
    velocity: Tensor,
    assumed: Sequence[tuple[float, float]],
    skew: float = 0.0,
) -> Tensor:
    """What a step of Richardson and Lucy's method would still change in restored frames.

    Where they, blurred along the path, give the frames, that is nothing.

    Args:
        frames: ``(b, 3, h, w)``, blurry frames in [0, 1].
        restored: Same shape.
        velocity: See :func:`path_deconvolutions`.
        assumed: Pairs of gamma and exposure, see there.
        skew: How uneven the motion is, q in (-1, 1): until the middle of the exposure e a pixel
            moves by ``(1 - q) e v / 2``, after it by ``(1 + q) e v / 2``.

    Returns:
        ``(b, 3, len(assumed), h, w)``, dtype of ``frames``.
    """
    full = of_pixels(velocity)
    values, now = (x.float().clamp(_DARKEST, 1) for x in (frames, restored))
    exposures = {exposure for _, exposure in assumed}
    ends = {e: _path_ends(full, e, skew) for e in exposures}
    origins = {e: _path_ends(full, e, -skew) for e in exposures} if skew else ends
    results = []
    for gamma, e in assumed:
        better = _corrected(now**gamma, values**gamma, ends[e], origins[e], _DARKEST**gamma)
        results.append(better ** (1 / gamma) - now)
    return torch.stack(results, dim=2).to(frames.dtype)


@torch.no_grad()
def path_contrast(frames: Tensor, velocity: Tensor, spans: Sequence[float]) -> Tensor:
    """How frames differ along the motion and across it: it tells how long the shutter was open.

    With ``a_s`` the mean of ``|I(p + s v(p) / 2) - I(p - s v(p) / 2)|^2`` over moving pixels, and
    ``b_s`` the same at right angles to the motion: sharp pictures differ alike in all directions,
    blur takes away from ``a_s`` where s is not larger than the exposure. In units of the motion
    that looks the same for every speed. A camera has one exposure for all frames, so that the
    moving pixels of a clip tell most; those of a frame tell whether it is blurred like the others:
    where motion is jerky or frames are repeated, it is not. (Absolute values tell less: blur makes
    an edge lower but wider.)

    Args:
        frames: ``(n, t, 3, h, w)`` in [0, 1], I.
        velocity: ``(n, t, 2, h/4, w/4)`` in pixels of that size a frame, v.
        spans: Times s between the two places, in frames.

    Returns:
        ``(n, t, 4 * len(spans))`` float32, of the clip and of the frame: ``log(a_s / b_s)``,
        ``log(a_s / a_last)`` for all s but the last, and the share of pixels that move; carries no
        gradient. One position of each 4 x 4 block stands for all.
    """
    n, t, _, h, w = frames.shape
    image = frames.flatten(0, 1).float()
    along = 4 * velocity.flatten(0, 1).float()
    moving = (along.norm(dim=1) > _MOVING).float()  # (n*t, h/4, w/4)
    columns = 4 * torch.arange(w // 4, dtype=along.dtype, device=along.device) + 1.5
    rows = 4 * torch.arange(h // 4, dtype=along.dtype, device=along.device)[:, None] + 1.5
    sums = []
    for way in (along, torch.stack((-along[:, 1], along[:, 0]), dim=1)):
        for span in spans:
            seen = []
            for sign in (-1, 1):
                x, y = (sign * span / 2 * way).unbind(1)
                grid = sampling_grid(columns + x, rows + y, h, w)
                with no_autocast(image):
                    seen.append(F.grid_sample(image, grid, 'bilinear', 'border', False))
            difference = (seen[0] - seen[1]).square().mean(1)
            sums.append((difference * moving).sum((1, 2)))
    frame = torch.stack((*sums, moving.sum((1, 2))), dim=1).unflatten(0, (n, t))
    clip = frame.sum(1, keepdim=True).expand(-1, t, -1)
    size = moving[0].numel()
    return torch.cat((_contrast(clip, t * size), _contrast(frame, size)), dim=2)


def _contrast(sums: Tensor, size: int) -> Tensor:
    """See ``path_contrast``: of sums of squared differences, and the number that moves, of size."""
    count = sums[..., -1:]
    a, b = (sums[..., :-1] / (count + _FEW) + _LITTLE).log().chunk(2, dim=-1)
    return torch.cat((a - b, (a - a[..., -1:])[..., :-1], count / size), dim=-1)


def of_camera(way: Tensor) -> Tensor:
    """The camera's way, taken to be a translation: the median of ``(b, 2, h, w)``, same shape."""
    return way.flatten(2).median(dim=2).values[:, :, None, None].expand_as(way)


def in_blocks(way: Tensor, block: int) -> Tensor:
    """A way and its length, in blocks of so many pixels: ``(b, 3, h, w)`` of ``(b, 2, h, w)``."""
    return torch.cat((way, way.norm(dim=1, keepdim=True)), dim=1) / block


def of_pixels(way: Tensor) -> Tensor:
    """A way ``(b, 2, h/4, w/4)``, in pixels of that size, of each pixel: ``(b, 2, h, w)``."""
    return 4 * F.interpolate(way.float(), scale_factor=4, mode='bilinear')


def _path_ends(velocity: Tensor, exposure: float, skew: float = 0.0) -> Tensor:
    """Both places to look at for each pixel: what was there passes by it.

    Args:
        velocity: ``(b, 2, h, w)`` in pixels a frame.
        exposure: In frames.
        skew: See :func:`path_corrections`.

    Returns:
        Grid ``(b, 2*h, w, 2)``, one place above the other.
    """
    h, w = velocity.shape[-2:]
    columns = torch.arange(w, dtype=velocity.dtype, device=velocity.device)
    rows = torch.arange(h, dtype=velocity.dtype, device=velocity.device)[:, None]
    x, y = (exposure / 3 * velocity).unbind(1)
    ends = [sampling_grid(columns + s * x, rows + s * y, h, w) for s in (-1 - skew, 1 - skew)]
    return torch.cat(ends, dim=1)


def _power(now: Tensor, last: Tensor) -> Tensor:
    """``(now / last) ** _MOMENTUM``, half a percent off where one is twice the other."""
    both, change = now + last, now - last
    more = torch.add(both, change, alpha=_MOMENTUM)
    return more.div_(both.sub_(change, alpha=_MOMENTUM))


def _corrected(
    estimate: Tensor, light: Tensor, ends: Tensor, origins: Tensor, darkest: float
) -> Tensor:
    """``x A'(I / (A x))`` of an estimate x of the sharp light, A' the transpose of A.

    The thirds of both means cancel: ``S'(I / (S x))`` with ``S = 3 A`` is the same.
    """
    ratio = light / _sum_along(estimate, ends)
    return (estimate * _sum_along(ratio, origins)).clamp_(darkest, 1)


def _sum_along(image: Tensor, ends: Tensor) -> Tensor:
    """S of an image ``(b, 3, h, w)``: bilinear, the border repeated."""
    with no_autocast(image):
        seen = F.grid_sample(image, ends, padding_mode='border', align_corners=False)
    before, after = seen.chunk(2, dim=2)
    return (before + image).add_(after)
