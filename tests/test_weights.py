"""The weights that ship with the package."""

import hashlib
from pathlib import Path

import numpy as np
import pytest
import torch

from bsst_plugin.checkpoints.load import DEFAULT_CHECKPOINT, load_network
from bsst_plugin.datasets import BlurSettings, find_photographs, random_scene, render_clip
from bsst_plugin.models import BSSTNet

CARD = Path(__file__).resolve().parents[1] / 'docs' / 'small_model.md'


@pytest.fixture(scope='module')
def loaded():
    return load_network()


def test_are_small_and_those_of_the_card():
    content = DEFAULT_CHECKPOINT.read_bytes()
    assert len(content) < 10e6
    assert hashlib.sha256(content).hexdigest() in CARD.read_text()


def test_are_a_bsstnet_with_all_its_parts(loaded):
    network = loaded.network
    assert isinstance(network, BSSTNet)
    assert network.backbone is not None and network.neck is not None
    assert sum(p.numel() for p in network.parameters()) < 2e6


def test_no_machine_s_folders_are_in_them(loaded):
    assert '/root' not in loaded.config and '/home' not in loaded.config


def psnr(frames, target):
    return (-10 * np.log10(np.square(frames - target).mean((1, 2, 3)))).mean()


@torch.no_grad()
def test_deblur_photographs_that_they_were_not_trained_on(loaded):
    settings = BlurSettings(num_frames=6, size=128, slowest=0.3, pieces=(0, 0))
    gains, unharmed = [], []
    for index, photo in enumerate(find_photographs(None, settings)['test']):
        rng = np.random.default_rng((11, index))
        scene = random_scene(photo.load(), [], settings, rng)
        blurry, sharp = (clip.astype(np.float32) / 255 for clip in render_clip(scene, settings))
        for frames, done in ((blurry, gains), (sharp, unharmed)):
            lqs = torch.from_numpy(frames).permute(0, 3, 1, 2)[None]
            out = loaded.network(lqs)[0].clamp(0, 1).permute(0, 2, 3, 1).numpy()
            before = psnr(frames, sharp) if frames is blurry else 0
            done.append(psnr(out, sharp) - before)
    assert np.mean(gains) > 1.0
    assert np.mean(unharmed) > 38


@torch.no_grad()
def test_long_clips_come_out_as_short_ones(loaded):
    """What BBFP hands on from frame to frame could grow: it was trained on 8 frames."""
    shape = BlurSettings(num_frames=48, size=96, slowest=0.3, pieces=(0, 0))
    photo = find_photographs(None, shape)['test'][0].load()
    scene = random_scene(photo, [], shape, np.random.default_rng(5))
    blurry, sharp = (clip.astype(np.float32) / 255 for clip in render_clip(scene, shape))
    gains = []
    for length in (8, 48):
        lqs = torch.from_numpy(blurry[:length]).permute(0, 3, 1, 2)[None]
        out = loaded.network(lqs)[0, :7].clamp(0, 1).permute(0, 2, 3, 1).numpy()
        gains.append(psnr(out, sharp[:7]) - psnr(blurry[:7], sharp[:7]))
    assert abs(gains[1] - gains[0]) < 0.5
