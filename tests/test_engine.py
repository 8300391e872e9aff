"""From a command line to a config."""

from pathlib import Path

import pytest
import torch

import bsst_plugin.engine as engine
from bsst_plugin.engine import load_config

CONFIGS = Path(__file__).resolve().parents[1] / 'configs'


@pytest.mark.parametrize('gpu', [False, True])
def test_half_precision_is_for_gpus(monkeypatch, gpu):
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: gpu)
    cfg = load_config(str(CONFIGS / 'bsstnet_gopro.py'))
    assert cfg.optim_wrapper.type == ('AmpOptimWrapper' if gpu else 'OptimWrapper')
    assert ('loss_scale' in cfg.optim_wrapper) == gpu
    for loop in (cfg.val_cfg, cfg.test_cfg):
        assert loop.fp16 == gpu


@pytest.mark.parametrize('fast', [False, True])
def test_bfloat16_is_for_processors_that_have_it(monkeypatch, capsys, fast):
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: False)
    monkeypatch.setattr(engine, 'bfloat16_is_fast', lambda: fast)
    cfg = load_config(str(CONFIGS / 'bsstnet_small_together.py'))
    assert cfg.optim_wrapper.type == ('BFloat16OptimWrapper' if fast else 'OptimWrapper')
    assert 'dtype' not in cfg.optim_wrapper
    assert ('bfloat16' if fast else 'float32') in capsys.readouterr().out
