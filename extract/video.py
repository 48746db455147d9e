"""A video file opened: which stream is read, what its container promises, its packets and its decoded pictures."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from actiondiff.extract.errors import ClipError
from actiondiff.extract.pixels import MOST_PIXELS, Matrix, check_size, display_matrix, shown_size_hw, turn_text
from actiondiff.extract.promises import Span, promised_frames_of, promised_span
from actiondiff.extract.reading import Reading

PLACEHOLDER_BYTES = 1
"""Encoders of packed B-frames (DivX, XviD) write packets of one byte while they wait for a frame to refer to."""


@dataclass(eq=False)
class OpenVideo:
    """An open container, the stream that is read, and the tally of reading it.

    Attributes:
        path: of the file.
        container: PyAV's.
        stream: the first video stream that is no cover picture.
        span: the length that the container speaks of.
        reading: what was found so far.
        whole: the file is read from its beginning to its end, and compared with what it promises.
    """

    path: Path
    container: Any
    stream: Any
    span: Span
    reading: Reading
    whole: bool
    _matrices: dict[int, Matrix] = field(default_factory=dict)

    @property
    def has_only_decoding_times(self) -> bool:
        """AVI numbers its packets in the order of decoding; when a frame is shown is not in the file."""
        return self.container.format.name == "avi"

    @property
    def _is_short(self) -> bool:
        """Whether what is read has few frames; where the container does not say, it may be long."""
        expected = self.reading.promised or round(self.span.seconds * float(self.stream.average_rate or 0))
        return 0 < expected <= self.reading.short_frames

    def is_placeholder(self, packet: Any) -> bool:
        """Whether an encoder wrote a packet only while it waited."""
        return packet.size <= PLACEHOLDER_BYTES and self.reading.codec == "mpeg4"

    def matrix(self, picture: Any) -> Matrix:
        """How a picture is to be turned to be shown.

        Asking PyAV for side data ties a picture to itself: it stays in memory until the garbage collector finds it. So
        only the first picture of each rotation is asked for its matrix.
        """
        rotation = picture.rotation
        if rotation not in self._matrices:
            try:
                self._matrices[rotation] = display_matrix(picture)
            except ValueError as error:
                message = (
                    f"{self.path} is shown turned, but not by 90, 180 or 270 degrees: {error}. Convert it upright."
                )
                raise ClipError("turned", message) from error
        return self._matrices[rotation]

    def packets(self) -> Iterator[Any]:
        """The stream's packets, without empty ones; ends, and notes it, where the file cannot be read on."""
        import av

        # Of a length that is the whole file's, the end may be the sound's.
        witnesses = self.container.streams.audio if self.whole and self.span.of_file else ()
        demuxed = self.container.demux(self.stream, *witnesses)
        while True:
            try:
                packet = next(demuxed)
            except StopIteration:
                return
            except (av.FFmpegError, OSError) as error:
                self.reading.damage(error)
                return
            if packet.pts is not None:
                end = float((packet.pts + (packet.duration or 0)) * packet.time_base) - self.span.begin_seconds
                self.reading.reached_seconds = max(self.reading.reached_seconds, end)
            if packet.stream is self.stream and packet.size:
                yield packet

    def pictures(self, packets: Iterable[Any]) -> Iterator[Any]:
        """Decode packets; pictures come in the order in which they are shown.

        A packet that the decoder refuses is noted and passed over, as players do.

        Raises:
            ClipError: pictures are too large (``too_large``), or turned by something else than quarter turns
                (``turned``).
        """
        import av

        decoder = self.stream.codec_context
        decoder.thread_type, decoder.thread_count = "AUTO", 1 if self._is_short else self.reading.threads
        decoder.options = {"max_pixels": str(MOST_PIXELS)}
        for packet in self._then_the_rest(packets):
            try:
                pictures = decoder.decode(packet)
            except (av.FFmpegError, OSError) as error:
                self.reading.damage(error)
                continue
            for picture in pictures:
                self._look(picture)
                yield picture

    def _then_the_rest(self, packets: Iterable[Any]) -> Iterator[Any]:
        """The packets that hold a picture, and None, upon which a decoder gives out what it still holds."""
        for packet in packets:
            is_placeholder = self.is_placeholder(packet)
            self.reading.without_picture += self.whole and (is_placeholder or packet.is_discard)
            if not is_placeholder:
                yield packet
        yield None

    def _look(self, picture: Any) -> None:
        """Note what a picture looks like."""
        reading = self.reading
        check_size(str(self.path), picture.width, picture.height)
        matrix = self.matrix(picture)
        if not reading.pixel_format:
            reading.pixel_format, reading.turn = picture.format.name, turn_text(matrix)
        reading.see(shown_size_hw(picture, matrix))
        reading.corrupt += picture.is_corrupt
        reading.interlaced |= picture.interlaced_frame


@contextmanager
def open_video(path: Path, reading: Reading | None = None, *, whole: bool = False) -> Iterator[OpenVideo]:
    """Open a video file and choose its stream.

    Args:
        path: the file.
        reading: the tally to go on with, or None for a new one.
        whole: it is read from its beginning to its end, and compared with what it promises.

    Raises:
        ClipError: ``decode_error``, ``no_video``, ``no_decoder`` or ``too_large``.
    """
    import av

    reading = reading if reading is not None else Reading()
    try:
        container = av.open(f"file:{path}")  # a colon in a name is no protocol
    except (av.FFmpegError, OSError, ValueError) as error:
        raise ClipError("decode_error", f"{path} cannot be decoded as a video: {error}.") from error
    with container:
        streams = _without_covers(path, container)
        stream = streams[0]
        if stream.codec_context is None:
            raise ClipError("no_decoder", f"{path} is in a codec that this FFmpeg has no decoder for. Convert it.")
        check_size(str(path), stream.codec_context.width, stream.codec_context.height)
        reading.container = container.format.name.split(",")[0]
        reading.codec, reading.video_streams = stream.codec_context.codec.canonical_name, len(streams)
        span = promised_span(container, stream)
        if whole:
            reading.promised = promised_frames_of(container, stream)
            reading.promised_seconds = 0.0 if reading.promised else span.seconds
        reading.late_seconds = max(0.0, _start_seconds(stream) - (container.start_time or 0) / av.time_base)
        yield OpenVideo(path, container, stream, span, reading, whole)


def _without_covers(path: Path, container: Any) -> list[Any]:
    import av

    covers = [s for s in container.streams.video if s.disposition & av.stream.Disposition.attached_pic]
    streams = [stream for stream in container.streams.video if stream not in covers]
    if not streams:
        what = "a cover picture, but no video stream" if covers else "no video stream"
        raise ClipError("no_video", f"{path} has {what}.")
    return streams


def _start_seconds(stream: Any) -> float:
    return float((stream.start_time or 0) * stream.time_base)
