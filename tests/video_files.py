"""Videos and folders of frames for the tests, and what a player would make of them."""

from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
from av.video.reformatter import ColorRange, Colorspace, Interpolation
from scipy.ndimage import gaussian_filter

RATE = 25
# FFmpeg's default repeats chroma values, which costs more than most codecs.
GOOD = Interpolation.BICUBIC | Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INT


def moving_frames(count: int = 8, height: int = 48, width: int = 64, seed: int = 0) -> list:
    """A smooth texture that moves by (2, 1) pixels per frame, ``(h, w, 3)`` uint8."""
    noise = np.random.RandomState(seed).rand(height, width, 3)
    texture = gaussian_filter(noise, (3, 3, 0), mode='wrap')
    texture = (texture - texture.min()) / np.ptp(texture)
    image = (20 + 215 * texture).astype(np.uint8)
    return [np.roll(image, (i, 2 * i), (0, 1)) for i in range(count)]


def write_video(
    path: Path,
    frames: list,
    codec: str = 'libx264',
    sound: str | None = None,
    rotation: int = 0,
    tags: tuple[int, int] | None = None,
    pix_fmt: str = 'yuv420p',
    times: list[int] | None = None,
) -> Path:
    """Encode frames, apart from the package.

    Args:
        path: The file.
        frames: ``(h, w, 3)`` uint8.
        codec: FFmpeg's encoder.
        sound: FFmpeg's encoder of a tone, None for silence.
        rotation: Degrees counter-clockwise by which players are to turn the frames.
        tags: Codes of the colours (matrix, primaries and transfer alike) and of the range.
        pix_fmt: Pixel format.
        times: When frames are shown, in milliseconds; None for 25 frames per second.
    """
    with av.open(str(path), 'w') as container:
        video = container.add_stream(codec, rate=RATE)
        pix_fmt = 'yuvj420p' if codec == 'mjpeg' else pix_fmt
        video.height, video.width, video.pix_fmt = *frames[0].shape[:2], pix_fmt
        context = video.codec_context
        if codec in ('libx264', 'libvpx-vp9'):
            context.options = {'crf': '4'}
        else:
            context.qmin = context.qmax = 2
        if times is not None:
            context.time_base = Fraction(1, 1000)
        if tags is not None:
            context.colorspace = context.color_primaries = context.color_trc = tags[0]
            context.color_range = tags[1]
        if rotation:
            video.set_display_rotation(rotation)
        tone = container.add_stream(sound, rate=48000) if sound else None
        for index, pixels in enumerate(frames):
            pixels = np.ascontiguousarray(pixels)
            frame = av.VideoFrame.from_ndarray(pixels, format='rgb24')
            if tags is not None:
                frame = frame.reformat(
                    format=pix_fmt,
                    dst_colorspace=Colorspace.ITU601 if tags[0] == 6 else Colorspace(tags[0]),
                    dst_color_range=ColorRange(tags[1]),
                    interpolation=GOOD,
                )
            if times is not None:
                frame.pts, frame.time_base = times[index], Fraction(1, 1000)
            container.mux(video.encode(frame))
        container.mux(video.encode())
        if tone is not None:
            for start in range(0, 48000 * len(frames) // RATE, 960):
                wave = np.sin(0.05 * np.arange(start, start + 960)).astype(np.float32)
                samples = av.AudioFrame.from_ndarray(wave[None].repeat(2, 0), 'fltp', 'stereo')
                samples.sample_rate, samples.pts = 48000, start
                container.mux(tone.encode(samples))
            container.mux(tone.encode())
    return path


def write_folder(path: Path, frames: list, ending: str = '.png') -> Path:
    """Write frames as pictures 0000, 0001, ..."""
    path.mkdir(parents=True)
    for index, pixels in enumerate(frames):
        bgr = np.ascontiguousarray(pixels[..., ::-1])
        (path / f'{index:04d}{ending}').write_bytes(cv2.imencode(ending, bgr)[1])
    return path


@dataclass
class Played:
    """What a player finds in a video.

    Attributes:
        frames: ``(h, w, 3)`` uint8, turned as they are to be shown.
        seconds: When each of them is shown, from the start of the file.
        duration: In seconds.
        codec: FFmpeg's name.
        tags: Codes of matrix, primaries, transfer and range.
        rotation: Degrees counter-clockwise.
        sound: Packets of the first stream of sound.
        rate: Frames per second.
        bits: Bits of a component.
    """

    frames: list
    seconds: list
    duration: float
    codec: str
    tags: tuple
    rotation: int
    sound: list
    rate: Fraction
    bits: int


def play(path: Path) -> Played:
    """Read a video, apart from the package."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        start = (container.start_time or 0) / av.time_base
        decoded = list(container.decode(stream))
        first = decoded[0]
        tags = first.colorspace, first.color_primaries, first.color_trc, first.color_range
        turns = round(first.rotation / 90)
        played = Played(
            [
                np.rot90(frame.to_ndarray(format='rgb24', interpolation=GOOD), turns)
                for frame in decoded
            ],
            [float(frame.pts * stream.time_base) - start for frame in decoded],
            container.duration / av.time_base,
            stream.codec_context.name,
            tuple(int(tag) for tag in tags),
            first.rotation,
            [],
            stream.average_rate,
            first.format.components[0].bits,
        )
    with av.open(str(path)) as container:
        if container.streams.audio:
            packets = container.demux(audio=0)
            played.sound = [bytes(packet) for packet in packets if packet.size]
    return played


def psnr(first: list, second: list) -> float:
    """PSNR of two lists of frames."""
    errors = [np.square(a.astype(float) - b).mean() for a, b in zip(first, second, strict=True)]
    return float(10 * np.log10(255**2 / max(np.mean(errors), 1e-9)))


def leftovers(folder: Path) -> list[str]:
    """Names of what unfinished runs left in a folder."""
    return [path.name for path in folder.iterdir() if 'partial' in path.name]


def read(folder: Path) -> dict[str, bytes]:
    """Content of the files of a folder, by name."""
    return {path.name: path.read_bytes() for path in folder.iterdir()}
