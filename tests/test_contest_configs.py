"""The configs of `make compare` and `make ablation`: equal terms, and what each row leaves out."""

from pathlib import Path

import pytest
import torch
from mmagic.registry import MODELS
from mmagic.utils import register_all_modules
from mmengine.config import Config

from bsst_plugin.analysis.complexity import count_parameters

CONTEST = Path(__file__).resolve().parents[1] / 'configs' / 'contest'
METHODS = sorted(path.stem for path in CONTEST.glob('*_1m.py'))
ROWS = sorted(path.stem for path in CONTEST.glob('ablation/table*.py'))


@pytest.fixture(autouse=True, scope='module')
def all_modules():
    """As the commands do."""
    register_all_modules(init_default_scope=True)


def load(name):
    return Config.fromfile(CONTEST / f'{name}.py')


def build(name):
    with torch.device('meta'):
        return MODELS.build(load(name).model.generator)


@pytest.mark.parametrize('name', METHODS)
def test_methods_have_a_million_parameters(name):
    assert len(METHODS) == 5
    assert 0.95e6 < count_parameters(build(name)) < 1.05e6


@pytest.mark.parametrize('name', [*METHODS, *(f'ablation/{row}' for row in ROWS)])
def test_only_the_generator_differs(name):
    cfg, first = load(name), load('bsstnet_1m')
    for one in (cfg, first):
        one.model.pop('generator')
        one.pop('channels', None)
    assert cfg.to_dict() == first.to_dict()
    assert cfg.randomness.seed == 0 and cfg.param_scheduler is None


@pytest.mark.parametrize('row', ROWS)
def test_rows_differ_from_the_small_network_as_those_of_the_paper_from_theirs(row):
    def changes(path, base):
        one, other = (Config.fromfile(p).model.generator.to_dict() for p in (path, base))
        different = {key for key in one if one[key] != other.get(key)}
        if {'neck'} <= different and one['neck']:
            return one['neck']['selection'], different
        if 'backbone' in different and one['backbone']:
            kind = one['backbone']['alignment']['type']
            return kind, different
        return {key: one[key] for key in different if one[key] is None}, different

    configs = CONTEST.parent
    small = changes(CONTEST / 'ablation' / f'{row}.py', CONTEST / 'bsstnet_1m.py')
    name = row.removesuffix('_1m')
    large = changes(configs / 'ablation' / f'{name}.py', configs / 'bsstnet_dvd.py')
    assert small == large
