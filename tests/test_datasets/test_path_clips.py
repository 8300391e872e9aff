import math

import cv2
import numpy as np
import pytest
import torch
from mmagic.registry import MODELS

from bsst_plugin.datasets.clip_files import Rendered
from bsst_plugin.datasets.path_clips import (
    PathClip,
    explained,
    path_errors,
    path_loss,
    turned,
)
from bsst_plugin.models.blur_path import DIRECTIONS, LENGTHS, path_evidence, path_table

PATHS = DIRECTIONS * len(LENGTHS)


def texture(h, w, seed=0):
    image = np.random.default_rng(seed).random((h, w, 3)).astype(np.float32)
    return cv2.GaussianBlur(image, (0, 0), 1.5)


def blurred(image, x, y):
    """A mean of shifted images, by OpenCV."""
    h, w = image.shape[:2]
    total = 0
    for part in np.linspace(-0.5, 0.5, 81):
        matrix = np.array([[1, 0, part * x], [0, 1, part * y]])
        total = total + cv2.warpAffine(image, matrix, (w, h), borderMode=cv2.BORDER_REPLICATE)
    return total / 81


def tensor(image):
    return torch.from_numpy(image).permute(2, 0, 1)[None]


@pytest.mark.parametrize('path', [0, 13, 38, 62, 95])
def test_the_true_path_explains_a_blur_best(path):
    sharp = texture(88, 104)
    x, y = path_table()[path].tolist()
    errors = path_errors(tensor(blurred(sharp, x, y)), tensor(sharp))
    assert errors.shape == (1, 1 + PATHS, 11, 13)
    inner = errors[0, :, 3:-3, 3:-3].mean((1, 2))
    assert int(inner.argmin()) == 1 + path
    assert inner[1 + path] < inner[0] - 3


def test_without_blur_none_is_best_and_its_error_that_of_a_loop():
    sharp, other = tensor(texture(20, 28)), tensor(texture(20, 28, seed=1))
    assert (path_errors(sharp, sharp).argmin(1) == 0).all()
    weights = torch.tensor([0.299, 0.587, 0.114]).view(3, 1, 1)
    squares = (weights * (sharp - other)[0]).sum(0).square()
    found = path_errors(other, sharp)[0, 0]
    for row in range(3):
        for column in range(4):
            cells = []
            for i in range(max(0, row - 1), min(3, row + 2)):
                for j in range(max(0, column - 1), min(4, column + 2)):
                    cells.append(squares[8 * i : 8 * i + 8, 8 * j : 8 * j + 8].mean())
            expected = 10 * math.log10(float(torch.stack(cells).mean()) + (0.7 / 255) ** 2)
            assert float(found[row, column]) == pytest.approx(expected, abs=1e-3)


@pytest.fixture
def judged():
    torch.manual_seed(0)
    logits, errors = torch.randn(2, 1 + PATHS, 3, 4), 3 * torch.randn(2, 1 + PATHS, 3, 4) - 30
    errors[0, 0, 0, 0] = -5  # of more than the most that counts
    return logits, errors


def test_loss_and_figures_are_those_of_a_loop(judged):
    logits, errors = judged
    total = loss = likeliest = best = 0.0
    for place in np.ndindex(2, 3, 4):
        b, row, column = place
        answer, error = logits[b, :, row, column].double(), errors[b, :, row, column].double()
        weight = min(0.1, 10 ** (float(error[0]) / 20))
        share = torch.exp(-0.6 * error) / torch.exp(-0.6 * error).sum()
        chance = answer.exp() / answer.exp().sum()
        total += weight
        loss -= weight * float((share * chance.log()).sum())
        likeliest += weight * float(error[0] - error[answer.argmax()])
        best += weight * float(error[0] - error.min())
    assert float(path_loss(logits, errors)) == pytest.approx(loss / total, rel=1e-4)
    figures = [float(value) for value in explained(logits, errors)]
    assert figures == pytest.approx([likeliest / total, best / total], rel=1e-4)


def clip_of(sharp, shift):
    """Evidence and errors of two frames, blurred along ``shift``, that move twice as far."""
    blurry = blurred(sharp, *shift)
    moved = torch.tensor(shift)[:, None, None].expand(1, 1, 2, 16, 16) / 2
    frames, sharp_frames = (tensor(image).expand(2, -1, -1, -1) for image in (blurry, sharp))
    return path_evidence(frames[None], -moved, moved), path_errors(frames, sharp_frames)


def test_turned_clips_are_those_of_turned_frames():
    sharp, (x, y) = texture(64, 64), (8.0, 3.0)
    results = {}
    for seed in range(40):
        torch.manual_seed(seed)
        results[tuple((torch.rand(2) < 0.5).tolist())] = seed
    assert len(results) == 4
    for (mirrored, exchanged), seed in results.items():
        image, shift = sharp, [x, y]
        if mirrored:
            image, shift = image[:, ::-1], [-shift[0], shift[1]]
        if exchanged:
            image, shift = image.transpose(1, 0, 2), shift[::-1]
        torch.manual_seed(seed)
        found = turned(*clip_of(sharp, [x, y]))
        expected = clip_of(np.ascontiguousarray(image), shift)
        errors, true = (part[..., 2:-2, 2:-2] for part in (found[1], expected[1]))
        torch.testing.assert_close(errors, true, atol=0.3, rtol=0)
        # Distances are rounded to pixels, halves upwards: correlations are nearly the same.
        seen, true = (part[:, [8, 18, 28], :, 2:-2, 2:-2] for part in (found[0], expected[0]))
        torch.testing.assert_close(seen, true, atol=0.02, rtol=0)
        seen, true = (part[:, 42:] for part in (found[0], expected[0]))
        torch.testing.assert_close(seen, true, atol=1e-5, rtol=0)


def test_a_clip_has_the_evidence_of_its_frames(tiny_generator):
    config = tiny_generator(
        encoder=dict(type='CompactEncoder', channels=8, num_blocks=1),
        decoder=dict(type='CompactDecoder', channels=8, num_blocks=1),
    )
    frames = torch.randint(256, (2, 1, 3, 3, 32, 32), dtype=torch.uint8)
    flows = torch.randn(2, 1, 2, 2, 8, 8)
    clip = PathClip.of(MODELS.build(config), Rendered(*frames, *flows))
    expected = path_evidence(frames[0].float() / 255, *flows)
    torch.testing.assert_close(clip.evidence(), expected, atol=0.02, rtol=0.01)
    errors = path_errors(*(part[0].float() / 255 for part in frames))
    assert torch.equal(clip.errors[0], errors.half())
    assert clip.products.dtype == torch.float16 and clip.products.shape[:3] == (1, 3, DIRECTIONS)
