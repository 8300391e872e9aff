import math

import cv2
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from bsst_plugin.models.blur_path import (
    CELL,
    DIRECTIONS,
    LENGTHS,
    BlurPath,
    angles,
    derivative_products,
    likeliest_path,
    path_evidence,
    path_table,
)
from bsst_plugin.models.motion_path import flows_of_frames, frame_velocity

PATHS = DIRECTIONS * len(LENGTHS)


@pytest.fixture
def frames():
    return torch.rand(2, 3, 20, 28)


def smoothed_derivatives(frame):
    """Derivatives in x and y of the brightness, by OpenCV, and how far they go over the frame."""
    grey = cv2.cvtColor(frame.permute(1, 2, 0).numpy(), cv2.COLOR_RGB2GRAY)
    kernel = np.array([[0.25, 0.5, 0.25]])
    grey = cv2.sepFilter2D(grey, -1, kernel, kernel, borderType=cv2.BORDER_REPLICATE)
    margin = 40
    wide = cv2.copyMakeBorder(grey, *(margin,) * 4, cv2.BORDER_REPLICATE)
    half = np.array([[-0.5, 0, 0.5]])
    return cv2.filter2D(wide, -1, half), cv2.filter2D(wide, -1, half.T), margin


def test_products_are_those_of_a_loop(frames):
    result = derivative_products(frames)
    h, w = frames.shape[-2:]
    assert result.shape == (2, DIRECTIONS, 1 + len(LENGTHS), 3, 4)
    for b, direction, k in [(0, 0, 0), (0, 3, 2), (1, 8, 5), (1, 11, 8), (0, 6, 8)]:
        angle = math.pi * direction / DIRECTIONS
        dx, dy, margin = smoothed_derivatives(frames[b])
        derivative = math.cos(angle) * dx + math.sin(angle) * dy
        length = 0 if k == 0 else LENGTHS[k - 1]
        x, y = round(length * math.cos(angle)), round(length * math.sin(angle))
        for row in range(3):
            for column in range(4):
                values = []
                for i in range(CELL * row, min(CELL * row + CELL, h)):
                    for j in range(CELL * column, min(CELL * column + CELL, w)):
                        ahead = (i + (y + 1) // 2 + margin, j + (x + 1) // 2 + margin)
                        behind = (ahead[0] - y, ahead[1] - x)
                        values.append(derivative[ahead] * derivative[behind])
                found = result[b, direction, k, row, column]
                assert float(found) == pytest.approx(np.mean(values), abs=1e-6)


@pytest.mark.parametrize('direction', [0, 3, 6, 9])
@pytest.mark.parametrize('length', [7, 14])
def test_blur_shows_in_direction_and_length(direction, length):
    # What the estimate rests on: along a path the derivative is weak, and of opposite sign at its
    # other end.
    x, y = length * math.cos(angles()[direction]), length * math.sin(angles()[direction])
    kernel = np.zeros((31, 31), np.float32)
    for part in np.linspace(-0.5, 0.5, 101):
        kernel[round(15 + part * y), round(15 + part * x)] += 1
    texture = np.random.default_rng(0).random((128, 128, 3)).astype(np.float32)
    blurry = cv2.filter2D(cv2.GaussianBlur(texture, (0, 0), 1), -1, kernel / kernel.sum())
    products = derivative_products(torch.from_numpy(blurry).permute(2, 0, 1)[None])
    products = products[0, :, :, 3:-3, 3:-3].mean((2, 3))
    assert int(products[:, 0].argmin()) == direction
    correlations = products[direction, 1:] / products[direction, 0]
    assert int(correlations.argmin()) == LENGTHS.index(length)
    assert float(correlations.min()) < -0.2


def test_evidence_is_its_description(frames):
    n, t, h, w = 1, 2, 5, 7
    flows = torch.randn(2, n, t - 1, 2, h, w)
    result = path_evidence(frames[None], *flows)
    assert result.shape == (2, 48, DIRECTIONS, 3, 4)
    products = derivative_products(frames)
    noise = 1e-5

    def around(cell, side):
        row, column = cell
        rows = slice(max(0, row - side // 2), row + side // 2 + 1)
        return rows, slice(max(0, column - side // 2), column + side // 2 + 1)

    flow_of = [frame_velocity(*flows), *flows_of_frames(*flows)[:2]]
    for frame, direction, cell in [(0, 0, (0, 0)), (1, 5, (2, 3)), (1, 10, (1, 2))]:
        expected = []
        areas = [around(cell, side) for side in (1, 3, 9)] + [(slice(None), slice(None))]
        for area in areas:
            mean = products[(slice(None), slice(None), slice(None), *area)].mean((3, 4))
            contrast = mean[frame, :, 0] + noise
            expected += (mean[frame, direction, 1:] / contrast[direction]).tolist()
            expected.append(math.log(contrast[direction] / contrast.mean()))
            expected.append(math.log(1000 * contrast.mean()) / 3)
        for area in areas[:1:-1]:
            mean = products[(slice(None), slice(None), slice(None), *area)].mean((3, 4))
            contrast = mean[:, direction, 0] + noise
            expected.append(math.log(contrast[frame] / contrast.mean()))
        u = torch.tensor([math.cos(angles()[direction]), math.sin(angles()[direction])])
        for flow in flow_of:
            rows, columns = (slice(2 * i, 2 * i + 2) for i in cell)
            way = flow[0, frame, :, rows, columns].mean((1, 2)) / 2  # in cells
            expected += [abs(float(way @ u)), abs(float(way[1] * u[0] - way[0] * u[1]))]
        found = result[frame, :, direction, cell[0], cell[1]]
        torch.testing.assert_close(found, torch.tensor(expected), atol=1e-4, rtol=1e-4)


def test_all_directions_are_treated_alike(randomise):
    network = randomise(BlurPath(channels=6, num_blocks=2))
    evidence = torch.randn(1, 48, DIRECTIONS, 3, 4)
    logits, turned = network(evidence), network(evidence.roll(2, dims=2))
    assert logits.shape == (1, 1 + PATHS, 3, 4)
    torch.testing.assert_close(turned[:, 0], logits[:, 0])
    expected = logits[:, 1:].unflatten(1, (DIRECTIONS, -1)).roll(2, dims=1).flatten(1, 2)
    torch.testing.assert_close(turned[:, 1:], expected)


def test_the_likeliest_path_is_a_mean_of_neighbours():
    torch.manual_seed(1)
    logits, velocity = 2 * torch.randn(2, 1 + PATHS, 2, 3), torch.randn(2, 2, 4, 5)
    logits[0, 0, 0, 0] = 20
    path, likely = likeliest_path(logits, velocity)
    assert path.shape == likely.shape == (2, 2, 4, 5)
    shares = logits.softmax(1)
    for b, row, column in [(0, 1, 0), (0, 2, 3), (1, 0, 4), (1, 3, 2), (0, 0, 0)]:
        here = shares[b, :, row // 2, column // 2]
        best = int(here.argmax())
        assert likely[b, 0, row, column] == here[best] and likely[b, 1, row, column] == here[0]
        if best == 0:
            assert not path[b, :, row, column].any()
            continue
        direction, length = divmod(best - 1, len(LENGTHS))
        total = long = double = 0
        for turn in (-1, 0, 1):
            for i in range(max(0, length - 1), min(len(LENGTHS), length + 2)):
                share = float(here[1 + (direction + turn) % DIRECTIONS * len(LENGTHS) + i])
                total += share
                long += share * LENGTHS[i]
                angle = 2 * math.pi * (direction + turn) / DIRECTIONS
                double += share * LENGTHS[i] * np.exp(1j * angle)
        found = complex(*path[b, :, row, column].tolist())
        expected = long / total / 4 * np.exp(0.5j * np.angle(double))
        along = complex(*velocity[b, :, row, column].tolist())
        if (expected * along.conjugate()).real < 0:
            expected = -expected
        assert found == pytest.approx(expected, abs=1e-4)


def test_the_table_has_all_lengths_of_each_direction():
    table = path_table().unflatten(0, (DIRECTIONS, len(LENGTHS)))
    torch.testing.assert_close(table.norm(dim=2), torch.tensor(LENGTHS).float().expand(12, -1))
    found = torch.atan2(table[..., 1], table[..., 0])
    expected = torch.tensor(angles())[:, None].expand(-1, len(LENGTHS))
    torch.testing.assert_close(found, expected)


@given(n=st.integers(1, 2), t=st.integers(1, 3), h=st.integers(1, 9), w=st.integers(1, 9))
@settings(max_examples=15, deadline=None)
def test_any_size(n, t, h, w):
    frames, flows = torch.rand(n, t, 3, 4 * h, 4 * w), torch.randn(2, n, t - 1, 2, h, w)
    evidence = path_evidence(frames, *flows)
    assert evidence.shape == (n * t, 48, DIRECTIONS, -(-h // 2), -(-w // 2))
    assert evidence.isfinite().all()
    velocity = frame_velocity(*flows).flatten(0, 1)
    path, likely = likeliest_path(BlurPath(4, 1)(evidence), velocity)
    assert path.shape == likely.shape == (n * t, 2, h, w)
    assert path.isfinite().all() and (path.norm(dim=1) <= max(LENGTHS) / 4 + 1e-4).all()


def test_nothing_is_told_by_one_colour():
    evidence = path_evidence(torch.full((1, 2, 3, 16, 16), 0.5), *torch.zeros(2, 1, 1, 2, 4, 4))
    assert evidence.isfinite().all()
    correlations = evidence[:, :8]
    assert not correlations.any()
    assert F.relu(evidence).max() == 0
