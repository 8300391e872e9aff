"""The configs of the methods that BSSTNet is compared with: recipes, and that they train."""

from pathlib import Path

import pytest
import torch
from mmagic.models.editors.basicvsr.basicvsr_net import SPyNet
from mmagic.registry import MODELS
from mmagic.utils import register_all_modules
from mmengine.config import Config
from mmengine.runner import Runner

from bsst_plugin.datasets import BlurSettings, render_dataset

CONFIGS = Path(__file__).resolve().parents[1] / 'configs'
METHODS = ('basicvsrpp', 'nafnet', 'sst', 'vrt')


@pytest.fixture(autouse=True, scope='module')
def all_modules():
    """As the commands do."""
    register_all_modules(init_default_scope=True)


def load(name):
    return Config.fromfile(CONFIGS / 'baselines' / f'{name}.py')


@pytest.mark.parametrize('dataset', ['gopro', 'dvd'])
@pytest.mark.parametrize('method', METHODS)
def test_data_and_protocol_are_those_of_bsstnet(method, dataset):
    cfg, ours = load(f'{method}_{dataset}'), Config.fromfile(CONFIGS / f'bsstnet_{dataset}.py')
    assert cfg.model.type == ours.model.type
    for key in ('test_cfg', 'data_preprocessor'):
        assert cfg.model[key] == ours.model[key]
    for key in ('val_dataloader', 'test_dataloader', 'val_evaluator', 'test_evaluator'):
        assert cfg[key] == ours[key]
    for key in ('default_hooks', 'visualizer'):
        assert cfg[key] == ours[key]
    for key in ('val_cfg', 'test_cfg'):  # in the precision that its authors evaluate in
        assert cfg[key] == dict(ours[key], fp16=method == 'sst')
    ours, theirs = ours.train_dataloader.dataset, cfg.train_dataloader.dataset
    for key in ('type', 'data_root', 'data_prefix'):
        assert theirs[key] == ours[key]
    # Only the size of the crops may differ.
    assert [step.type for step in theirs.pipeline] == [step.type for step in ours.pipeline]


@pytest.mark.parametrize(
    'name, frames, crop, iters, optimizer',
    [
        ('basicvsrpp_gopro', 30, 256, 200_000, ('Adam', 1e-4)),
        ('basicvsrpp_dvd', 30, 256, 600_000, ('Adam', 1e-4)),
        ('nafnet_gopro', 1, 256, 400_000, ('AdamW', 1e-3)),
        ('nafnet_dvd', 1, 256, 400_000, ('AdamW', 1e-3)),
        ('vrt_gopro', 6, 192, 300_000, ('Adam', 4e-4)),
        ('vrt_dvd', 6, 192, 300_000, ('Adam', 4e-4)),
    ],
)
def test_training_is_that_of_the_authors(name, frames, crop, iters, optimizer):
    cfg = load(name)
    dataset = cfg.train_dataloader.dataset
    assert dataset.num_input_frames == frames
    crops = [step.gt_patch_size for step in dataset.pipeline if step.type == 'PairedRandomCrop']
    assert crops == [crop]
    assert (cfg.optim_wrapper.optimizer.type, cfg.optim_wrapper.optimizer.lr) == optimizer
    # The rate reaches its end when training does.
    assert cfg.train_cfg.max_iters == cfg.param_scheduler.T_max == iters


@pytest.mark.parametrize('dataset', ['gopro', 'dvd'])
def test_sst_is_bsstnet_that_takes_every_window(dataset):
    cfg, ours = load(f'sst_{dataset}'), Config.fromfile(CONFIGS / f'bsstnet_{dataset}.py')
    assert cfg.model.generator.neck.pop('selection') == dict(type='DenseSelection')
    assert ours.model.generator.neck.pop('selection').type == 'BlurAwareSelection'
    assert cfg.to_dict() == ours.to_dict()


def test_parts_of_the_models_with_rates_of_their_own():
    for name, keys in (('basicvsrpp', ['spynet']), ('vrt', ['spynet', 'deform'])):
        cfg = load(f'{name}_gopro')
        with torch.device('meta'):
            names = [key for key, _ in MODELS.build(cfg.model).named_parameters()]
        frozen = next(hook['keys'] for hook in cfg.custom_hooks if hook['type'] == 'FrozenStart')
        assert frozen == keys == sorted(cfg.optim_wrapper.paramwise_cfg.custom_keys, reverse=True)
        assert all(any(key in name for name in names) for key in keys)


SMALL = dict(
    basicvsrpp=dict(mid_channels=16, num_blocks=1),
    nafnet=dict(
        generator=dict(
            mid_channels=4,
            enc_blk_nums=[1, 1],
            middle_blk_num=1,
            dec_blk_nums=[1, 1],
        )
    ),
    vrt=dict(
        channels=8,
        refine_channels=8,
        depths=[2] * 7,
        refine_depths=[1, 1, 1],
        num_heads=2,
        window=(2, 2, 2),
        deform_groups=2,
    ),
)


@pytest.mark.parametrize(
    'method', [pytest.param('basicvsrpp', marks=pytest.mark.slow), 'nafnet', 'vrt']
)
def test_a_small_one_trains(method, tmp_path):
    size = 256 if method == 'basicvsrpp' else 32
    data = tmp_path / 'data'
    render_dataset(
        data,
        clips={'train': 1, 'test': 1},
        settings=BlurSettings(num_frames=3, size=size),
        progress=False,
    )
    spynet = SPyNet(pretrained=None).state_dict()
    torch.save(spynet, tmp_path / 'spynet.pth')
    cfg = load(f'{method}_gopro')
    cfg.merge_from_dict(
        {
            'work_dir': str(tmp_path / 'work'),
            'model.generator': SMALL[method],
            'train_dataloader.dataset.data_root': str(data),
            'train_dataloader.dataset.num_input_frames': min(
                2, cfg.train_dataloader.dataset.num_input_frames
            ),
            'train_dataloader.batch_size': 1,
            'train_dataloader.num_workers': 0,
            'train_dataloader.persistent_workers': False,
            'train_cfg.max_iters': 2,
        }
    )
    for step in cfg.train_dataloader.dataset.pipeline:
        if step.type == 'PairedRandomCrop':
            step.gt_patch_size = size
    for hook in cfg.get('custom_hooks', []):
        if hook.type == 'PretrainedPart':
            hook.checkpoint = str(tmp_path / 'spynet.pth')
    for key in [key for key in cfg if key.startswith(('val_', 'test_'))]:
        cfg.pop(key)
    runner = Runner.from_cfg(cfg)
    before = {name: value.clone() for name, value in runner.model.state_dict().items()}
    runner.train()
    after = runner.model.state_dict()
    changed = {name for name, value in before.items() if not torch.equal(value, after[name])}
    trained = {name for name, _ in runner.model.named_parameters()}
    frozen = {name for name in trained if 'spynet' in name or 'deform' in name}
    assert changed - frozen and (method == 'nafnet') == (not frozen)
    # SPyNet comes from its file, and waits.
    for name, value in spynet.items():
        if method != 'nafnet':
            assert torch.equal(after[f'generator.spynet.{name}'], value)
