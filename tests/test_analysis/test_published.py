from pathlib import Path

import pytest
from mmengine.config import Config

from bsst_plugin.analysis.published import PUBLISHED, method_of

CONFIGS = Path(__file__).resolve().parents[2] / 'configs'


@pytest.mark.parametrize(
    'path, method',
    [
        ('bsstnet_gopro.py', 'BSSTNet'),
        ('baselines/sst_dvd.py', 'SST'),
        ('baselines/basicvsrpp_gopro.py', 'BasicVSR++'),
        ('baselines/nafnet_gopro.py', 'NAFNet'),
        ('baselines/vrt_dvd.py', 'VRT'),
        ('contest/basicvsrpp_1m.py', 'BasicVSR++'),
        ('contest/vrt_1m.py', 'VRT'),
        ('ablation/table7_all.py', 'table7_all'),
        ('contest/ablation/table7_all_1m.py', 'table7_all'),
    ],
)
def test_method_of_a_config(path, method):
    path = CONFIGS / path
    assert method_of(Config.fromfile(path), path.stem) == method


def test_unknown_networks_keep_the_name_of_their_config():
    cfg = Config(dict(model=dict(generator=dict(type='Mine'))))
    assert method_of(cfg, 'mine_v2') == 'mine_v2'


def test_every_published_ablation_has_its_two_configs():
    rows = [name for name in PUBLISHED['DVD'] if name.startswith('table')]
    assert len(rows) == 8
    for row in rows:
        assert (CONFIGS / 'ablation' / f'{row}.py').is_file()
        assert (CONFIGS / 'contest' / 'ablation' / f'{row}_1m.py').is_file()
