"""From a command line to a config."""

from pathlib import Path

import pytest
import torch

from bsst_plugin.engine import load_config

CONFIG = Path(__file__).resolve().parents[1] / 'configs/bsstnet_gopro.py'


@pytest.mark.parametrize('gpu', [False, True])
def test_half_precision_is_for_gpus(monkeypatch, gpu):
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: gpu)
    cfg = load_config(str(CONFIG))
    assert cfg.optim_wrapper.type == ('AmpOptimWrapper' if gpu else 'OptimWrapper')
    assert ('loss_scale' in cfg.optim_wrapper) == gpu
    for loop in (cfg.val_cfg, cfg.test_cfg):
        assert loop.fp16 == gpu
