"""``bsst-deblur`` as users type it."""

import copy
import importlib.metadata
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from mmagic.registry import MODELS
from mmengine.config import Config

from bsst_plugin.cli import run
from bsst_plugin.commands import deblur_video as command
from bsst_plugin.inference import Tiling
from bsst_plugin.inference.clip_plan import ClipPlan

REPO = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(REPO / 'tests'))
from video_files import moving_frames, play, psnr, write_folder, write_video  # noqa: E402


@pytest.fixture(scope='module')
def checkpoint(tmp_path_factory, tiny_generator, randomise):
    """A tiny network that changes frames a little."""
    generator = tiny_generator()
    network = randomise(MODELS.build(copy.deepcopy(generator)))
    network.decoder.to_frame.weight.data *= 0.02
    config = Config(dict(model=dict(type='VideoDeblurrer', generator=generator)))
    state = {f'generator.{name}': value for name, value in network.state_dict().items()}
    path = tmp_path_factory.mktemp('checkpoint') / 'tiny.pth'
    torch.save({'state_dict': state, 'meta': {'cfg': config.pretty_text}}, path)
    return path


@pytest.fixture
def short_clips(monkeypatch):
    """Clips of 6 frames and tiles of 48, without measuring."""

    def choose(network, device, amp, total, *_):
        return ClipPlan(min(6, total), Tiling(48, 16, 'smooth'))

    monkeypatch.setattr(command, 'choose_plan', choose)


@pytest.fixture
def deblur(checkpoint, capsys):
    """Run the command in this process; what it prints."""

    def call(*argv):
        arguments = ['--checkpoint', str(checkpoint), '--device', 'cpu', *map(str, argv)]
        command.deblur_video(arguments)
        return capsys.readouterr().out

    return call


@pytest.fixture
def fails(checkpoint, capsys):
    """The one line with which the command fails."""

    def call(*argv, checkpoint=checkpoint):
        arguments = ['--checkpoint', str(checkpoint), '--device', 'cpu', *map(str, argv)]
        with pytest.raises(SystemExit) as stop:
            run(lambda: command.deblur_video(arguments))
        assert stop.value.code == 1
        lines = capsys.readouterr().err.strip().splitlines()
        errors = [line for line in lines if line.startswith('error: ')]
        assert len(errors) == 1 and errors[0] == lines[-1]
        return errors[0]

    return call


def leftovers(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir() if 'partial' in path.name]


