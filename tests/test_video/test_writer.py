import sys
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import pytest

from bsst_plugin.errors import UserError
from bsst_plugin.video import FolderWriter, Frame, Look, VideoWriter, open_source

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from video_files import moving_frames, play, psnr, write_folder, write_video  # noqa: E402

CODECS = ('libx264', 'mpeg4', 'mjpeg')
SOUNDS = {'.mp4': 'aac', '.mov': 'aac', '.mkv': 'aac', '.webm': 'libopus', '.avi': 'libmp3lame'}


def copy(source_path: Path, target: Path, length: int = 5, **settings) -> tuple:
    """Write a video as it is, in clips of ``length`` frames; the source and what was noted."""
    source = open_source(source_path)
    partial = target.with_name('partial')
    partial.mkdir(exist_ok=True)
    if target.suffix:
        writer = VideoWriter(target, partial, source, source.size, source.look, **settings)
    else:
        writer = FolderWriter(target, partial, source)
    frames = list(source.frames())
    clips = [frames[start : start + length] for start in range(0, len(frames), length)]
    for index, clip in enumerate(clips):
        writer.write_clip(index, clip)
        assert not target.exists()
    return source, writer.finish(len(clips))


@pytest.mark.parametrize(
    ('ending', 'codec'),
    [
        *((ending, codec) for ending in ('.mp4', '.mov', '.mkv') for codec in CODECS),
        ('.avi', 'mpeg4'),
        ('.avi', 'mjpeg'),
        ('.webm', 'libvpx-vp9'),
    ],
)
def test_what_a_player_shows_stays(tmp_path, ending, codec):
    path = write_video(tmp_path / f'in{ending}', moving_frames(12), codec, SOUNDS[ending])
    target = tmp_path / f'out{ending}'
    _, notes = copy(path, target)
    before, after = play(path), play(target)
    assert notes == [] and len(after.frames) == 12
    assert psnr(before.frames, after.frames) > 30
    np.testing.assert_allclose(after.seconds, before.seconds, atol=0.041 if ending == '.avi' else 0)
    assert after.duration == pytest.approx(before.duration, abs=0.041)
    assert after.rate == pytest.approx(25, rel=0.1)
    assert len(before.sound) > 10 and after.sound == before.sound


@pytest.mark.parametrize('rotation', [90, -90, 180])
@pytest.mark.parametrize('ending', ['.mp4', '.mkv', '.avi', ''])
def test_rotation_looks_the_same(tmp_path, rotation, ending):
    path = write_video(tmp_path / 'in.mp4', moving_frames(6), rotation=rotation)
    target = tmp_path / f'out{ending}'
    copy(path, target)
    before = play(path)
    if ending:
        after = play(target)
        assert after.rotation == (0 if ending == '.avi' else before.rotation)
        shown = after.frames
    else:
        shown = [cv2.imread(str(target / f'{i:05d}.png'))[..., ::-1] for i in range(6)]
    assert psnr(before.frames, shown) > 30


@pytest.mark.parametrize('ending', ['.mp4', '.mkv'])
def test_variable_rate_stays(tmp_path, ending):
    times = [0, 40, 60, 200, 210, 500, 540, 580]
    path = write_video(tmp_path / 'in.mp4', moving_frames(8), times=times, sound='aac')
    copy(path, tmp_path / f'out{ending}', 3)
    after = play(tmp_path / f'out{ending}')
    np.testing.assert_allclose(np.diff(after.seconds), np.diff(times) / 1000, atol=0.0011)


@pytest.mark.parametrize('tags', [(1, 1), (1, 2), (6, 1), (9, 1)])
@pytest.mark.parametrize('codec', ['libx264', 'libx265', 'libvpx-vp9', 'mpeg4', 'mjpeg', 'ffv1'])
def test_colours_stay(tmp_path, tags, codec):
    path = write_video(tmp_path / 'in.mp4', moving_frames(3), tags=tags)
    copy(path, tmp_path / 'out.mkv', codec=codec)
    before, after = play(path), play(tmp_path / 'out.mkv')
    assert before.tags == (tags[0],) * 3 + (tags[1],)
    assert psnr(before.frames, after.frames) > 32
    if codec in ('libx264', 'libx265', 'libvpx-vp9'):
        assert after.tags == before.tags


