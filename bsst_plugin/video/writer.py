"""Video files, written clip by clip."""

import errno
import heapq
import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from fractions import Fraction
from pathlib import Path

import av
import av.error

from bsst_plugin.errors import UserError
from bsst_plugin.video.encoding import choose_encoding
from bsst_plugin.video.frames import Frame, FrameSource, FrameWriter, Look, upright
from bsst_plugin.video.reader import VideoFile
from bsst_plugin.video.sound import add_sound


class VideoWriter(FrameWriter):
    """A video.

    Each clip is encoded on its own and the clips are joined without encoding again, so that the
    result does not depend on where a run was interrupted.

    Args:
        target: See :class:`FrameWriter`; its ending says the container.
        partial: See :class:`FrameWriter`.
        source: Where the frames come from; times and sound are taken from there.
        size: Height and width of the frames.
        look: How to show the frames. Where the container cannot say that they are to be turned,
            they are turned.
        codec: Name of an encoder of FFmpeg, None for one that suits the container.
        crf: Constant quality, None for a good one.
        sound: Whether to take the sound along.

    Raises:
        UserError: FFmpeg cannot write such a video.
    """

    def __init__(
        self,
        target: Path,
        partial: Path,
        source: FrameSource,
        size: tuple[int, int],
        look: Look,
        codec: str | None = None,
        crf: int | None = None,
        sound: bool = True,
    ) -> None:
        super().__init__(target, partial)
        self.source, self.sound = source, sound
        probe = partial / f'probe{target.suffix}'
        self.encoding = choose_encoding(target, probe, size, look, source.rate, codec, crf)
        self.turn = look.matrix if self.encoding.look.matrix is None else None
        # AVI knows a constant rate only; in it, times are rounded to whole frames.
        constant = self.encoding.container == 'avi'
        self.time_base = 1 / source.rate if constant else source.time_base

    def write_clip(self, clip: int, frames: Sequence[Frame]) -> None:
        """See :meth:`FrameWriter.write_clip`."""
        path = self._clip(clip)
        with av.open(str(path), 'w') as container:
            stream = container.add_stream(self.encoding.codec, rate=self.source.rate)
            assert isinstance(stream, av.VideoStream)
            self.encoding.set_up(stream.codec_context)
            for frame in frames:
                pixels = upright(frame.pixels, self.turn)
                container.mux(stream.encode(self.encoding.convert(pixels)))
            container.mux(stream.encode())
        _check_frames(path, len(frames))

    def finish(self, clips: int) -> list[str]:
        """See :meth:`FrameWriter.finish`."""
        joined = self.partial / f'joined{self.target.suffix}'
        # Sound as it is if the container takes it, else encoded again, else none.
        for copy in (True, False, None):
            try:
                notes = self._join(joined, clips, copy)
                break
            except (av.error.FFmpegError, ValueError) as error:
                if copy is None or getattr(error, 'errno', None) == errno.ENOSPC:
                    raise
        _check_frames(joined, len(self.source.times))
        os.replace(joined, self.target)
        return notes

    def _clip(self, clip: int) -> Path:
        return self.partial / f'{self.target.stem}_{clip:05d}{self.target.suffix}'

    def _join(self, path: Path, clips: int, copy_sound: bool | None) -> list[str]:
        """Join the clips, and the sound as it is (True), encoded again (False) or not (None)."""
        notes = []
        with ExitStack() as stack:
            out = stack.enter_context(av.open(str(path), 'w'))
            first = stack.enter_context(av.open(str(self._clip(0))))
            # "Opaque" takes the parameters as they are, whether or not there is an encoder of the
            # same name as the decoder.
            video = out.add_stream_from_template(first.streams.video[0], opaque=True)
            video.time_base = self.time_base
            video.codec_context.framerate = self.source.rate
            if self.encoding.look.matrix is not None:
                video.set_display_matrix(self.encoding.look.matrix)
            packets = [self._packets(video, clips)]
            if self.sound and isinstance(self.source, VideoFile):
                source = stack.enter_context(av.open(str(self.source.path)))
                out.metadata.update(source.metadata)
                for stream in source.streams.audio:
                    if copy_sound is None:
                        ending = self.target.suffix
                        notes.append(f'{self.target}: without sound, which {ending} does not take')
                        break
                    track = stack.enter_context(av.open(str(self.source.path)))
                    packets.append(
                        add_sound(out, track, stream.index, self.source.start, copy_sound)
                    )
            for packet in heapq.merge(*packets, key=_seconds):
                out.mux(packet)
        return notes

    def _packets(self, stream: av.VideoStream, clips: int) -> Iterator[av.Packet]:
        """The packets of all clips, with the times of the source."""
        unit = self.source.time_base / self.time_base
        times: list[int] = []
        for time in (*self.source.times, self.source.end):
            times.append(max(round(time * unit), times[-1] + 1 if times else round(time * unit)))
        index = 0
        for clip in range(clips):
            with av.open(str(self._clip(clip))) as container:
                for packet in container.demux(video=0):
                    if packet.size:  # the last one only ends the stream
                        packet.stream, packet.time_base = stream, self.time_base
                        packet.pts = packet.dts = times[index]
                        packet.duration = times[index + 1] - times[index]
                        index += 1
                        yield packet


def _check_frames(path: Path, frames: int) -> None:
    """Check that a video holds all of its frames: FFmpeg does not report every failed write."""
    try:
        with av.open(str(path)) as container:
            written = sum(1 for packet in container.demux(video=0) if packet.size)
    except av.error.FFmpegError:
        written = 0
    if written != frames:
        raise UserError(
            f'{path.parent}: only {written} of {frames} frames could be written; is there space '
            f'left?'
        )


def _seconds(packet: av.Packet) -> Fraction:
    return Fraction(packet.dts or 0) * (packet.time_base or 0)
