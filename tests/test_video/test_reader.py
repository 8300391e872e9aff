import sys
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from bsst_plugin.errors import UserError
from bsst_plugin.video import open_source, to_8_bits, upright

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from video_files import moving_frames, play, psnr, write_folder, write_video  # noqa: E402

FILES = [
    ('a.mp4', 'libx264'),
    ('a.mkv', 'libx264'),
    ('a.ts', 'libx264'),
    ('a.avi', 'libx264'),  # with reordered frames, of which AVI cannot say when they are shown
    ('a.avi', 'mpeg4'),
    ('a.webm', 'libvpx-vp9'),
    ('a.mov', 'mjpeg'),
]


@pytest.mark.parametrize(('name', 'codec'), FILES)
@pytest.mark.parametrize('sound', [False, True])
def test_reads_what_a_player_shows(tmp_path, name, codec, sound):
    frames = moving_frames(12)
    kind = ('libopus' if name.endswith('webm') else 'libmp3lame') if sound else None
    source = open_source(write_video(tmp_path / name, frames, codec, kind))
    read = [frame.pixels for frame in source.frames()]
    assert len(source.times) == len(read) == 12
    assert source.size == (48, 64) and not source.deep and source.broken == 0
    assert psnr(read, play(tmp_path / name).frames) > 35
    seconds = np.array([float(time * source.time_base) for time in source.times])
    first = 1 if sound and name == 'a.avi' else 0  # the file itself has a gap there
    np.testing.assert_allclose(np.diff(seconds)[first:], 1 / 25, atol=0.0015)
    assert float((source.end - source.times[0]) * source.time_base) == pytest.approx(0.48, abs=0.05)
    assert float(source.rate) == pytest.approx(25, rel=0.01)
    later = list(source.frames(9))
    assert len(later) == 3 and (later[0].pixels == read[9]).all()
    assert later[0].name == '00009.png'


@pytest.mark.parametrize('name', ['a.mp4', 'a.mkv', 'a.ts'])
def test_times_of_a_variable_rate(tmp_path, name):
    times = [0, 40, 60, 200, 210, 500, 540, 580]
    source = open_source(write_video(tmp_path / name, moving_frames(8), times=times))
    seconds = [float(time * source.time_base) for time in source.times]
    np.testing.assert_allclose(seconds, np.array(times) / 1000, atol=0.001)


@pytest.mark.parametrize('name', ['a.mp4', 'a.mkv'])
def test_last_frame_is_not_shown_as_long_as_the_one_before(tmp_path, name):
    times = [0, 40, 80, 1500]
    source = open_source(write_video(tmp_path / name, moving_frames(4), times=times))
    assert float(source.end * source.time_base) == pytest.approx(1.54, abs=0.001)


def test_colours_and_rotation_are_noticed(tmp_path):
    path = write_video(tmp_path / 'a.mp4', moving_frames(3), rotation=90, tags=(1, 2))
    look = open_source(path).look
    assert (look.colorspace, look.primaries, look.transfer, look.range) == (1, 1, 1, 2)
    frame = next(open_source(path).frames())
    assert (upright(frame.pixels, look.matrix) == np.rot90(frame.pixels)).all()


def test_deep_videos_have_16_bits(tmp_path):
    frames = [np.full((32, 32, 3), value, np.uint8) for value in (0, 128, 255)]
    path = write_video(tmp_path / 'a.mkv', frames, pix_fmt='yuv444p10le')
    source = open_source(path)
    read = [frame.pixels for frame in source.frames()]
    assert source.deep and read[0].dtype == np.uint16
    values = [int(pixels.mean()) for pixels in read]
    np.testing.assert_allclose(values, [0, 128 * 257, 65535], atol=200)


def test_all_depths_become_8_bits():
    deep = np.arange(65536, dtype=np.uint16)
    pixels = to_8_bits(deep)
    assert pixels.dtype == np.uint8
    assert np.abs(pixels - deep / 257).max() <= 0.5  # white stays white
    assert to_8_bits(pixels) is pixels


