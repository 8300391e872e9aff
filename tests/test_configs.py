"""Every config builds, without files and without a network."""

import math
import re
from pathlib import Path

import pytest
import torch
import yaml
from mmagic.registry import MODELS, PARAM_SCHEDULERS
from mmagic.utils import register_all_modules
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper

CONFIGS = Path(__file__).resolve().parents[1] / 'configs'
PATHS = sorted(path for path in CONFIGS.rglob('*.py') if '_base_' not in str(path))


@pytest.fixture(autouse=True, scope='module')
def all_modules():
    """As the commands do."""
    register_all_modules(init_default_scope=True)


def build(name):
    return MODELS.build(Config.fromfile(CONFIGS / name).model)


def size(module):
    return 0 if module is None else sum(p.numel() for p in module.parameters())


@pytest.mark.parametrize('path', PATHS, ids=lambda path: str(path.relative_to(CONFIGS)))
def test_config_builds(path):
    cfg = Config.fromfile(path)
    assert size(MODELS.build(cfg.model).generator)
    for split in ('train', 'val', 'test'):
        assert cfg[f'{split}_dataloader'].dataset.data_root.startswith('data/')


def test_released_network_has_the_released_size():
    generator = build('bsstnet_gopro_released.py').generator
    assert round((size(generator) - size(generator.flow_estimator)) / 1e6, 2) == 38.46
    assert generator.neck.selection.__class__.__name__ == 'ReleasedSelection'


def test_ablations_leave_out_what_they_say():
    full = build('ablation/table5d_full.py').generator
    neither, no_bbfp, no_bsst = (
        build(f'ablation/table5{name}.py').generator
        for name in ('a_neither', 'b_bsst_only', 'c_bbfp_only')
    )
    assert size(neither.backbone) == size(neither.neck) == size(no_bbfp.backbone) == 0
    assert size(no_bbfp.neck) == size(full.neck) and no_bsst.neck is None
    assert size(no_bsst.backbone) == size(full.backbone)


@pytest.mark.parametrize(
    'name, kind, settings',
    [
        ('table5d_full', 'BlurAwareSelection', dict(query_ratio=0.5, key_ratio=0.5)),
        ('table7_random50', 'RandomSelection', dict(ratio=0.5)),
        ('table7_all', 'DenseSelection', {}),
        ('table7_top25', 'BlurAwareSelection', dict(query_ratio=0.25, key_ratio=0.25)),
        ('table4_sst_48', 'DenseSelection', {}),
        ('table4_bsst_48', 'BlurAwareSelection', dict(theta=0.3)),
    ],
)
def test_ablations_select_as_they_say(name, kind, settings):
    selection = build(f'ablation/{name}.py').generator.neck.selection
    assert selection.__class__.__name__ == kind
    assert {key: getattr(selection, key) for key in settings} == settings


PAPER = ('bsstnet_demo', 'bsstnet_dvd', 'bsstnet_gopro', 'table')
PAPER_PATHS = [path for path in PATHS if path.stem.startswith(PAPER)]


@pytest.mark.parametrize('path', PAPER_PATHS, ids=lambda path: path.stem)
def test_evaluation_is_the_protocol_of_the_paper(path):
    cfg = Config.fromfile(path)
    for split in ('val', 'test'):
        dataset = cfg[f'{split}_dataloader'].dataset
        # The network sees whole windows, of 48 frames everywhere but in Table 4.
        length = int(path.stem.split('_')[-1]) if 'table4' in path.stem else 48
        assert dataset.type == 'VideoWindows'
        assert dataset.num_frames == cfg.model.test_cfg.num_frames == length
        assert [metric.type for metric in cfg[f'{split}_evaluator']] == ['DeblurringMetrics']
        assert cfg[f'{split}_cfg'].fp16
    tiles = {key: cfg.model.test_cfg[key] for key in ('tile', 'overlap', 'merge')}
    assert tiles == dict(tile=256, overlap=64, merge='cut')


def test_alignment_of_table_6():
    alignment = build('ablation/table6_sffa.py').generator.backbone.alignments[0]
    assert alignment.__class__.__name__ == 'FlowGuidedAlignment'


# Names of parameters that learn more slowly, in the paper's network and in the released one.
SLOW = {
    r'backbone\..*\.conv_offset\.': 0.25,
    r'neck\.(soft_split|soft_composition|compose_conv)\.': 0.5,
}


@pytest.mark.parametrize(
    'name, base_lr, refiner',
    [
        ('bsstnet_gopro', 4e-4, None),
        ('bsstnet_gopro_1gpu', 4e-4, None),
        ('bsstnet_gopro_released', 4e-4, 0.1),
        ('bsstnet_dvd_released', 4e-4, 0.25),
        ('bsstnet_gopro_finetune', 5e-5, 0.1),
        ('bsstnet_dvd_finetune', 5e-5, 0.25),
    ],
)
def test_learning_rates_reach_the_parameters(name, base_lr, refiner):
    cfg = Config.fromfile(CONFIGS / f'{name}.py')
    model = MODELS.build(cfg.model)
    assert cfg.optim_wrapper.type == 'AmpOptimWrapper'
    del cfg.optim_wrapper['loss_scale']  # mixed precision needs a GPU
    wrapper = build_optim_wrapper(model, dict(cfg.optim_wrapper, type='OptimWrapper'))
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    found = {}
    for group in wrapper.optimizer.param_groups:
        (parameter,) = group['params']
        if parameter.requires_grad:
            found[names[id(parameter)].removeprefix('generator.')] = group['lr'] / base_lr
    slow = SLOW if refiner is None else {r'flow_refiner\.': refiner, **SLOW}
    for pattern in slow:
        assert any(re.match(pattern, name) for name in found), pattern
    for name, factor in found.items():
        expected = [value for pattern, value in slow.items() if re.match(pattern, name)]
        assert factor == pytest.approx(expected[0] if expected else 1), name