def test_colours_look_the_same_where_they_cannot_be_stated(tmp_path):
    path = write_video(tmp_path / 'in.mp4', moving_frames(3), tags=(1, 2))
    copy(path, tmp_path / 'out.avi')
    assert play(tmp_path / 'out.avi').tags[0] == 2
    assert psnr(play(path).frames, play(tmp_path / 'out.avi').frames) > 32


def test_deep_video_stays_deep(tmp_path):
    path = write_video(tmp_path / 'in.mkv', moving_frames(4), pix_fmt='yuv420p10le', tags=(9, 1))
    copy(path, tmp_path / 'out.mkv', crf=4)
    after = play(tmp_path / 'out.mkv')
    assert after.bits == 10 and psnr(play(path).frames, after.frames) > 36


def test_sound_that_the_container_does_not_take(tmp_path):
    path = write_video(tmp_path / 'in.mkv', moving_frames(25), sound='aac')
    _, notes = copy(path, tmp_path / 'out.webm', 25)
    after = play(tmp_path / 'out.webm')
    assert notes == [] and len(after.sound) > 10 and after.duration == pytest.approx(1, abs=0.05)
    _, notes = copy(path, tmp_path / 'out.gif', 25)
    assert len(notes) == 1 and 'without sound' in notes[0]
    assert len(play(tmp_path / 'out.gif').frames) == 25


@pytest.mark.parametrize('size', [(33, 65), (1, 1), (2, 3), (16, 7)])
@pytest.mark.parametrize('codec', [None, 'libvpx-vp9', 'mpeg4', 'ffv1'])
def test_odd_sizes(tmp_path, size, codec):
    folder = write_folder(tmp_path / 'in', moving_frames(4, 80, 80))
    for file in folder.iterdir():
        assert cv2.imwrite(str(file), cv2.imread(str(file))[: size[0], : size[1]])
    try:
        copy(folder, tmp_path / 'out.mkv', codec=codec)
    except UserError as error:
        assert 'cannot encode frames of' in str(error)
        assert min(size) < 16  # what some encoders refuse
        return
    after = play(tmp_path / 'out.mkv')
    assert after.frames[0].shape == (*size, 3) and len(after.frames) == 4
    before = [frame.pixels for frame in open_source(folder).frames()]
    assert psnr(before, after.frames) > 28


def test_codec_and_quality(tmp_path):
    path = write_video(tmp_path / 'in.mp4', moving_frames(6, 96, 128))
    sizes = {}
    for crf in (4, 30):
        copy(path, tmp_path / f'{crf}.mp4', codec='libx265', crf=crf)
        assert play(tmp_path / f'{crf}.mp4').codec == 'hevc'
        sizes[crf] = (tmp_path / f'{crf}.mp4').stat().st_size
    assert sizes[4] > 2 * sizes[30]


@pytest.mark.parametrize(
    ('name', 'settings', 'words'),
    [
        ('out.mp4', {'codec': 'nonsense'}, '--codec nonsense'),
        ('out.mp4', {'codec': 'aac'}, '--codec aac'),
        ('out.webm', {'codec': 'libx264'}, '.webm takes'),
        ('out.mp4', {'codec': 'mpeg4', 'crf': 20}, '--crf'),
        ('out.txt', {}, 'not a video format'),
        ('out.png', {}, 'not a video format'),
        ('out.mp3', {}, 'not a video format'),
        ('out.v2', {}, 'not a video format'),
    ],
)
def test_what_cannot_be_written(tmp_path, name, settings, words):
    path = write_video(tmp_path / 'in.mp4', moving_frames(2))
    with pytest.raises(UserError, match=words):
        copy(path, tmp_path / name, **settings)
    assert not (tmp_path / name).exists()


