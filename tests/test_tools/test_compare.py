"""tools/compare.py on tiny networks and clips."""

import json
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from mmagic.registry import MODELS
from mmagic.utils import register_all_modules
from mmengine.config import Config
from mmengine.runner import Runner
from torch.nn.modules.module import register_module_forward_hook

from bsst_plugin.analysis.comparison import new_folder
from bsst_plugin.analysis.runs import Run, measure_run
from bsst_plugin.cli import run

REPO = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(REPO / 'tests'))
from tiny_config import render_tiny_dataset, write_tiny_config  # noqa: E402

NAFNET = """
_base_ = ['{repo}/configs/contest/nafnet_1m.py']
model = dict(generator=dict(generator=dict(
    mid_channels=4, enc_blk_nums=[1], middle_blk_num=1, dec_blk_nums=[1])))
test_dataloader = dict(dataset=dict(data_root='{data}'))
"""


@pytest.fixture(scope='module')
def script(load_script):
    return load_script(REPO / 'tools' / 'compare.py')


@pytest.fixture(scope='module')
def setup(tmp_path_factory):
    """Clips, two configs, and a checkpoint of the first."""
    folder = tmp_path_factory.mktemp('compare')
    data = render_tiny_dataset(folder / 'data', test_clips=2)
    write_tiny_config(folder / 'first.py', data)
    (folder / 'second.py').write_text(NAFNET.format(repo=REPO, data=data))
    register_all_modules(init_default_scope=True)
    model = MODELS.build(Config.fromfile(folder / 'first.py').model)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.02)
    torch.save({'state_dict': model.state_dict()}, folder / 'first.pth')
    return folder


@pytest.fixture(scope='module')
def compared(script, setup):
    """What it writes and says."""
    out = setup / 'new' / 'out'
    runs = [f'{setup / "first.py"}:{setup / "first.pth"}', str(setup / 'second.py')]
    script.main([*runs, '--out', str(out)])
    return out


def test_numbers(compared, setup):
    content = json.loads((compared / 'comparison.json').read_text())
    assert content['dataset'] == str(setup / 'data')
    assert content['windows'] == 2 and content['window_frames'] == 48
    assert content['counted_size'] == [64, 64]
    first, second = content['runs']
    assert [first['method'], second['method']] == ['BSSTNet', 'NAFNet']
    assert first['checkpoint'] == str(setup / 'first.pth') and second['checkpoint'] is None
    for key, best in (('PSNR', max), ('GaussianSSIM', max), ('gmac', min), ('seconds', min)):
        winner = best((first, second), key=lambda one: one[key])
        other = first if winner is second else second
        assert key in winner['best'] and key in other['second']
    assert first['published']['GoPro'] == {'PSNR': 35.98, 'SSIM': 0.9792}
    assert set(second['published']) == {'GoPro'}
    for one in (first, second):
        assert min(one['gmac'], one['seconds'], one['memory']) > 0
        assert one['scores']['input/PSNR'] == content['input']['PSNR']


def test_nothing_of_a_killed_run_is_left(tmp_path):
    partial = tmp_path / '.out.partial'
    partial.mkdir()
    (partial / 'old.png').write_text('')
    with new_folder(tmp_path / 'out') as folder:
        (folder / 'new.png').write_text('')
    assert [path.name for path in tmp_path.rglob('*')] == ['out', 'new.png']


@pytest.mark.parametrize('fp16', [False, True])
def test_precision_can_be_reduced(setup, fp16):
    """To what autocast takes on a CPU."""
    cfg = Config.fromfile(setup / 'second.py')
    run = Run('NAFNet', 'NAFNet', setup / 'second.py', cfg, None)
    windows = Runner.build_dataloader(dict(cfg.test_dataloader, batch_size=1), seed=0)
    found = []

    def remember(module, _, output):
        if isinstance(module, torch.nn.Conv2d):
            found.append(output.dtype)

    hook = register_module_forward_hook(remember)
    measure_run(run, windows, fp16=fp16)
    hook.remove()
    assert (torch.bfloat16 in found) == fp16


