"""Videos of every kind, good, odd and bad, written on the spot; pictures tell their number by their pixels."""

import os
import struct
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

HEIGHT, WIDTH = 48, 64


def picture(number: int, height: int = HEIGHT, width: int = WIDTH) -> np.ndarray:
    """One that differs everywhere from its neighbours, and moves."""
    rows, columns = np.mgrid[:height, :width]
    wave = np.sin((rows + 2 * number) / 5) + np.cos((columns - 3 * number) / 7)
    pixels = np.stack([wave * 50 + 128, (rows * 3 + number * 7) % 200, (columns * 2 + number * 11) % 220], axis=-1)
    return pixels.clip(0, 255).astype(np.uint8)


def write(
    path: Path,
    codec: str = "libx264",
    frames: int = 60,
    *,
    rate: int = 25,
    size_hw: tuple[int, int] = (HEIGHT, WIDTH),
    pixel_format: str = "yuv420p",
    options: dict[str, str] | None = None,
    container_options: dict[str, str] | None = None,
    b_frames: int | None = None,
    times_ms: Sequence[int] | None = None,
    pictures: Iterator[np.ndarray] | None = None,
) -> Path:
    """Encode pictures; `times_ms` gives each its own time, in thousandths of a second."""
    with usual_scheduling(), av.open(str(path), "w", options=container_options or {}) as container:
        stream: Any = container.add_stream(codec, rate=rate, options=options or {})
        stream.height, stream.width = size_hw
        stream.pix_fmt = pixel_format
        if b_frames is not None:
            stream.codec_context.max_b_frames = b_frames
        if times_ms is not None:
            stream.codec_context.time_base = Fraction(1, 1000)
        for number, pixels in enumerate(pictures or (picture(n, *size_hw) for n in range(frames))):
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            if times_ms is not None:
                frame.pts, frame.time_base = times_ms[number], Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


@contextmanager
def usual_scheduling() -> Iterator[None]:
    """Afterwards this thread is scheduled as it was before.

    SVT-AV1, started by root, gives the calling thread the first place before everything else on the computer, for good:
    a test that later starts processes which wait for one another in turns would hang.
    """
    if not hasattr(os, "sched_setscheduler"):
        yield
        return
    policy, parameters = os.sched_getscheduler(0), os.sched_getparam(0)
    try:
        yield
    finally:
        os.sched_setscheduler(0, policy, parameters)


def remux(source: Path, target: Path, change: Any) -> Path:
    """Copy packets; `change` is asked for each and may alter it, or say that it is left out."""
    with av.open(str(source)) as old, av.open(str(target), "w") as new:
        stream = new.add_stream_from_template(old.streams.video[0])
        for number, packet in enumerate(packet for packet in old.demux(video=0) if packet.size):
            if change(number, packet) is not False:
                packet.stream = stream
                new.mux(packet)
    return target


def packed_avi(path: Path, frames: int = 61, gop: int = 12) -> Path:
    """MPEG-4 with packed B-frames, as DivX and XviD write it into AVI.

    The first packet is a key, the second a placeholder of one byte; then, again and again, a packet with a P-frame
    and the B-frame before it, and a packet with an empty picture.
    """
    plain = write(path.with_name("plain.avi"), "mpeg4", frames, b_frames=1, options={"g": str(gop)})
    with av.open(str(plain)) as container:
        stream = container.streams.video[0]
        packets = [bytes(packet) for packet in container.demux(stream) if packet.size]
        extradata = stream.codec_context.extradata
    resolution_bits = (25 - 1).bit_length()
    chunks = [packets[0], b"\x7f"]
    for reference, between in zip(packets[1::2], packets[2::2], strict=True):
        chunks += [reference + between, _empty_vop(resolution_bits)]
    plain.unlink()
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=25)
        stream.height, stream.width, stream.pix_fmt = HEIGHT, WIDTH, "yuv420p"
        stream.codec_context.extradata = extradata + b"\0\0\1\xb2DivX503b1393p\0"
        for number, chunk in enumerate(chunks):
            packet = av.Packet(chunk)
            packet.stream, packet.dts, packet.pts, packet.time_base = stream, number, number, Fraction(1, 25)
            packet.is_keyframe = number == 0 or _is_key(chunk)
            container.mux(packet)
    return path


def _is_key(chunk: bytes) -> bool:
    start = chunk.find(b"\0\0\1\xb6")
    return start >= 0 and chunk[start + 4] >> 6 == 0


def _empty_vop(resolution_bits: int) -> bytes:
    """A P-picture that is not coded: type 01, no whole seconds, marker, time, marker, not coded, stuffing."""
    bits = "01" + "0" + "1" + "0" * resolution_bits + "1" + "0"
    bits += "0" + "1" * (-(len(bits) + 1) % 8)
    return b"\0\0\1\xb6" + int(bits, 2).to_bytes(len(bits) // 8, "big")


def with_edits(data: bytes, edits: Sequence[tuple[int, int]]) -> bytes:
    """The bytes of an mp4 file whose index stands last, with the edit list of its track replaced.

    Args:
        data: of a file with one track.
        edits: duration in the file's thousandths, and beginning in the track's ticks (-1: nothing is shown).
    """
    found = bytearray(data)
    movie, track = found.index(b"moov") - 4, found.index(b"trak") - 4
    if (old := found.find(b"edts") - 4) >= 0:
        size = _size(found, old)
        del found[old : old + size]
        _grow(found, (movie, track), -size)
    header = found.index(b"tkhd") - 4
    place = header + _size(found, header)
    entries = b"".join(struct.pack(">IiI", duration, begin, 1 << 16) for duration, begin in edits)
    elst = struct.pack(">I4sII", 16 + len(entries), b"elst", 0, len(edits)) + entries
    box = struct.pack(">I4s", 8 + len(elst), b"edts") + elst
    found[place:place] = box
    _grow(found, (movie, track), len(box))
    return bytes(found)


def with_matrix(data: bytes, a: int, b: int, c: int, d: int) -> bytes:
    """The bytes of an mp4 file with a display matrix in its (version 0) track header; 1 is written as 65536."""
    found = bytearray(data)
    place = found.index(b"tkhd") + 4 + 40
    found[place : place + 36] = struct.pack(">9i", a << 16, b << 16, 0, c << 16, d << 16, 0, 0, 0, 1 << 30)
    return bytes(found)


def _size(data: bytearray, place: int) -> int:
    return struct.unpack(">I", data[place : place + 4])[0]


def _grow(data: bytearray, places: Sequence[int], by: int) -> None:
    for place in places:
        data[place : place + 4] = struct.pack(">I", _size(data, place) + by)