@pytest.mark.parametrize(
    'name, steps, lr, warmup, iterations_per_step',
    [
        ('bsstnet_gopro', 600_000, 4e-4, 1_000, 1),
        ('bsstnet_dvd', 600_000, 4e-4, 1_000, 1),
        ('bsstnet_bsd', 600_000, 4e-4, 1_000, 1),
        ('bsstnet_gopro_1gpu', 600_000, 4e-4, 1_000, 8),
        ('bsstnet_gopro_finetune', 20_000, 5e-5, 500, 1),
    ],
)
def test_schedule(name, steps, lr, warmup, iterations_per_step):
    cfg = Config.fromfile(CONFIGS / f'{name}.py')
    assert cfg.train_cfg.max_iters == steps * iterations_per_step
    assert cfg.optim_wrapper.get('accumulative_counts', 1) == iterations_per_step
    # What is not in a checkpoint, gradients that add up, is complete when it is written.
    assert cfg.default_hooks.checkpoint.interval % iterations_per_step == 0
    # The same curve in a hundredth of the iterations.
    optimizer = torch.optim.AdamW(
        [torch.nn.Parameter(torch.zeros(1))], cfg.optim_wrapper.optimizer.lr
    )
    schedulers = []
    for settings in cfg.param_scheduler:
        shorter = {
            key: value // (100 * iterations_per_step) if key in ('begin', 'end', 'T_max') else value
            for key, value in settings.items()
        }
        schedulers.append(PARAM_SCHEDULERS.build(dict(shorter, optimizer=optimizer)))
    steps, warmup = steps // 100, warmup // 100
    for step in range(steps):
        if step < warmup:  # its last step has the full rate
            expected = lr * (1e-3 + (1 - 1e-3) * step / (warmup - 1))
        else:
            progress = (step - warmup) / (steps - warmup)
            expected = 1e-7 + (lr - 1e-7) * (1 + math.cos(math.pi * progress)) / 2
        assert optimizer.param_groups[0]['lr'] == pytest.approx(expected, rel=2e-3), step
        optimizer.step()
        for scheduler in schedulers:
            scheduler.step()
    assert optimizer.param_groups[0]['lr'] == pytest.approx(1e-7, rel=0.1)


@pytest.mark.parametrize('name', ['bsstnet_gopro', 'bsstnet_dvd', 'bsstnet_bsd'])
def test_recipe(name):
    cfg = Config.fromfile(CONFIGS / f'{name}.py')
    wrapper, loader = cfg.optim_wrapper, cfg.train_dataloader
    settings = {key: wrapper.optimizer[key] for key in ('type', 'betas', 'weight_decay')}
    assert settings == dict(type='AdamW', betas=(0.9, 0.99), weight_decay=0)
    assert wrapper.clip_grad == dict(max_norm=0.01)
    assert loader.batch_size == 1 and cfg.auto_scale_lr.base_batch_size == 8
    assert loader.dataset.num_input_frames == 24
    steps = {step.type: step for step in loader.dataset.pipeline}
    assert steps['PairedRandomCrop'].gt_patch_size == 256
    assert {'Flip', 'RandomTransposeHW'} <= set(steps)
    assert cfg.default_hooks.checkpoint.save_best == 'PSNR'
    # What is seen in the optimizer for one of them holds for all.
    assert wrapper == Config.fromfile(CONFIGS / 'bsstnet_gopro.py').optim_wrapper


def test_datasets():
    roots = {'gopro': 'data/gopro', 'dvd': 'data/dvd', 'bsd': 'data/bsd_3ms24ms'}
    for name, root in roots.items():
        cfg = Config.fromfile(CONFIGS / f'bsstnet_{name}.py')
        for split in ('train', 'val', 'test'):
            dataset = cfg[f'{split}_dataloader'].dataset
            folder = 'valid' if (name, split) == ('bsd', 'val') else split.replace('val', 'test')
            assert dataset.data_root == root
            assert dataset.data_prefix == dict(img=f'{folder}/blur', gt=f'{folder}/GT')
            assert dataset.metainfo.dataset_type == name


def test_finetuning_starts_from_the_released_network():
    for name in ('gopro', 'dvd'):
        released, finetune = (
            Config.fromfile(CONFIGS / f'bsstnet_{name}_{kind}.py')
            for kind in ('released', 'finetune')
        )
        assert finetune.model == released.model
        assert finetune.load_from == f'checkpoints/bsstnet_{name}_released.pth'
        assert finetune.train_dataloader == released.train_dataloader


def test_model_index_lists_the_configs():
    index = yaml.safe_load((CONFIGS.parent / 'model-index.yml').read_text())
    (metafile,) = index['Import']
    content = yaml.safe_load((CONFIGS.parent / metafile).read_text())
    listed = {model['Name']: model['Config'] for model in content['Models']}
    # And of the other methods those whose authors' weights are to be had under a link.
    paths = [*CONFIGS.glob('*.py'), *CONFIGS.glob('baselines/vrt_*.py')]
    assert listed == {path.stem: f'configs/{path.relative_to(CONFIGS)}' for path in paths}
    linked = {model['Name'] for model in content['Models'] if 'Weights' in model}
    assert linked == {'vrt_gopro', 'vrt_dvd'}
    collections = {collection['Name'] for collection in content['Collections']}
    assert {model['In Collection'] for model in content['Models']} <= collections
