"""``bsst-deblur`` as users type it."""

import importlib.metadata
import json
import os
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from bsst_plugin.commands import deblur_video as command

REPO = Path(__file__).resolve().parents[3]
sys.path.insert(0, str(REPO / 'tests'))
from video_files import leftovers, moving_frames, play, psnr, read, write_folder, write_video  # noqa: E402


@pytest.mark.parametrize(
    ('name', 'codec', 'sound', 'rotation'),
    [
        ('clip one ü.mp4', 'libx264', 'aac', 0),
        ('a.mkv', 'libx264', None, 90),
        ('a.avi', 'mpeg4', 'libmp3lame', 0),
        ('a.webm', 'libvpx-vp9', 'libopus', 0),
        ('a.mov', 'mjpeg', None, -90),
    ],
)
def test_video(tmp_path, deblur, short_clips, name, codec, sound, rotation):
    path = write_video(tmp_path / name, moving_frames(14), codec, sound, rotation)
    out = deblur(path)
    target = path.with_name(f'{path.stem}_deblurred{path.suffix}')
    before, after = play(path), play(target)
    assert len(after.frames) == 14 and after.sound == before.sound
    assert after.rotation == rotation and after.duration == pytest.approx(before.duration, abs=0.05)
    assert 20 < psnr(before.frames, after.frames) < 45
    assert out.count('\n') == 1 and str(target) in out
    assert '14 frames in' in out and 'GB' in out
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted((name, target.name))


@pytest.mark.parametrize('depth', [8, 16])
def test_folder(tmp_path, deblur, short_clips, depth):
    frames = moving_frames(8)
    folder = write_folder(tmp_path / 'in', frames)
    if depth == 16:
        for file in folder.iterdir():
            assert cv2.imwrite(str(file), cv2.imread(str(file)).astype(np.uint16) * 257)
    deblur(folder)
    out = tmp_path / 'in_deblurred'
    assert sorted(read(out)) == sorted(read(folder))
    images = [cv2.imread(str(file), cv2.IMREAD_UNCHANGED) for file in sorted(out.iterdir())]
    assert all(image.dtype == (np.uint8 if depth == 8 else np.uint16) for image in images)
    shown = [image[..., ::-1] / (1 if depth == 8 else 257) for image in images]
    assert 20 < psnr(frames, shown) < 45
    assert leftovers(tmp_path) == []


def test_video_to_folder_and_back(tmp_path, deblur, short_clips):
    path = write_video(tmp_path / 'a.mp4', moving_frames(4), rotation=90)
    deblur(path, tmp_path / 'new' / 'frames')
    assert sorted(read(tmp_path / 'new/frames')) == [f'{i:05d}.png' for i in range(4)]
    assert cv2.imread(str(tmp_path / 'new/frames/00000.png')).shape == (64, 48, 3)
    deblur(tmp_path / 'new/frames', tmp_path / 'b.mp4', '--fps', '30000/1001')
    assert float(play(tmp_path / 'b.mp4').rate) == pytest.approx(29.97, abs=0.001)


@pytest.mark.parametrize('count', [1, 2])
@pytest.mark.parametrize('size', [(1, 1), (33, 65)])
def test_few_and_small_frames(tmp_path, deblur, count, size):
    frames = [frame[: size[0], : size[1]] for frame in moving_frames(count, 80, 80)]
    folder = write_folder(tmp_path / 'in', frames)
    deblur(folder, tmp_path / 'out/')
    assert cv2.imread(str(tmp_path / 'out/0000.png')).shape == (*size, 3)
    path = write_video(tmp_path / 'a.mkv', frames, 'ffv1', pix_fmt='yuv444p')
    deblur(path, tmp_path / 'b.mkv', '--codec', 'ffv1')
    assert play(tmp_path / 'b.mkv').frames[0].shape == (*size, 3)


