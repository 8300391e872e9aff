"""Encoders of FFmpeg, and what they can be given."""

import os
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

import av
import av.error
import numpy as np
from av.codec.codec import find_best_pix_fmt_of_list

from bsst_plugin.errors import UserError
from bsst_plugin.video.colours import SCALER, SCALER_MATRICES, TO_SCALER
from bsst_plugin.video.frames import BT601, FULL_RANGE, LIMITED_RANGE, UNSPECIFIED, Look

# Constant quality that is hard to tell from the original.
DEFAULT_CRF = 18
# The first that the container takes; else whatever FFmpeg prefers for it.
PREFERRED_CODECS = ('libx264', 'libvpx-vp9')
# Encoders that take frames of odd size with less chroma than luma.
ODD_SIZE_CODECS = ('libvpx-vp9', 'libsvtav1', 'mpeg4', 'mjpeg')
# Others show frames as they are stored.
TURNING_CONTAINERS = ('mov', 'mp4', 'ipod', 'matroska', 'webm')
# Who says how colours are coded: these containers always, the others if all is said, or the codec.
COLOUR_CONTAINERS = ('matroska', 'webm')
COLOUR_CODECS = ('libx264', 'libx265', 'libvpx-vp9', 'libsvtav1', 'libaom-av1')
# Some encoders talk to the terminal.
QUIET = {'libx265': {'x265-params': 'log-level=error'}}
os.environ.setdefault('SVT_LOG', '1')


@dataclass(frozen=True)
class Encoding:
    """How the frames of an output are encoded.

    Attributes:
        codec: Name of the encoder.
        container: FFmpeg's name of the container.
        size: Height and width of the encoded frames.
        look: What the output says about them.
        pix_fmt: Pixel format.
        crf: Constant quality, None for a good one.
    """

    codec: str
    container: str
    size: tuple[int, int]
    look: Look
    pix_fmt: str
    crf: int | None

    def set_up(self, context: av.VideoCodecContext) -> None:
        """Set an encoder up, except for its rate."""
        context.height, context.width = self.size
        context.pix_fmt = self.pix_fmt
        context.max_b_frames = 0  # frames come out in order, so that clips join
        context.colorspace, context.color_primaries = self.look.colorspace, self.look.primaries
        context.color_trc, context.color_range = self.look.transfer, self.look.range
        if self.look.aspect:
            context.sample_aspect_ratio = self.look.aspect
        if _has_crf(context):
            crf = DEFAULT_CRF if self.crf is None else self.crf
            context.options = {**QUIET.get(self.codec, {}), 'crf': str(crf)}
        else:
            context.qmin = context.qmax = 2

    def convert(self, pixels: np.ndarray) -> av.VideoFrame:
        """RGB pixels ``(h, w, 3)`` uint8 or uint16 as the encoder wants them."""
        deep = pixels.dtype == np.uint16
        rgb = av.VideoFrame.from_ndarray(
            TO_SCALER[pixels] if deep else np.ascontiguousarray(pixels),
            format='rgb48le' if deep else 'rgb24',
        )
        frame = rgb.reformat(
            format=self.pix_fmt,
            dst_colorspace=SCALER_MATRICES.get(self.look.colorspace),
            dst_color_range=self.look.range or None,
            interpolation=SCALER,
        )
        frame.colorspace, frame.color_range = self.look.colorspace, self.look.range
        frame.color_primaries, frame.color_trc = self.look.primaries, self.look.transfer
        return frame


