"""The training loop, with a model that only notes what it sees."""

import pytest
import torch
from mmagic.registry import DATASETS
from mmengine.model import BaseModel
from mmengine.runner import Runner
from torch import nn
from torch.utils.data import Dataset, Subset

from bsst_plugin.datasets.resumable import seeded_sample
from bsst_plugin.errors import UserError

READ: list[int] = []
NUMBERS = dict(type='NotedNumbers')


@DATASETS.register_module()
class NotedNumbers(Dataset):
    """Notes which sample is read."""

    seed = 0

    def __len__(self):
        return 11

    def __getitem__(self, item):
        with seeded_sample(self.seed, item) as index:
            READ.append(index)
            return dict(inputs=torch.cat((torch.tensor([float(index)]), torch.rand(2))))


class Note(BaseModel):
    """Keeps its inputs."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(3))
        self.seen = []

    def forward(self, inputs, mode='loss'):
        inputs = torch.stack(inputs)
        self.seen.append(inputs)
        return dict(loss=((inputs - self.weight) ** 2).mean())


def train(folder, max_iters, resume=False, sampler='ResumableSampler', dataset=NUMBERS):
    model = Note()
    runner = Runner(
        model,
        work_dir=str(folder),
        train_dataloader=dict(
            batch_size=2,
            num_workers=0,
            sampler=dict(type=sampler),
            dataset=dataset,
        ),
        train_cfg=dict(type='ResumableTrainLoop', max_iters=max_iters),
        optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.1)),
        default_hooks=dict(checkpoint=dict(type='CheckpointHook', interval=1, by_epoch=False)),
        custom_hooks=[],
        default_scope='mmagic',
        randomness=dict(seed=0),
        resume=resume,
        log_level='ERROR',
        experiment_name=f'{folder.name}_{max_iters}',
    )
    runner.train()
    return torch.stack(model.seen), model.weight.detach()


def test_resumed_run_goes_on_at_once(tmp_path):
    seen, weight = train(tmp_path / 'straight', 9)
    assert len(seen) == 9 and len(seen.flatten(0, 1).unique(dim=0)) == 18
    train(tmp_path / 'stopped', 6)
    READ.clear()
    seen_after, weight_after = train(tmp_path / 'stopped', 9, resume=True)
    assert torch.equal(seen_after, seen[6:])
    assert torch.equal(weight_after, weight)
    assert len(READ) == 6  # nothing that was seen before is read again


def test_other_sampler_is_refused(tmp_path):
    with pytest.raises(UserError, match='train_dataloader.sampler.*InfiniteSampler'):
        train(tmp_path, 2, sampler='InfiniteSampler')


def test_dataset_that_knows_no_places_is_refused(tmp_path):
    with pytest.raises(UserError, match='train_dataloader.dataset.*Subset'):
        train(tmp_path, 2, dataset=Subset(NotedNumbers(), range(5)))