def test_output_may_come_after_options(tmp_path, checkpoint, short_clips):
    write_folder(tmp_path / 'in', moving_frames(3, 32, 32))
    out = tmp_path / 'out'
    command.deblur_video([str(tmp_path / 'in'), '--checkpoint', str(checkpoint), str(out)])
    assert len(list(out.iterdir())) == 3


def test_variable_rate(tmp_path, deblur, short_clips):
    times = [0, 40, 60, 200, 210, 500, 540, 580, 700]
    path = write_video(tmp_path / 'a.mp4', moving_frames(9), times=times)
    deblur(path, tmp_path / 'b.mp4')
    assert play(tmp_path / 'b.mp4').seconds == play(path).seconds


def test_existing_output_is_kept(tmp_path, deblur, fails, short_clips):
    path = write_video(tmp_path / 'a.mp4', moving_frames(4))
    target = tmp_path / 'b.mp4'
    target.write_text('mine')
    assert f'{target}: exists already; add --overwrite' in fails(path, target)
    assert target.read_text() == 'mine' and leftovers(tmp_path) == []
    deblur(path, target, '--overwrite')
    assert len(play(target).frames) == 4
    assert 'is the input' in fails(path, path, '--overwrite')
    folder = write_folder(tmp_path / 'in', moving_frames(3))
    assert 'is the input' in fails(folder, folder, '--overwrite')
    out = tmp_path / 'out'
    deblur(folder, out)
    first = read(out)
    assert 'exists already' in fails(folder, out)
    deblur(folder, out, '--overwrite')
    assert read(out) == first
    (out / 'thesis.txt').write_text('mine')
    assert 'holds thesis.txt' in fails(folder, out, '--overwrite')
    assert (out / 'thesis.txt').read_text() == 'mine'
    (tmp_path / 'empty').mkdir()
    deblur(folder, tmp_path / 'empty')
    assert read(tmp_path / 'empty') == first
    assert 'is not a folder' in fails(folder, f'{target}/')


@pytest.mark.parametrize('fast', [False, True])
def test_mixed_precision_where_the_cpu_has_it(
    tmp_path, monkeypatch, short_clips, deblur, fails, fast
):
    monkeypatch.setattr(command, 'bfloat16_is_fast', lambda: fast)
    source = write_folder(tmp_path / 'in', moving_frames(2, 16, 16))
    if fast:
        assert '2 frames' in deblur(source, tmp_path / 'out', '--amp')
    else:
        assert 'leave --amp out' in fails(source, tmp_path / 'out', '--amp')
        assert not (tmp_path / 'out').exists()


def test_show_preview_and_report(tmp_path, deblur, short_clips):
    path = write_video(tmp_path / 'a.mp4', moving_frames(9, 72, 96), rotation=90)
    shows = ('blur', 'windows', 'flow', 'compare')
    flags = [flag for show in shows for flag in ('--show', show)]
    deblur(path, tmp_path / 'b.mp4', *flags, '--preview', 2, '--report', tmp_path / 'r e p')
    before, after = play(path), play(tmp_path / 'b.mp4')
    played = {show: play(tmp_path / f'b_{show}.mp4') for show in shows}
    for show, video in played.items():
        width = 72 * (2 if show == 'compare' else 1)
        assert len(video.frames) == 9 and video.frames[0].shape == (96, width, 3), show
        assert video.seconds == after.seconds
    left = [frame[:, :72] for frame in played['compare'].frames]
    right = [frame[:, 72:] for frame in played['compare'].frames]
    assert psnr(left, before.frames) > 30 and psnr(right, after.frames) > 30
    flow = played['flow'].frames[4].reshape(-1, 3).mean(0)
    assert flow.max() - flow.min() > 30  # a motion has a colour
    picture = cv2.imread(str(tmp_path / 'b_preview.png'))
    assert picture.shape[1] > 2500
    page = (tmp_path / 'r e p' / 'index.html').read_text()
    assert page.count('<figure>') == 6 and '<svg' in page and 'BSSTNet' in page
    assert leftovers(tmp_path) == []


