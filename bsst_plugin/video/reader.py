"""Video files, read frame by frame."""

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import av.error
import numpy as np
from av.sidedata.sidedata import Type
from av.video.reformatter import Colorspace

from bsst_plugin.errors import UserError
from bsst_plugin.video.colours import FROM_SCALER, SCALER, SCALER_MATRICES
from bsst_plugin.video.folder import FrameFolder
from bsst_plugin.video.frames import FULL_RANGE, Frame, FrameSource, Look, stamp


def open_source(path: Path, rate: Fraction = Fraction(25)) -> FrameSource:
    """Open a video or a folder of frames.

    Args:
        path: The video or the folder.
        rate: Frames per second of a folder.

    Returns:
        The frames.

    Raises:
        UserError: There is nothing there that has frames.
    """
    if path.is_dir():
        return FrameFolder(path, rate)
    if not path.exists():
        raise UserError(f'{path}: no such video or folder of frames')
    return VideoFile(path)


class VideoFile(FrameSource):
    """The video stream of a file.

    Opening it decodes it once: how many frames there are and when they are shown is not certain
    before, and whatever is wrong with the file comes out now and not after hours.

    Args:
        path: The file.

    Attributes:
        start: Time in seconds that counts as zero in ``times``.

    Raises:
        UserError: It is not a video, or no frame can be decoded.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        with _open_video(path) as container:
            stream = _video_stream(container)
            if stream is None or container.format.name in ('tty', 'image2'):
                raise UserError(f'{path}: not a video')
            if container.format.name.endswith('_pipe'):
                raise UserError(f'{path}: a picture; give a video or a folder of frames')
            # AVI has no time stamps; with reordered frames FFmpeg's guesses are wrong.
            guessed = container.format.name == 'avi' and stream.has_b_frames
            pts: list[int | None] = []
            last = 0
            for frame in self._decode(container, stream):
                if not pts:
                    self.size = (frame.height, frame.width)
                    self.look = _look(frame, stream)
                    self.deep = max(part.bits for part in frame.format.components) > 8
                pts.append(None if guessed else frame.pts)
                last = frame.duration
            self.names = [f'{index:05d}.png' for index in range(len(pts))]
            if not pts:
                raise UserError(f'{path}: no frame of this video can be decoded')
            self.time_base = stream.time_base or Fraction(1, av.time_base)
            self.rate = stream.average_rate or _mean_rate(pts, self.time_base)
            self.start = Fraction(container.start_time or 0, av.time_base)
            start = round(self.start / self.time_base)
            step = max(1, round(1 / self.rate / self.time_base))
            self.times = _increasing([None if t is None else t - start for t in pts], step)
            # Some decoders give nothing for a damaged frame, without an error.
            expected = min(stream.frames, self._packets)
            self.broken = max(self.broken, expected - len(pts))
            self.end = self.times[-1] + (last or step)
            complete = not self.broken
            if complete and stream.duration is not None and stream.start_time is not None:
                stated = stream.start_time - start + stream.duration
                self.end = stated if stated > self.times[-1] else self.end

    @property
    def files(self) -> dict[str, tuple[int, int]]:
        """See :attr:`FrameSource.files`."""
        return {self.path.name: stamp(self.path)}

    def frames(self, start: int = 0) -> Iterator[Frame]:
        """See :meth:`FrameSource.frames`."""
        height, width = self.size
        with _open_video(self.path) as container:
            stream = _video_stream(container)
            assert stream is not None
            for index, frame in enumerate(self._decode(container, stream)):
                if index < start:
                    continue
                matrix = SCALER_MATRICES.get(int(frame.colorspace))
                if matrix is None:
                    frame.colorspace = Colorspace.DEFAULT
                # A frame of another size, as broadcasts have them, is brought to the first's.
                pixels = frame.to_ndarray(
                    format='rgb48le' if self.deep else 'rgb24',
                    width=width,
                    height=height,
                    src_colorspace=matrix,
                    interpolation=SCALER,
                )
                yield Frame(FROM_SCALER[pixels] if self.deep else pixels, self.names[index])

    def _decode(
        self, container: av.container.InputContainer, stream: av.VideoStream
    ) -> Iterator[av.VideoFrame]:
        """Decode what can be decoded.

        Not in several frames at once: a damaged one would take others along.
        """
        self.broken = self._packets = 0
        packets = container.demux(stream)
        while True:
            try:
                packet = next(packets, None)
            except av.error.FFmpegError:  # the rest of the file is missing
                self.broken += 1
                packet = None
            # Not what is only decoded because others build on it, before the start of a cut video.
            self._packets += packet is not None and packet.size > 0 and not packet.is_discard
            try:
                # The frames that are still inside come out at the end.
                yield from stream.decode(packet)
            except av.error.FFmpegError as error:
                if not isinstance(error, av.error.EOFError):
                    self.broken += 1
            if packet is None:
                return


def _open_video(path: Path) -> av.container.InputContainer:
    try:
        return av.open(str(path))
    except av.error.FFmpegError as error:
        raise UserError(
            f'{path}: not a video, or one that is damaged or cut off ({error.strerror})'
        ) from error


def _video_stream(container: av.container.InputContainer) -> av.VideoStream | None:
    """The video, not a title picture beside the sound."""
    stream = container.streams.best('video')
    return stream if isinstance(stream, av.VideoStream) else None


def _look(frame: av.VideoFrame, stream: av.VideoStream) -> Look:
    """What a decoded frame and its stream say about colours and orientation."""
    sides: Any = frame.side_data  # its stubs are wrong
    data = sides.get(Type.DISPLAYMATRIX)
    matrix = None if data is None else tuple(np.frombuffer(bytes(data), np.int32).tolist())
    if frame.format.is_rgb or frame.format.has_palette:
        deep = max(part.bits for part in frame.format.components) > 8
        aspect = stream.sample_aspect_ratio
        return Look('yuv444p10le' if deep else 'yuv444p', aspect=aspect, matrix=matrix)
    full_range = frame.format.name.startswith('yuvj')
    return Look(
        frame.format.name.replace('yuvj', 'yuv'),
        int(frame.colorspace),
        int(frame.color_primaries),
        int(frame.color_trc),
        FULL_RANGE if full_range else int(frame.color_range),
        stream.sample_aspect_ratio,
        matrix,
    )


def _mean_rate(pts: list[int | None], time_base: Fraction) -> Fraction:
    """Frames per second, for a file that does not say."""
    known = [time for time in pts if time is not None]
    if len(known) < 2 or max(known) == min(known):
        return Fraction(25)
    rate = (len(known) - 1) / ((max(known) - min(known)) * time_base)
    return rate.limit_denominator(1001)


def _increasing(times: list[int | None], step: int) -> list[int]:
    """Times where missing ones and those that go back are one step after the one before."""
    out: list[int] = []
    for time in times:
        if not out:
            out.append(0 if time is None else time)
        else:
            out.append(out[-1] + step if time is None or time <= out[-1] else time)
    return out