def choose_encoding(
    target: Path,
    probe: Path,
    size: tuple[int, int],
    look: Look,
    rate: Fraction,
    codec: str | None,
    crf: int | None,
) -> Encoding:
    """The encoding of an output.

    Args:
        target: The output, for messages.
        probe: A file with the same ending that can be opened for writing; nothing is written.
        size: Height and width of the frames as they are stored.
        look: How to show them. Where the container cannot say that frames are to be turned, the
            encoding is that of turned frames: its ``look`` has no matrix.
        rate: Frames per second.
        codec: Name of an encoder, None for one that suits the container.
        crf: Constant quality, None for a good one.

    Returns:
        The encoding.

    Raises:
        UserError: There is no such container or encoder, or they do not take these frames.
    """
    container, codec = _choose_codec(target, probe, codec)
    if look.matrix is not None and container not in TURNING_CONTAINERS:
        a, b = look.matrix[:2]
        size, look = size if abs(a) > abs(b) else size[::-1], replace(look, matrix=None)
    context = av.CodecContext.create(codec, 'w')
    assert isinstance(context, av.VideoCodecContext)
    if crf is not None and not _has_crf(context):
        raise UserError(f'--crf: {codec} has no such setting; leave it out or choose another codec')
    look = _statable(look, codec, container)
    pix_fmt = _choose_pix_fmt(codec, size, look)
    encoding = Encoding(codec, container, size, look, pix_fmt or '', crf)
    if pix_fmt is not None:
        context.framerate, context.time_base = rate, 1 / rate
        try:
            encoding.set_up(context)
            context.open()
        except (av.error.FFmpegError, ValueError, OverflowError):
            pix_fmt = None
    if pix_fmt is None:
        quality = '' if crf is None else f' at --crf {crf}'
        raise UserError(
            f'{target}: {codec} cannot encode frames of {size[1]} x {size[0]}{quality}; choose '
            f'another --codec, or a folder as output'
        )
    return encoding


def _choose_codec(target: Path, probe: Path, name: str | None) -> tuple[str, str]:
    """The container of an output, and an encoder that it takes."""
    instead = f'{target}: {target.suffix} is not a video format that can be written'
    try:
        container = av.open(str(probe), 'w')
    except ValueError as error:
        raise UserError(f'{instead}; try .mp4 or .mkv, or end a folder with /') from error
    with container:
        # Pictures, and sound that takes a picture as its title, are not meant.
        if container.format.name == 'image2' or container.default_video_codec in ('none', 'png'):
            raise UserError(f'{instead}; try .mp4 or .mkv')
        # AVI cannot say when frames of H.264 are shown.
        preferred = () if container.format.name == 'avi' else PREFERRED_CODECS
        for candidate in [name] if name else [*preferred, container.default_video_codec]:
            try:
                stream = container.add_stream(candidate)
            except (av.error.FFmpegError, ValueError):
                continue
            if isinstance(stream, av.VideoStream):
                return container.format.name, stream.codec.name
    raise UserError(
        f'--codec {name}: FFmpeg has no such encoder of video that {target.suffix} takes; leave '
        f'it out or try libx264'
        if name
        else f'{instead}; try .mp4 or .mkv'
    )


def _choose_pix_fmt(codec: str, size: tuple[int, int], look: Look) -> str | None:
    """The pixel format closest to the source's that the encoder takes at this size."""
    formats = [f.name for f in av.Codec(codec, 'w').video_formats or []]
    if any(side % 2 for side in size) and codec not in ODD_SIZE_CODECS:
        four = {name: av.VideoFormat(name, 2, 2) for name in formats}
        formats = [
            name for name, f in four.items() if (f.chroma_width(), f.chroma_height()) == (2, 2)
        ]
    best = find_best_pix_fmt_of_list(formats, look.pix_fmt)[0]
    return None if best is None else best.name


def _statable(look: Look, codec: str, container: str) -> Look:
    """The look of an output that states it, or else as players then take it to be."""
    if codec == 'mjpeg':
        return replace(look, colorspace=BT601, range=FULL_RANGE)
    if codec in COLOUR_CODECS:
        return look
    told = UNSPECIFIED not in (look.colorspace, look.primaries, look.transfer)
    if container in COLOUR_CONTAINERS or (container in TURNING_CONTAINERS and told):
        return replace(look, range=LIMITED_RANGE)
    return replace(
        look,
        colorspace=UNSPECIFIED,
        primaries=UNSPECIFIED,
        transfer=UNSPECIFIED,
        range=LIMITED_RANGE,
    )


def _has_crf(context: av.VideoCodecContext) -> bool:
    return any(option.name == 'crf' for option in context.supported_options.private)