def test_networks_without_flow_have_nothing_to_show(tmp_path, fails, monkeypatch):
    class Identity(torch.nn.Module):
        def forward(self, lqs):
            return lqs

    class Loaded:
        network, checkpoint, config = Identity(), tmp_path / 'x.pth', ''

    monkeypatch.setattr(command, 'load_network', lambda *_: Loaded)
    path = write_video(tmp_path / 'a.mp4', moving_frames(2))
    assert '--show blur: the network of' in fails(path, '--show', 'blur')
    assert leftovers(tmp_path) == []


# A network of two convolutions with real flow, so that frames can be large; all else is the command
# as it is. Run in a process of its own, in which nothing was freed before.
MEMORY = """
import json, sys
from pathlib import Path
import torch
from mmagic.registry import MODELS
from mmengine.config import Config
from bsst_plugin.commands import deblur_video as deblur
from bsst_plugin.inference import Tiling, memory
from bsst_plugin.inference.clip_plan import ClipPlan

@MODELS.register_module()
class Light(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.flow_estimator = MODELS.build(dict(type='DISFlow', preset='ultrafast'))
        self.layers = torch.nn.Sequential(
            torch.nn.Conv2d(3, 8, 3, padding=1), torch.nn.Conv2d(8, 3, 3, padding=1)
        )

    def forward(self, lqs, flows):
        return lqs + 0.1 * self.layers(lqs[0])[None]

folder = Path(sys.argv[1])
config = Config(dict(model=dict(generator=dict(type='Light'))))
state = {f'generator.{name}': tensor for name, tensor in Light().state_dict().items()}
torch.save({'state_dict': state, 'meta': {'cfg': config.pretty_text}}, folder / 'light.pth')

def rise(video, allowed):
    memory.release_memory()
    base = memory.resident_memory()
    options = ['--checkpoint', folder / 'light.pth', '--device', 'cpu', '--overwrite']
    options += ['--max-memory', base + allowed] if allowed else []
    command = [str(part) for part in (folder / video, folder / 'out.mp4', *options)]
    return memory.measure_peak(lambda: deblur.deblur_video(command), torch.device('cpu'), base)

rise('one.mp4', None)  # what the first use of anything leaves behind
limited = [rise('short.mp4', limit) for limit in (350_000_000, 1_200_000_000)]
deblur.choose_plan = lambda *_: ClipPlan(8, Tiling(256, 64, 'smooth'))
print(json.dumps([limited, [rise('short.mp4', None), rise('long.mp4', None)]]))
"""


@pytest.mark.slow
def test_memory_stays_under_the_limit_and_does_not_grow(tmp_path):
    frames = moving_frames(20, 360, 640)
    for name, video in {'one': frames[:1], 'short': frames, 'long': 5 * frames}.items():
        write_video(tmp_path / f'{name}.mp4', video)
    done = subprocess.run(
        [sys.executable, '-W', 'ignore', '-c', MEMORY, str(tmp_path)],
        env={**os.environ, 'OMP_NUM_THREADS': '1'},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    (small, large), (short, long) = json.loads(done.stdout.splitlines()[-1])
    assert 50e6 < small < 350e6 and 1.3 * small < large < 1.2e9  # it uses what it is given
    assert long < 1.1 * short + 25e6  # five times as many clips of the same length


def test_installed_as_a_command():
    points = importlib.metadata.entry_points(group='console_scripts', name='bsst-deblur')
    for point in points:  # none where the package was not installed
        assert point.load() is command.main


def test_as_a_script(tmp_path):
    call = [sys.executable, str(REPO / 'tools' / 'deblur_video.py'), str(tmp_path / 'no.mp4')]
    done = subprocess.run(call, capture_output=True, text=True)
    assert done.returncode == 1 and done.stdout == ''
    assert done.stderr.splitlines()[-1].startswith('error: ') and 'Traceback' not in done.stderr
