import numpy as np
import pytest
import torch
from mmagic.registry import DATASETS, MODELS

from bsst_plugin.datasets.clip_files import Clip, ClipFiles, Rendered, ScaleClip, made, stack
from bsst_plugin.errors import UserError

T, SIZE = 3, 64


class Moving:
    """Clips of a texture that moves by three pixels a frame; counts how many were made."""

    made = 0

    def __init__(self, pipeline):
        assert pipeline == []

    def __getitem__(self, index):
        type(self).made += 1
        rng = np.random.default_rng(index)
        image = np.kron(rng.integers(0, 256, (20, 20, 3)), np.ones((4, 4, 1))).astype(np.uint8)
        frames = [image[:SIZE, 3 * k : 3 * k + SIZE] for k in range(T)]
        return {'img': frames, 'gt': [255 - frame for frame in frames]}


@pytest.fixture(autouse=True)
def dataset():
    DATASETS.register_module(module=Moving, force=True)
    Moving.made = 0


@pytest.fixture
def network(tiny_generator):
    compact = dict(channels=8, num_blocks=1)
    config = tiny_generator(
        encoder=dict(type='CompactEncoder', **compact),
        decoder=dict(type='CompactDecoder', **compact),
    )
    return MODELS.build(config)


@pytest.fixture
def files(network, tmp_path):
    def make(count, kind=Clip):
        return ClipFiles(tmp_path / 'clips', network, dict(type='Moving'), count, kind)

    return make


def same(a, b):
    assert type(a) is type(b)
    return all(torch.equal(x, y) for x, y in zip(vars(a).values(), vars(b).values(), strict=True))


def test_a_clip_is_made_once(files):
    first = files(2)[1]
    assert Moving.made == 1
    assert same(first, files(2)[1])
    assert Moving.made == 1


def test_nothing_is_decoded_when_all_clips_are_there(files, network):
    made(files(2))
    complete = ClipFiles(files(2).folder, network, dict(type='NoSuchDataset'), 2, Clip)
    assert all(map(same, made(complete), made(files(2))))
    with pytest.raises(KeyError, match='NoSuchDataset'):
        ClipFiles(files(2).folder, network, dict(type='NoSuchDataset'), 3, Clip)


def test_it_has_what_the_encoder_computes_of_the_frames(files, network):
    clip = files(1)[0]
    sample = Moving([])[0]
    assert np.array_equal(clip.blurry.permute(0, 2, 3, 1), np.stack(sample['img']))
    assert torch.allclose(clip.input + clip.target, torch.ones(T, 3, SIZE, SIZE))
    forward, backward, blur_map = network.motion(clip.input[None])
    assert torch.equal(forward[0], clip.flows_forward)
    assert torch.equal(backward[0], clip.flows_backward)
    assert torch.equal(blur_map[0], clip.blur_map)
    candidates, hints = network.encoder.evidence(clip.input, forward, backward)
    assert torch.equal(hints, clip.hints)
    assert torch.equal(candidates.half(), clip.candidates)


@torch.no_grad()
def test_it_has_what_a_network_makes_of_all_sizes(files, network, randomise):
    randomise(network)
    clip = files(1, ScaleClip)[0]
    frames = clip.input[None]
    padded, residual, features, _ = network.residual(frames)
    assert padded.shape == frames.shape
    assert residual.abs().max() > 1e-3
    torch.testing.assert_close(clip.residual, residual.half())
    torch.testing.assert_close(clip.features, features.half())
    for part, side in ((clip.halved, 2), (clip.quartered, 4)):
        smaller = torch.nn.functional.avg_pool2d(frames[0], side)[None]
        torch.testing.assert_close(part, network.residual_alone(smaller).half())


@pytest.mark.parametrize('kind', [Clip, ScaleClip])
def test_what_a_gpu_computes_is_left_out(files, network, kind):
    rendered = files(1, Rendered)[0]
    assert type(rendered) is Rendered
    (files(1).folder / '0.pt').unlink()
    assert same(kind.of(network, stack([rendered])), stack([files(1, kind)[0]]))


def test_all_are_made_in_their_order(files):
    clips = made(files(3))
    assert len(clips) == 3 and all(map(same, clips, map(files(3).__getitem__, range(3))))


def test_a_batch_is_a_stack(files):
    clips = [files(2)[index] for index in range(2)]
    batch = stack(clips)
    assert type(batch) is Clip
    assert all(same(batch.map(lambda part: part[i]), clips[i]) for i in range(2))  # noqa: B023


def test_a_crop_shows_the_same_place_in_all_parts():
    y, x = torch.meshgrid(torch.arange(24), torch.arange(32), indexing='ij')
    full = (100 * (y // 4) + x // 4).float()
    quarter = full[::4, ::4]
    parts = [full.expand(5, 3, 24, 32)] * 2 + [quarter.expand(4, 2, 6, 8)] * 2
    parts += [full.expand(5, 3, 16, 24, 32), quarter.expand(5, 7, 6, 8), quarter.expand(5, 1, 6, 8)]
    places = set()
    for _ in range(300):
        crop = Clip(*parts).crop(16)
        assert crop.blurry.shape == (5, 3, 16, 16) and crop.hints.shape == (5, 7, 4, 4)
        place = crop.hints[0, 0]
        places.add(int(place[0, 0]))
        for part in vars(crop).values():
            scale = part.shape[-1] // 4
            assert torch.equal(part[..., ::scale, ::scale], place.expand(*part.shape[:-2], 4, 4))
    assert places == {100 * y + x for y in range(3) for x in range(5)}


def test_frames_are_chosen_in_all_parts(files):
    clip = files(1)[0]
    chosen = clip.frames([2, 0])
    assert chosen.flows_forward.numel() == chosen.flows_backward.numel() == 0
    for name in ('blurry', 'sharp', 'candidates', 'hints', 'blur_map'):
        part = getattr(clip, name)
        assert torch.equal(getattr(chosen, name), torch.stack((part[2], part[0])))


def test_a_folder_that_cannot_be_written_is_named(files):
    files(1).folder.write_text('a file')
    with pytest.raises(UserError, match='0.pt: cannot be written'):
        files(1)[0]
