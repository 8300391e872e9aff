"""What the tests of the network share: a small network, random parameters, textured clips."""

import copy
import importlib.util
import os
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

import bsst_plugin.models  # noqa: F401  what tests name is registered, whichever runs alone

# MMagic imports albumentations, which would ask the network for a newer release of itself.
os.environ.setdefault('NO_ALBUMENTATIONS_UPDATE', '1')

TINY = dict(
    type='BSSTNet',
    encoder=dict(type='FrameEncoder', shallow_channels=16, channels=8),
    flow_estimator=dict(type='DISFlow'),
    backbone=dict(
        type='BBFP',
        channels=8,
        num_branches=2,
        alignment=dict(type='BlurAwareAlignment', deform_groups=2),
    ),
    fusion=dict(
        type='SwinFusion',
        in_channels=24,
        channels=8,
        conv_groups=2,
        num_groups=1,
        num_heads=2,
        window=(2, 4, 4),
    ),
    neck=dict(
        type='BSST',
        channels=8,
        dim=16,
        depth=2,
        num_heads=2,
        window=(4, 4),
        pool=(2, 2),
        hidden_channels=4,
    ),
    decoder=dict(type='FrameDecoder', channels=8, shallow_channels=16, num_blocks=1),
)


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


@pytest.fixture(scope='session')
def tiny_generator():
    """Make the config of a BSSTNet of a few thousand parameters; arguments replace parts."""

    def make(**parts):
        return {**copy.deepcopy(TINY), **parts}

    return make


@pytest.fixture(scope='session')
def randomise():
    """Fill all parameters of a module, those that start at zero too."""

    def fill(module, seed=0):
        generator = torch.Generator().manual_seed(seed)
        for parameter in module.parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            fan_in = parameter[0].numel() if parameter.dim() > 1 else 4
            parameter.data = noise / fan_in**0.5
        return module

    return fill


@pytest.fixture(scope='session')
def moving_clip():
    """Make a clip (1, t, 3, h, w) of a texture that moves by ``step`` = (dx, dy) every frame."""

    def make(t, h, w, step, seed=0):
        noise = np.random.RandomState(seed).rand(3, h, w)
        texture = gaussian_filter(noise, (0, 2, 2), mode='wrap')
        texture = (texture - texture.min()) / (texture.max() - texture.min())
        frames = [np.roll(texture, (i * step[1], i * step[0]), axis=(1, 2)) for i in range(t)]
        return torch.from_numpy(np.stack(frames)).float()[None]

    return make


@pytest.fixture(scope='session')
def as_dict():
    """Spell out a window selection: (clip, row, column) of each place with its frames."""

    def convert(selection):
        return {
            tuple(place): (queries, keys)
            for place, queries, keys in zip(
                selection.places.tolist(),
                selection.query_frames.tolist(),
                selection.key_frames.tolist(),
                strict=True,
            )
        }

    return convert


@pytest.fixture(scope='session')
def load_script():
    """Import a file that is in no package, by its path in the repository; anew each time."""

    def load(path):
        path = Path(__file__).parents[1] / path
        spec = importlib.util.spec_from_file_location(path.stem, path)
        module = importlib.util.module_from_spec(spec)
        sys.modules[path.stem] = module  # where dataclasses look
        try:
            spec.loader.exec_module(module)
        finally:
            del sys.modules[path.stem]
        return module

    return load


@pytest.fixture(scope='session')
def formula(load_script):
    """The module that makes the weights and clips behind the parity fixtures."""
    return load_script('tests/data/parity/formula.py')


@pytest.fixture(scope='session')
def write_photo():
    """Write an image of random colours, with a round outline if ``alpha``."""

    def write(path, seed, h=48, w=60, alpha=False):
        rng = np.random.default_rng(seed)
        image = cv2.resize(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8), (w, h))
        if alpha:
            mask = np.zeros((h, w), np.uint8)
            cv2.circle(mask, (w // 2, h // 2), h // 3, 255, -1)
            image = np.dstack((image, mask))
        path.parent.mkdir(parents=True, exist_ok=True)
        assert cv2.imwrite(str(path), image)

    return write
