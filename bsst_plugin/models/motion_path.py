"""Where a moving pixel was during the exposure, and what the frame shows there.

What blurs a pixel lies along its path while the shutter is open. To first order the path is a
straight line, whose direction and length the flows to the two neighbouring frames tell.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from bsst_plugin.ops.precision import no_autocast
from bsst_plugin.ops.warp import sampling_grid


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


@torch.no_grad()
def path_differences(frames: Tensor, velocity: Tensor, times: Sequence[float]) -> Tensor:
    """How frames differ from each pixel along its path.

    ``D_s(x) = I(x + s v(x)) - I(x)``, bilinear, the border repeated outside the frame. Where
    nothing moves all of it is zero.

    Args:
        frames: ``(b, 3, h, w)``, I.
        velocity: ``(b, 2, h/4, w/4)`` in pixels of that size a frame, v.
        times: Times s before and after the middle of the exposure, in frames.

    Returns:
        ``(b, 3, len(times), h, w)``, dtype of ``frames``; carries no gradient.
    """
    b, _, h, w = frames.shape
    full = 4 * F.interpolate(velocity.float(), size=(h, w), mode='bilinear')
    step = full.permute(0, 2, 3, 1) * full.new_tensor([2 / w, 2 / h])  # as grids count
    columns = torch.arange(w, dtype=step.dtype, device=step.device).expand(h, w)
    rows = torch.arange(h, dtype=step.dtype, device=step.device)[:, None].expand(h, w)
    here = sampling_grid(columns, rows, h, w)  # (h, w, 2)
    at = step.new_tensor(list(times)).view(1, -1, 1, 1, 1)
    grid = torch.addcmul(here, step[:, None], at)  # (b, times, h, w, 2)
    with no_autocast(frames):
        seen = F.grid_sample(
            frames.float(), grid.flatten(1, 2), padding_mode='border', align_corners=False
        ).view(b, -1, len(times), h, w)
    return (seen - frames[:, :, None]).to(frames.dtype)