def read(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


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


def stop_after(monkeypatch, clips, error):
    """Let a run end with ``error`` once so many clips are finished."""
    commit = command.PartialRun.commit

    def stopping(self, clip, *rest):
        commit(self, clip, *rest)
        if clip + 1 == clips:
            raise error

    monkeypatch.setattr(command.PartialRun, 'commit', stopping)
    return lambda: monkeypatch.setattr(command.PartialRun, 'commit', commit)


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


@pytest.mark.parametrize('kind', ['folder', 'video'])
def test_interrupted_run_goes_on(tmp_path, deblur, fails, short_clips, monkeypatch, capsys, kind):
    frames = moving_frames(15)
    if kind == 'folder':
        source, target = write_folder(tmp_path / 'in', frames), tmp_path / 'out'
    else:
        source, target = write_video(tmp_path / 'a.mp4', frames, sound='aac'), tmp_path / 'b.mp4'
    whole = tmp_path / ('whole' + target.suffix)
    extra = ('--show', 'compare', '--report', tmp_path / 'report')
    deblur(source, whole, *extra)
    for clips in (1, 3):
        mend = stop_after(monkeypatch, clips, KeyboardInterrupt())
        extra = ('--show', 'compare', '--report', tmp_path / f'report{clips}', '--preview', 1)
        with pytest.raises(KeyboardInterrupt):
            deblur(source, target, *extra)
        mend()
        line = capsys.readouterr().err.splitlines()[-1]
        assert line == f'{clips} of 6 clips are kept: go on with --resume'
        assert not target.exists()
        assert 'unfinished run; add --resume' in fails(source, target, *extra)
        # Interrupted once more.
        mend = stop_after(monkeypatch, clips + 1, KeyboardInterrupt())
        with pytest.raises(KeyboardInterrupt):
            deblur(source, target, *extra, '--resume')
        mend()
        deblur(source, target, *extra, '--resume')
        if kind == 'folder':
            assert read(target) == read(whole)
        else:
            assert target.read_bytes() == whole.read_bytes()
        shown = [path.with_name(f'{path.stem}_compare.mp4') for path in (whole, target)]
        assert shown[0].read_bytes() == shown[1].read_bytes()
        assert leftovers(tmp_path) == []
        assert (tmp_path / f'report{clips}/index.html').exists()
        for path in (target, shown[1], target.with_name(f'{target.stem}_preview.png')):
            path.rename(path.with_name(f'{clips}_{path.name}'))


def test_resume_refuses_what_differs(tmp_path, deblur, fails, short_clips, monkeypatch):
    source = write_folder(tmp_path / 'in', moving_frames(15))
    target = tmp_path / 'b.mp4'
    mend = stop_after(monkeypatch, 2, KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        deblur(source, target)
    mend()
    assert 'begun with crf=None, not 20' in fails(source, target, '--resume', '--crf', 20)
    first = (source / '0001.png').read_bytes()
    (source / '0001.png').write_bytes(first + b' ')
    assert '0001.png has changed' in fails(source, target, '--resume')
    assert target.with_name('.b.mp4.partial').exists()  # still there for the right command
    assert 'unfinished run' in fails(source, target)
    deblur(source, target, '--overwrite')  # starts again
    assert len(play(target).frames) == 15 and leftovers(tmp_path) == []


def test_interrupted_before_the_first_clip(tmp_path, deblur, short_clips, monkeypatch):
    path, target = write_video(tmp_path / 'a.mp4', moving_frames(7)), tmp_path / 'b.mp4'
    with monkeypatch.context() as patch:
        patch.setattr(command.VideoDeblurring, 'run', lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            deblur(path, target, '--preview', 1)
    assert leftovers(tmp_path) == []
    deblur(path, target, '--preview', 1, '--resume')  # keeps the preview that is there
    assert len(play(target).frames) == 7


def test_resume_without_anything_to_resume_starts(tmp_path, deblur, short_clips):
    path = write_video(tmp_path / 'a.mp4', moving_frames(3))
    deblur(path, tmp_path / 'b.mp4', '--resume')
    assert len(play(tmp_path / 'b.mp4').frames) == 3


def test_frame_that_is_mended_later(tmp_path, deblur, fails, short_clips):
    source, target = write_folder(tmp_path / 'in', moving_frames(15)), tmp_path / 'out'
    deblur(source, tmp_path / 'whole')
    good = (source / '0012.png').read_bytes()
    (source / '0012.png').write_bytes(good[:50])
    line = fails(source, target)
    assert '0012.png: not a readable image' in line and '--resume' in line and not target.exists()
    (source / '0012.png').write_bytes(good)
    deblur(source, target, '--resume')
    assert read(target) == read(tmp_path / 'whole')


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


def test_bad_input(tmp_path, fails, deblur, checkpoint):
    assert 'no.mp4: no such video' in fails(tmp_path / 'no.mp4')
    (tmp_path / 'text.mp4').write_text('text' * 99)
    assert 'text.mp4: not a video' in fails(tmp_path / 'text.mp4')
    (tmp_path / 'empty').mkdir()
    assert 'empty: holds no frames' in fails(tmp_path / 'empty')
    path = write_video(tmp_path / 'a.mp4', moving_frames(3))
    assert 'no.pth: no such checkpoint' in fails(path, checkpoint=tmp_path / 'no.pth')
    assert '.txt is not a video format' in fails(path, tmp_path / 'b.txt')
    assert '--codec nonsense' in fails(path, '--codec', 'nonsense')
    assert 'like 4GB' in fails(path, '--max-memory', 'much')
    assert 'too little memory' in fails(path, '--max-memory', '1MB')
    (tmp_path / 'file').write_text('in the way')
    for folder in (tmp_path / 'file', tmp_path / 'file' / 'deeper'):
        assert 'choose another --report' in fails(path, '--report', folder)
    assert 'cannot be written to' in fails(path, tmp_path / 'file' / 'b.mp4')
    if not torch.cuda.is_available():
        assert '--device cuda: not on this machine' in fails(path, '--device', 'cuda')
    names = ['a.mp4', 'empty', 'file', 'text.mp4']
    assert sorted(entry.name for entry in tmp_path.iterdir()) == names


@pytest.mark.skipif(os.name != 'posix' or os.geteuid() == 0, reason='root may write everywhere')
def test_folder_that_is_not_writable(tmp_path, fails):
    path = write_video(tmp_path / 'a.mp4', moving_frames(3))
    (tmp_path / 'locked').mkdir(mode=0o500)
    assert 'locked: cannot be written to' in fails(path, tmp_path / 'locked' / 'b.mp4')


def test_folder_of_the_system(tmp_path, fails):
    path = write_video(tmp_path / 'a.mp4', moving_frames(3))
    assert '/proc: cannot be written to' in fails(path, '/proc/b.mp4')


@pytest.fixture
def small_disk(tmp_path):
    """A disk of 150 kB."""
    folder = tmp_path / 'disk'
    folder.mkdir()
    mount = ['mount', '-t', 'tmpfs', '-o', 'size=150k', 'tmpfs', str(folder)]
    if subprocess.run(mount, capture_output=True).returncode:
        pytest.skip('no small disk can be mounted here')
    yield folder
    subprocess.run(['umount', str(folder)], check=True)


def test_read_only_disk(small_disk, tmp_path, fails):
    path = write_video(tmp_path / 'a.mp4', moving_frames(3))
    subprocess.run(['mount', '-o', 'remount,ro', str(small_disk)], check=True)
    for output in ('b.mp4', 'frames/'):
        assert f'{small_disk}: cannot be written to' in fails(path, f'{small_disk}/{output}')
    assert f'{small_disk}: not a folder' in fails(path, '--report', small_disk / 'report')


@pytest.mark.parametrize('kind', ['folder', 'video', 'report'])
def test_no_space_left(small_disk, tmp_path, deblur, fails, short_clips, kind):
    frames = moving_frames(26)
    source = write_folder(tmp_path / 'in', frames, '.bmp' if kind == 'folder' else '.png')
    target = small_disk / ('out' if kind == 'folder' else 'out.avi')
    extra = ['--report', small_disk / 'report'] if kind == 'report' else ['--codec', 'ffv1']
    line = fails(source, target, *(extra if kind != 'folder' else []))
    assert 'space' in line
    assert not target.exists() and not (small_disk / 'report').exists()
    subprocess.run(['mount', '-o', 'remount,size=20m', str(small_disk)], check=True)
    deblur(source, target, '--resume', *(extra if kind != 'folder' else []))
    count = len(read(target)) if kind == 'folder' else len(play(target).frames)
    assert count == 26


def call(*argv: object) -> list[str]:
    return [sys.executable, str(REPO / 'tools' / 'deblur_video.py'), *map(str, argv)]


@pytest.mark.slow
def test_killed_run_goes_on(tmp_path, checkpoint, deblur):
    """Killed in the middle, three times; the same bytes in the end."""
    folder = write_folder(tmp_path / 'in', moving_frames(100, 64, 64))
    target, environment = tmp_path / 'out', {**os.environ, 'OMP_NUM_THREADS': '1'}
    arguments = call(folder, target, '--checkpoint', checkpoint, '--device', 'cpu', '--resume')
    partial, finished = tmp_path / '.out.partial', 0
    for _ in range(2):
        process = subprocess.Popen(arguments, env=environment, stderr=subprocess.DEVNULL)
        while not (partial / f'clip_{finished:05d}.json').exists():
            assert process.poll() is None
            time.sleep(0.02)
        time.sleep(0.1)  # into the next clip
        process.send_signal(signal.SIGKILL)
        process.wait()
        finished = len(list(partial.glob('clip_*.json')))
        assert 0 < finished < 5 and not target.exists()
    done = subprocess.run(arguments, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith('100 frames in') and 'going on with frame' in done.stderr
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    deblur(folder, tmp_path / 'whole')
    torch.set_num_threads(threads)
    assert read(target) == read(tmp_path / 'whole')


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


@pytest.mark.parametrize(
    ('option', 'words'),
    [
        ('--fps 1/0', '1/0: not a rate'),
        ('--fps -5', 'not a rate'),
        ('--preview -1', '-1'),
        ('--crf 64', '0 to 63'),
    ],
)
def test_numbers_that_make_no_sense(option, words, capsys):
    with pytest.raises(SystemExit) as stop:
        command.deblur_video(['a.mp4', *option.split()])
    assert stop.value.code == 2 and words in capsys.readouterr().err.splitlines()[-1]


def test_installed_as_a_command():
    points = importlib.metadata.entry_points(group='console_scripts', name='bsst-deblur')
    for point in points:  # none where the package was not installed
        assert point.load() is command.main


def test_as_a_script(tmp_path):
    done = subprocess.run(call(tmp_path / 'no.mp4'), capture_output=True, text=True)
    assert done.returncode == 1 and done.stdout == ''
    assert done.stderr.splitlines()[-1].startswith('error: ') and 'Traceback' not in done.stderr