def test_pictures_keep_name_depth_and_kind(tmp_path):
    rng = np.random.default_rng(0)
    folder = tmp_path / 'in'
    folder.mkdir()
    kinds = {
        'a.png': rng.integers(0, 65536, (20, 30, 3), dtype=np.uint16),
        'b.tif': rng.integers(0, 65536, (20, 30, 3), dtype=np.uint16),
        'c.png': rng.integers(0, 256, (20, 30), dtype=np.uint8),
        'd.png': rng.integers(0, 256, (20, 30, 4), dtype=np.uint8),
        'e.webp': rng.integers(0, 256, (20, 30, 3), dtype=np.uint8),
        # Where nothing can be seen, WebP keeps no colour.
        'f.webp': rng.integers(1, 256, (20, 30, 4), dtype=np.uint8),
        'g.bmp': rng.integers(0, 256, (20, 30, 3), dtype=np.uint8),
    }
    for name, image in kinds.items():
        assert cv2.imwrite(str(folder / name), image, [cv2.IMWRITE_WEBP_QUALITY, 101])
    copy(folder, tmp_path / 'out', 4)
    assert sorted(file.name for file in (tmp_path / 'out').iterdir()) == list(kinds)
    for name, image in kinds.items():
        read = cv2.imread(str(tmp_path / 'out' / name), cv2.IMREAD_UNCHANGED)
        assert read.dtype == image.dtype and (read == image).all(), name


def test_folder_to_video_at_a_rate(tmp_path):
    frames = moving_frames(7)
    source = open_source(write_folder(tmp_path / 'in', frames), Fraction(30000, 1001))
    writer = VideoWriter(tmp_path / 'out.mp4', tmp_path, source, source.size, source.look)
    writer.write_clip(0, list(source.frames()))
    writer.finish(1)
    after = play(tmp_path / 'out.mp4')
    assert after.rate == Fraction(30000, 1001) and after.tags == (1, 1, 1, 1)
    assert psnr(frames, after.frames) > 30


def test_result_does_not_depend_on_what_was_written_before(tmp_path):
    path = write_video(tmp_path / 'in.mp4', moving_frames(9), sound='aac')
    copy(path, tmp_path / 'a.mp4', 3)
    source = open_source(path)
    frames = list(source.frames())
    # Interrupted in the second clip, which is then written again.
    writer = VideoWriter(tmp_path / 'b.mp4', tmp_path, source, source.size, source.look)
    writer.write_clip(0, frames[:3])
    (tmp_path / 'b_00001.mp4').write_bytes(b'half of it')
    writer = VideoWriter(tmp_path / 'b.mp4', tmp_path, source, source.size, source.look)
    writer.write_clip(1, frames[3:6])
    writer.write_clip(2, frames[6:])
    writer.finish(3)
    assert (tmp_path / 'a.mp4').read_bytes() == (tmp_path / 'b.mp4').read_bytes()


def test_incomplete_video_is_never_put_in_place(tmp_path):
    source = open_source(write_video(tmp_path / 'in.mp4', moving_frames(9)))
    frames = list(source.frames())
    writer = VideoWriter(tmp_path / 'out.mp4', tmp_path, source, source.size, source.look)
    writer.write_clip(0, frames[:5])
    writer.write_clip(1, frames[5:8])
    with pytest.raises(UserError, match='8 of 9 frames'):
        writer.finish(2)
    assert not (tmp_path / 'out.mp4').exists()


def test_folder_that_lost_frames_is_never_put_in_place(tmp_path):
    source = open_source(write_folder(tmp_path / 'in', moving_frames(3)))
    (tmp_path / 'partial').mkdir()
    writer = FolderWriter(tmp_path / 'out', tmp_path / 'partial', source)
    writer.write_clip(0, list(source.frames())[:2])
    with pytest.raises(UserError, match='0002.png: is gone'):
        writer.finish(1)
    assert not (tmp_path / 'out').exists()


def test_frames_of_another_size_than_the_source(tmp_path):
    source = open_source(write_video(tmp_path / 'in.mp4', moving_frames(4), sound='aac'))
    wide = [np.concatenate((frame.pixels, frame.pixels), 1) for frame in source.frames()]
    target = tmp_path / 'out.mp4'
    writer = VideoWriter(target, tmp_path, source, (48, 128), replace(Look()), sound=False)
    writer.write_clip(0, [Frame(pixels, '') for pixels in wide])
    writer.finish(1)
    after = play(target)
    assert after.sound == [] and psnr(wide, after.frames) > 30
