import json

import pytest
import torch
from torch import nn

from bsst_plugin.errors import UserError
from bsst_plugin.fit import Fit

STEPS = 20


@pytest.fixture
def fit(tmp_path):
    """What makes a training of two numbers, one of which is fixed, towards random ones."""

    def make(name='a.pth', steps=STEPS, lr=0.1):
        network = nn.Module()
        network.value = nn.Parameter(torch.zeros(()))
        network.fixed = nn.Parameter(torch.ones(()), requires_grad=False)
        return Fit(network, tmp_path / name, 'config', {'steps': steps}, steps, lr)

    return make


def run(fit, until=STEPS):
    """Train; the rates and the values after each step."""
    rates, values = [], []

    def loss():
        values.append(fit.network.value.item())
        rates.append(fit.optimizer.param_groups[0]['lr'])
        return (fit.network.value - torch.rand(())).square()

    for step in fit.steps(loss):
        fit.write({'step': step})
        if step >= until:
            break
    return rates, values


def test_the_rate_rises_and_falls(fit):
    rates, _ = run(fit(steps=100), 100)
    assert rates[0] == pytest.approx(0.05) and rates[1] == pytest.approx(0.1)
    assert all(rate == pytest.approx(0.1) for rate in rates[1:60])
    assert rates[79] == pytest.approx(0.05) and rates[99] == pytest.approx(0)


def test_the_written_weights_are_averages(fit, tmp_path):
    training = fit()
    _, values = run(training)
    values = [*values[1:], training.network.value.item()]
    average = values[0]  # it begins with the first ones
    for value in values[1:]:
        average += 0.5 * (value - average)
    state = torch.load(tmp_path / 'a.pth', weights_only=True)['state_dict']
    assert state['generator.value'].item() == pytest.approx(average, rel=1e-5)
    assert state['generator.fixed'].item() == 1
    lines = (tmp_path / 'a.jsonl').read_text().splitlines()
    assert [json.loads(line)['step'] for line in lines] == list(range(2, STEPS + 1, 2))


def test_averages_are_validated_as_they_are_used(fit):
    training = fit()
    assert training.network.training  # with dropout, if it has any
    assert not training.averaged.module.training


def test_interrupted_or_not_it_ends_the_same(fit, tmp_path):
    _, all_values = run(fit('a.pth'))
    _, first = run(fit('b.pth'), until=8)
    _, then = run(fit('b.pth'))
    assert first == all_values[:8] and then == all_values[8:]
    assert (tmp_path / 'a.jsonl').read_text() == (tmp_path / 'b.jsonl').read_text()


def test_other_options_do_not_go_on(fit):
    run(fit(), until=8)
    with pytest.raises(UserError, match=r'a\.state: begun with another config or other options'):
        fit(steps=30)


@pytest.mark.parametrize('name', ['a.pth', 'a.jsonl', 'a.clips'])
def test_what_is_there_stays(fit, tmp_path, name):
    (tmp_path / name).write_text('mine')
    with pytest.raises(UserError, match=f'{name}: exists already'):
        fit()
    assert (tmp_path / name).read_text() == 'mine'


def test_finished_it_leaves_weights_and_figures(fit, tmp_path):
    training = fit()
    training.clips.mkdir()
    (training.clips / '0.pt').write_text('')
    run(training)
    training.finish()
    assert sorted(path.name for path in tmp_path.iterdir()) == ['a.jsonl', 'a.pth']
