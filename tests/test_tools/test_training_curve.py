import json
from pathlib import Path

import cv2
import pytest

from bsst_plugin.cli import run

SCRIPT = Path(__file__).resolve().parents[2] / 'tools' / 'analysis' / 'training_curve.py'


@pytest.fixture(scope='module')
def script(load_script):
    return load_script(SCRIPT)


def log(folder, name, *entries):
    path = folder / name / 'vis_data' / 'scalars.json'
    path.parent.mkdir(parents=True)
    path.write_text('\n'.join(json.dumps(entry) for entry in entries))


def validation(step, psnr):
    return {'PSNR': psnr, 'input/PSNR': 30.0, 'step': step}


def test_resumed_and_continued_runs_are_one_curve(script, tmp_path, capsys):
    first, second = tmp_path / 'a', tmp_path / 'b'
    log(first, '2026_1', {'loss': 1.0, 'step': 100}, validation(200, 30.1), validation(400, 30.2))
    log(first, '2026_2', validation(400, 30.3), validation(600, 30.4))  # resumed
    log(second, '2026_3', validation(200, 30.75))
    assert [p[:2] for p in script.read_validations(first)] == [
        (200, 30.1),
        (400, 30.3),
        (600, 30.4),
    ]
    fit = tmp_path / 'fit.jsonl'
    fit.write_text(json.dumps(validation(50, 30.0)) + '\n{"PSNR": 3')  # killed while it wrote
    out = tmp_path / 'sub' / 'curve.png'
    script.main([str(fit), str(first), str(second), '--out', str(out)])
    assert cv2.imread(str(out)) is not None
    assert '5 validations, last gain +0.75 dB' in capsys.readouterr().out


def test_bad_input_is_one_line(script, tmp_path, capsys):
    for arguments, words in (
        ([tmp_path, '--out', tmp_path / 'new.png'], 'no validations'),
        ([tmp_path, '--out', SCRIPT], 'exists already'),
        ([tmp_path, '--out', tmp_path / 'curve.doc'], 'end it with .png'),
    ):
        with pytest.raises(SystemExit) as stop:
            run(lambda arguments=arguments: script.main([*map(str, arguments)]))
        error = capsys.readouterr().err
        assert stop.value.code == 1 and words in error and error.count('\n') == 1
