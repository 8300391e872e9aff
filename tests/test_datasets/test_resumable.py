"""Training data after an interruption."""

import random
import shutil
from itertools import islice

import cv2
import numpy as np
import pytest
import torch
from mmagic.utils import register_all_modules
from mmengine.dataset import InfiniteSampler
from torch.utils.data import DataLoader, Dataset

from bsst_plugin.datasets.resumable import ResumableSampler, SeededFramesDataset, seeded_sample

SIZE = 7


class RandomNumbers(Dataset):
    """Every sample is its index and a draw from each source of randomness."""

    def __init__(self, seed=0):
        self.seed = seed

    def __len__(self):
        return SIZE

    def __getitem__(self, item):
        with seeded_sample(self.seed, item) as index:
            return torch.tensor([index, random.random(), np.random.rand(), torch.rand(()).item()])


def loader(start=0, workers=0, seed=3):
    dataset = RandomNumbers()
    sampler = ResumableSampler(dataset, seed=seed)
    sampler.start = start
    return DataLoader(dataset, batch_size=2, sampler=sampler, num_workers=workers)


def batches(count, **kwargs):
    return torch.stack(list(islice(loader(**kwargs), count)))


def test_order_is_that_of_mmengine():
    ours = [index for index, _ in islice(ResumableSampler(range(SIZE), seed=5), 50)]
    assert ours == list(islice(InfiniteSampler(range(SIZE), seed=5), 50))


@pytest.mark.parametrize('workers', [0, 2])
def test_later_start_gives_what_would_have_come(workers):
    straight = batches(12)
    assert torch.equal(batches(12, workers=workers), straight)
    assert torch.equal(batches(5, start=14, workers=workers), straight[7:])
    assert torch.equal(batches(5, start=14), straight[7:])


def test_random_choices_differ_from_epoch_to_epoch():
    draws = batches(14).flatten(0, 1)
    of_one = draws[draws[:, 0] == 4]
    assert len(of_one) == 4
    for source in (1, 2, 3):
        assert len(of_one[:, source].unique()) == 4


def test_processes_share_the_samples(monkeypatch):
    whole = list(islice(ResumableSampler(range(SIZE), seed=1), 20))
    for rank in range(2):
        monkeypatch.setattr('mmengine.dataset.sampler.get_dist_info', lambda rank=rank: (rank, 2))
        sampler = ResumableSampler(range(SIZE), seed=1)
        sampler.start = 3
        assert list(islice(sampler, 7)) == whole[rank::2][3:]


def test_random_state_outside_is_untouched():
    def draw():
        return random.random(), np.random.rand(), torch.rand(()).item()

    random.seed(0), np.random.seed(0), torch.manual_seed(0)
    expected = draw()
    random.seed(0), np.random.seed(0), torch.manual_seed(0)
    RandomNumbers()[2, 9]
    assert draw() == expected


def test_seed_makes_other_choices():
    one, other = (RandomNumbers(seed)[1, 0] for seed in (0, 1))
    assert one[0] == other[0] == 1
    assert (one[1:] != other[1:]).all()


def test_index_alone_always_gives_the_same():
    dataset = RandomNumbers()
    assert torch.equal(dataset[3], dataset[3])


def test_crops_of_frames_follow_from_the_place(tmp_path):
    register_all_modules(init_default_scope=True)
    folder = tmp_path / 'blur' / 'clip'
    folder.mkdir(parents=True)
    for index in range(2):
        cv2.imwrite(
            str(folder / f'{index:05d}.png'), np.random.RandomState(0).rand(40, 40, 3) * 255
        )
    shutil.copytree(tmp_path / 'blur', tmp_path / 'GT')
    dataset = SeededFramesDataset(
        data_root=str(tmp_path),
        data_prefix=dict(img='blur', gt='GT'),
        num_input_frames=2,
        pipeline=[
            dict(type='GenerateSegmentIndices', interval_list=[1], filename_tmpl='{:05d}.png'),
            dict(type='LoadFrames', key='img'),
            dict(type='LoadFrames', key='gt'),
            dict(type='SetValues', dictionary=dict(scale=1)),
            dict(type='PairedRandomCrop', gt_patch_size=16),
        ],
    )
    one, again, other = (np.stack(dataset[item]['img']) for item in ((0, 5), (0, 5), (0, 6)))
    assert (one == again).all()
    assert (one != other).any()
