from types import SimpleNamespace

import pytest
import torch
from mmengine.config import Config
from torch import nn

from bsst_plugin.errors import UserError
from bsst_plugin.hooks import FrozenStart, PretrainedPart


@pytest.fixture
def runner():
    model = nn.ModuleDict(dict(flow=nn.Conv2d(1, 2, 1), rest=nn.Conv2d(2, 1, 1)))
    model.flow.register_buffer('mean', torch.ones(1))
    return SimpleNamespace(model=model, iter=0, cfg=Config(dict(load_from=None)))


@pytest.fixture
def weights(tmp_path):
    path = tmp_path / 'flow.pth'
    torch.save({'weight': torch.full((2, 1, 1, 1), 7.0), 'bias': torch.full((2,), 8.0)}, path)
    return str(path)


def test_training_starts_from_the_weights_of_the_part(runner, weights):
    rest = runner.model.rest.weight.clone()
    PretrainedPart('flow', weights).before_train(runner)
    assert (runner.model.flow.weight == 7).all() and (runner.model.flow.bias == 8).all()
    assert runner.model.flow.mean == 1
    assert torch.equal(runner.model.rest.weight, rest)


@pytest.mark.parametrize('state', [dict(iter=5), dict(cfg=Config(dict(load_from='x.pth')))])
def test_a_checkpoint_goes_before_the_weights_of_the_part(runner, weights, state):
    before = runner.model.flow.weight.clone()
    vars(runner).update(state)
    PretrainedPart('flow', weights).before_train(runner)
    assert torch.equal(runner.model.flow.weight, before)


@pytest.mark.parametrize('state', [{'weight': torch.zeros(2, 1, 1, 1)}, {'other': torch.zeros(1)}])
def test_weights_of_another_network_are_refused(runner, weights, state):
    if 'other' in state:
        state |= torch.load(weights, weights_only=True)
    torch.save(state, weights)
    with pytest.raises(UserError, match=f'{weights}.*not the weights of flow'):
        PretrainedPart('flow', weights).before_train(runner)


def test_parameters_are_frozen_at_first(runner):
    hook, model = FrozenStart(['flow'], iters=2), runner.model
    optimizer = torch.optim.Adam(model.parameters(), lr=0.1)
    changed = []
    for runner.iter in range(4):
        hook.before_train_iter(runner, batch_idx=0)
        before = model.flow.weight.clone(), model.rest.weight.clone()
        optimizer.zero_grad()
        model.rest(model.flow(torch.ones(1, 1, 2, 2))).square().sum().backward()
        optimizer.step()
        after = model.flow.weight, model.rest.weight
        changed.append(tuple(not torch.equal(*pair) for pair in zip(before, after, strict=True)))
    assert changed == [(False, True)] * 2 + [(True, True)] * 2


def test_names_without_parameters_are_refused(runner):
    with pytest.raises(UserError, match='spynet'):
        FrozenStart(['spynet'], iters=2).before_train_iter(runner, batch_idx=0)