@pytest.mark.parametrize('pix_fmt, kept', [('bgr0', 'yuv444p'), ('gbrp10le', 'yuv444p10le')])
def test_rgb_keeps_its_depth(tmp_path, pix_fmt, kept):
    path = write_video(tmp_path / 'a.mkv', moving_frames(2), 'ffv1', pix_fmt=pix_fmt)
    source = open_source(path)
    assert source.look.pix_fmt == kept and source.deep == kept.endswith('10le')


@pytest.mark.parametrize('flip_x', [1, -1])
@pytest.mark.parametrize('flip_y', [1, -1])
@pytest.mark.parametrize('turned', [False, True])
def test_upright_against_the_definition(flip_x, flip_y, turned):
    pixels = np.arange(12).reshape(3, 4)
    one = 65536
    a, b, c, d = (0, flip_y, flip_x, 0) if turned else (flip_x, 0, 0, flip_y)
    out = upright(pixels, (a * one, b * one, 0, c * one, d * one, 0, 0, 0, 1 << 30))
    height, width = out.shape
    for y, x in np.ndindex(*pixels.shape):
        to_x, to_y = a * x + c * y, b * x + d * y  # the origin is free: negative ends are shifted
        assert out[to_y % height if b + d > 0 else height - 1 + to_y,
                   to_x % width if a + c > 0 else width - 1 + to_x] == pixels[y, x]  # fmt: skip


def test_folder_in_order_of_the_numbers(tmp_path):
    frames = moving_frames(11)
    folder = write_folder(tmp_path / 'in', frames)
    for index in range(11):
        (folder / f'{index:04d}.png').rename(folder / f'frame{index}.png')
    (folder / 'notes.txt').write_text('mine')
    (folder / '.hidden.png').write_text('not a picture')
    (folder / 'folder.png').mkdir()
    source = open_source(folder, Fraction(50))
    assert source.names == [f'frame{index}.png' for index in range(11)]
    for frame, pixels in zip(source.frames(), frames, strict=True):
        assert (frame.pixels == pixels).all()
    assert source.end * source.time_base == Fraction(11, 50)
    assert len(source.files) == 11


def test_kinds_of_pictures(tmp_path):
    rng = np.random.default_rng(0)
    kinds = {
        'a.png': rng.integers(0, 65536, (20, 30, 3), dtype=np.uint16),
        'b.tif': rng.integers(0, 65536, (20, 30, 3), dtype=np.uint16),
        'c.png': rng.integers(0, 65536, (20, 30), dtype=np.uint16),
        'd.png': rng.integers(0, 65536, (20, 30, 4), dtype=np.uint16),
    }
    for name, image in kinds.items():
        assert cv2.imwrite(str(tmp_path / name), image)
    source = open_source(tmp_path)
    colour, tiff, grey, clear = source.frames()
    assert source.deep
    assert (colour.pixels[..., ::-1] == kinds['a.png']).all()
    assert (tiff.pixels[..., ::-1] == kinds['b.tif']).all()
    assert grey.grey and (grey.pixels == kinds['c.png'][..., None]).all()
    assert (clear.alpha == kinds['d.png'][..., 3]).all()


def one_line(path: Path) -> str:
    with pytest.raises(UserError) as error:
        list(open_source(path).frames())
    assert str(path) in str(error.value) and '\n' not in str(error.value)
    return str(error.value)


