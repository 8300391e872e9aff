import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from mmagic.registry import MODELS
from skimage.metrics import peak_signal_noise_ratio

from bsst_plugin.cli import run
from bsst_plugin.datasets import BlurSettings, Layer, Scene, mean_kernel, render_clip, to_linear

SCRIPT = Path(__file__).resolve().parents[2] / 'tools' / 'demo.py'


@pytest.fixture(scope='module')
def script(load_script):
    return load_script(SCRIPT)


@pytest.fixture
def fresh(tiny_generator, tmp_path):
    """A checkpoint of a network that has learned nothing: it leaves frames as they are."""
    generator = tiny_generator()
    state = {f'generator.{k}': v for k, v in MODELS.build(generator).state_dict().items()}
    path = tmp_path / 'fresh.pth'
    config = f"model = dict(type='VideoDeblurrer', generator={generator})"
    torch.save(dict(meta=dict(cfg=config), state_dict=state), path)
    return str(path)


def test_tables_and_pictures(script, fresh, tmp_path, capsys):
    out = tmp_path / 'out'
    sizes = ['--clips', '2', '--frames', '3', '--size', '64']
    script.main(['--checkpoint', fresh, '--vs', fresh, *sizes, '--out', str(out)])
    content = json.loads((out / 'results.json').read_text())
    rows = {row['name'].split(' ')[0]: row for row in content['rows']}
    assert set(rows) == {'blurry', 'Wiener', 'Richardson-Lucy', 'BSSTNet', 'fresh'}
    clips = list(script.clips(2, BlurSettings(num_frames=3, size=64)))
    expected = [
        min(peak_signal_noise_ratio(sharp, blurry), 10 * np.log10(255**2 * 256))
        for clip in clips
        for sharp, blurry in zip(clip.sharp, clip.blurry, strict=True)
    ]
    assert rows['blurry']['psnr'] == pytest.approx(np.mean(expected))
    assert rows['blurry']['gain'] == 0
    # It changes nothing, on blurry frames and on sharp ones.
    assert rows['BSSTNet']['psnr'] == rows['blurry']['psnr'] == rows['fresh']['psnr']
    assert min(content['sharp_input_psnr']) > 70
    assert cv2.imread(str(out / 'comparison.png')) is not None
    assert (out / 'comparison.mp4').stat().st_size > 0
    printed = capsys.readouterr().out
    assert (out / 'results.md').read_text().strip() in printed


def test_networks_of_one_name_are_refused(script, fresh, tmp_path, capsys):
    out = tmp_path / 'out'
    with pytest.raises(SystemExit) as stop:
        run(lambda: script.main(['--checkpoint', fresh, '--vs', fresh, fresh, '--out', str(out)]))
    assert stop.value.code == 1 and not out.exists()
    assert '--vs: give files of different names' in capsys.readouterr().err


def test_clips_show_test_photographs_only(script):
    names = {clip.name.split(' ')[0] for clip in script.clips(3, BlurSettings(2, 64))}
    assert names == {'astronaut', 'coffee', 'chelsea'}


def test_classical_methods_make_use_of_the_known_blur(script):
    rng = np.random.default_rng(0)
    photo = cv2.resize(rng.integers(0, 256, (40, 40, 3), np.uint8), (320, 320))

    def motion(times):
        maps = np.tile(np.eye(3), (len(times), 1, 1))
        maps[:, 0, 2] = 60 + 12 * times + 3 * times**2
        maps[:, 1, 2] = 60 + 7 * times
        return maps

    settings = BlurSettings(num_frames=2, size=128)
    scene = Scene(Layer(to_linear(photo), motion))
    kernels = [mean_kernel(scene, settings, time) for time in range(2)]
    clip = script.Clip('noise', *render_clip(scene, settings), kernels)
    turned = script.Clip('noise', clip.blurry, clip.sharp, [k[::-1] for k in kernels])
    wiener = script._classical('Wiener', script.wiener, 1.0, clip=True).use

    def quality(frames):
        return np.mean([script.psnr(*pair) for pair in zip(frames, clip.sharp, strict=True)])

    assert quality(wiener(clip)) > quality(clip.blurry) + 2
    assert quality(wiener(turned)) < quality(wiener(clip)) - 2


@pytest.mark.parametrize(
    'options, message',
    [
        (['--clips', '0'], '--clips and --frames must be at least 1'),
        (['--size', '8'], '--size at least 64'),
        (['--out', str(SCRIPT.parent)], 'exists already'),
        (['--checkpoint', 'missing.pth', '--out', 'nowhere'], 'missing.pth'),
    ],
)
def test_bad_input_is_one_line(script, capsys, options, message):
    with pytest.raises(SystemExit) as stop:
        run(lambda: script.main(options))
    error = capsys.readouterr().err
    assert stop.value.code == 1
    assert message in error and error.count('\n') == 1