def test_psnr_is_that_of_the_test_command(compared, setup):
    """An independent pass over the same frames gives the same mean."""
    content = json.loads((compared / 'comparison.json').read_text())
    windows = []
    for video in sorted((setup / 'data/test/blur').iterdir()):
        scores = []
        for index in range(2, 3):  # 5 frames without the outer two at each end
            name = f'{index:05d}.png'
            blurry, sharp = (
                cv2.imread(str(setup / 'data/test' / kind / video.name / name)).astype(float)
                for kind in ('blur', 'GT')
            )
            scores.append(10 * np.log10(255**2 / ((blurry - sharp) ** 2).mean()))
        windows.append(np.mean(scores))
    assert content['input']['PSNR'] == pytest.approx(np.mean(windows), abs=1e-6)


def test_table(compared):
    lines = (compared / 'table.md').read_text().splitlines()
    assert lines[0].startswith('| method | PSNR (dB) |') and 'published, DVD' in lines[0]
    assert [line.split(' | ')[0] for line in lines[2:]] == [
        '| blurry input',
        '| BSSTNet',
        '| NAFNet',
    ]
    assert '**' not in lines[2] and '35.98 / 0.9792' in lines[3]
    for column in range(1, 8):
        cells = [line.split(' | ')[column] for line in lines[3:]]
        assert sum(cell.startswith('**') for cell in cells) in (1, 2)


def test_pictures(compared):
    pictures = sorted(compared.glob('frame_*.jpg'))
    assert len(pictures) == 2  # one of each video
    for path in (*pictures, compared / 'plot.png'):
        image = cv2.imread(str(path))
        assert image.shape[0] > 300 and image.std() > 10
    assert sorted(path.name for path in compared.parent.iterdir()) == ['out']


def test_chosen_frames(script, setup, compared):
    runs = [str(setup / 'second.py')]
    video = sorted((setup / 'data/test/blur').iterdir())[1].name
    script.main([*runs, '--out', str(setup / 'chosen'), '--frames', f'{video}:2'])
    assert [path.name for path in (setup / 'chosen').glob('*.jpg')] == [
        f'frame_0_{video}_00002.jpg'
    ]


def fails(script, capsys, *argv):
    """The single line that the command prints when it fails."""
    with pytest.raises(SystemExit) as stop:
        run(lambda: script.main([str(arg) for arg in argv]))
    assert stop.value.code == 1
    err = capsys.readouterr().err.strip()
    assert err.startswith('error: ') and '\n' not in err
    return err


def test_mistakes(script, setup, capsys, tmp_path):
    first, out = setup / 'first.py', tmp_path / 'out'
    end = ['--out', out]
    assert 'no.py: no such config' in fails(script, capsys, setup / 'no.py', *end)
    line = fails(script, capsys, first, f'{first}:{setup / "no.pth"}', *end)
    assert 'no.pth: no such checkpoint' in line
    line = fails(script, capsys, f'{setup / "second.py"}:{setup / "first.pth"}', *end)
    assert 'first.pth: a checkpoint of another network' in line
    (tmp_path / 'empty' / 'test' / 'blur').mkdir(parents=True)
    options = ['--cfg-options', f'test_dataloader.dataset.data_root={tmp_path / "empty"}']
    assert 'holds no clips' in fails(script, capsys, first, *end, *options)
    for frame in ('nothing:2', 'nothing', ''):
        line = fails(script, capsys, first, *end, '--frames', frame)
        assert f'--frames {frame}: no such VIDEO:INDEX; videos are 000_' in line
    assert not out.exists()


def test_nothing_is_overwritten(script, setup, capsys, tmp_path):
    (tmp_path / 'mine.txt').write_text('mine')
    for out in (tmp_path, tmp_path / 'mine.txt'):
        line = fails(script, capsys, setup / 'second.py', '--out', out)
        assert f'{out}: exists already' in line
    assert (tmp_path / 'mine.txt').read_text() == 'mine'