def test_not_a_video(tmp_path):
    assert 'no such' in one_line(tmp_path / 'no.mp4')
    for name, content in {'a.mp4': b'', 'b.mp4': b'text' * 99, 'c.txt': b'hello\n' * 99}.items():
        (tmp_path / name).write_bytes(content)
        assert 'not a video' in one_line(tmp_path / name)
    assert cv2.imwrite(str(tmp_path / 'd.png'), np.zeros((9, 9, 3), np.uint8))
    assert 'a picture' in one_line(tmp_path / 'd.png')
    whole = write_video(tmp_path / 'e.mp4', moving_frames(8)).read_bytes()
    (tmp_path / 'f.mp4').write_bytes(whole[: len(whole) // 2])  # the index at the end is missing
    assert 'cut off' in one_line(tmp_path / 'f.mp4')


def test_sound_only_and_no_frames(tmp_path):
    with av.open(str(tmp_path / 'a.mp3'), 'w') as container:
        stream = container.add_stream('libmp3lame', rate=48000)
        silence = av.AudioFrame.from_ndarray(np.zeros((2, 4800), np.float32), 'fltp', 'stereo')
        silence.sample_rate = 48000
        container.mux(stream.encode(silence))
        container.mux(stream.encode())
    assert 'not a video' in one_line(tmp_path / 'a.mp3')
    # A video whose only packet is damaged.
    whole = bytearray(write_video(tmp_path / 'b.avi', moving_frames(1), 'ffv1').read_bytes())
    start = whole.index(b'movi') + 12
    whole[start : start + 400] = b'\xff' * 400
    (tmp_path / 'b.avi').write_bytes(whole)
    assert 'no frame' in one_line(tmp_path / 'b.avi')


def test_broken_frame_in_the_middle_is_left_out(tmp_path):
    path = write_video(tmp_path / 'a.mov', moving_frames(9), 'mjpeg')
    with av.open(str(path)) as container:
        packet = [packet for packet in container.demux(video=0) if packet.size][4]
    content = bytearray(path.read_bytes())
    content[packet.pos : packet.pos + packet.size] = b'\xff' * packet.size
    path.write_bytes(content)
    source = open_source(path)
    assert source.broken > 0
    assert len(source.times) == len(list(source.frames())) == 8
    # The others are shown when they were, the one before the gap longer.
    assert max(np.diff(source.times)) == 2 * min(np.diff(source.times))


def test_frames_that_a_decoder_silently_drops_are_counted(tmp_path):
    path = write_video(tmp_path / 'a.mp4', moving_frames(30))
    with av.open(str(path)) as container:
        packet = [packet for packet in container.demux(video=0) if packet.size][13]
    content = bytearray(path.read_bytes())
    content[packet.pos + 5 : packet.pos + packet.size] = bytes(packet.size - 5)
    path.write_bytes(content)
    source = open_source(path)
    assert len(source.times) + source.broken >= 30 > len(source.times)


def test_frames_before_the_start_of_a_cut_video_are_not_missed(tmp_path):
    """As after ``ffmpeg -ss 0.4 -i ... -c copy``: decoded, but not shown."""
    path = write_video(tmp_path / 'a.mp4', moving_frames(30))
    with av.open(str(path)) as whole, av.open(str(tmp_path / 'b.mp4'), 'w') as cut:
        stream = cut.add_stream_from_template(whole.streams.video[0])
        for packet in whole.demux(video=0):
            if packet.size:
                shift = round(0.4 / packet.time_base)
                packet.pts, packet.dts = packet.pts - shift, packet.dts - shift
                packet.stream = stream
                cut.mux(packet)
    source = open_source(tmp_path / 'b.mp4')
    assert len(source.times) == 20 and source.broken == 0


@pytest.mark.parametrize(('name', 'codec'), [('a.ts', 'libx264'), ('a.mkv', 'mjpeg')])
def test_truncated_file_gives_what_is_there(tmp_path, name, codec):
    whole = write_video(tmp_path / name, moving_frames(20), codec).read_bytes()
    (tmp_path / name).write_bytes(whole[: len(whole) * 6 // 10])
    source = open_source(tmp_path / name)
    assert 5 < len(source.times) < 20
    assert len(list(source.frames())) == len(source.times)


def test_bad_folders(tmp_path):
    empty = tmp_path / 'empty'
    empty.mkdir()
    assert 'holds no frames' in one_line(empty)
    folder = write_folder(tmp_path / 'in', moving_frames(4))
    small = folder / '0002.png'
    assert cv2.imwrite(str(small), np.zeros((9, 9, 3), np.uint8))
    with pytest.raises(UserError, match=f'{small}: 9 x 9 pixels.*64 x 48'):
        list(open_source(folder).frames())
    small.write_bytes(b'not an image')
    with pytest.raises(UserError, match=f'{small}: not a readable image'):
        list(open_source(folder).frames())
    assert cv2.imwrite(str(folder / '0002.tiff'), np.zeros((48, 64, 3), np.float32))
    small.unlink()
    with pytest.raises(UserError, match='float32; give 8 or 16 bits'):
        list(open_source(folder).frames())
