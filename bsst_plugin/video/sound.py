"""Sound that goes with a video."""

from collections.abc import Iterator
from fractions import Fraction

import av

# Of encoders that FFmpeg knows under the name of the codec, some are poor.
AUDIO_ENCODERS = {'opus': 'libopus', 'mp3': 'libmp3lame'}


def add_sound(
    out: av.container.OutputContainer,
    container: av.container.InputContainer,
    index: int,
    start: Fraction,
    copy: bool,
) -> Iterator[av.Packet]:
    """Add a stream of sound to a container.

    Args:
        out: The container.
        container: Where the sound comes from; nobody else reads from it.
        index: Number of its stream.
        start: When the source starts, in seconds.
        copy: Whether to take the packets as they are; else they are encoded again.

    Returns:
        The packets.

    Raises:
        ValueError: The container does not take this kind of sound.
    """
    source = container.streams[index]
    assert isinstance(source, av.AudioStream)
    if copy:
        stream = out.add_stream_from_template(source, opaque=True)
    else:
        name = AUDIO_ENCODERS.get(out.default_audio_codec, out.default_audio_codec)
        rate = 48000 if name == 'libopus' else source.rate
        encoded = out.add_stream(name, rate=rate, layout=source.layout)
        assert isinstance(encoded, av.AudioStream)
        stream = encoded
    stream.metadata.update(source.metadata)
    return _sound_packets(stream, container, source, start, copy)


def _sound_packets(
    stream: av.AudioStream,
    container: av.container.InputContainer,
    source: av.AudioStream,
    start: Fraction,
    copy: bool,
) -> Iterator[av.Packet]:
    shift = round(start / source.time_base) if source.time_base else 0
    for packet in container.demux(source):
        if not copy:
            for frame in packet.decode():
                frame.pts = None if frame.pts is None else frame.pts - shift
                yield from stream.encode(frame)
        elif packet.pts is not None and packet.dts is not None:
            packet.stream = stream
            packet.pts, packet.dts = packet.pts - shift, packet.dts - shift
            yield packet
    if not copy:
        yield from stream.encode()
