from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

SCRIPT = Path(__file__).resolve().parents[2] / 'tools' / 'demo_train.py'


class Stop(Exception):
    """What the runner would get."""


def test_a_cpu_does_not_test_in_half_precision(load_script, monkeypatch, tmp_path):
    script = load_script(SCRIPT)

    def stop(cfg):
        raise Stop(cfg)

    monkeypatch.setattr(script, 'render_demo_clips', lambda _: None)
    monkeypatch.setattr(script, 'Runner', SimpleNamespace(from_cfg=stop))
    arguments = ['demo_train.py', '--data', 'clips', '--work-dir', str(tmp_path)]
    monkeypatch.setattr('sys.argv', arguments)
    with pytest.raises(Stop) as stopped:
        script.main()
    (cfg,) = stopped.value.args
    # In bfloat16 many CPUs take ten times as long.
    assert cfg.test_cfg.fp16 == torch.cuda.is_available()
    assert cfg.work_dir == str(tmp_path) and cfg.test_dataloader.dataset.data_root == 'clips'
