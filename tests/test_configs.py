"""Every config builds, without files and without a network."""

from pathlib import Path

import pytest
from mmagic.registry import MODELS
from mmagic.utils import register_all_modules
from mmengine.config import Config

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
    generator = MODELS.build(cfg.model).generator
    assert size(generator.encoder) and size(generator.decoder)
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
    tiles = {key: cfg.model.test_cfg[key] for key in ('tile', 'overlap', 'merge')}
    assert tiles == dict(tile=256, overlap=64, merge='cut')


def test_alignment_of_table_6():
    alignment = build('ablation/table6_sffa.py').generator.backbone.alignments[0]
    assert alignment.__class__.__name__ == 'FlowGuidedAlignment'
