"""A video's pictures with their index and time: all from the beginning, or a part from the key frame before it."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import Any

from actiondiff.extract.pixels import Matrix
from actiondiff.extract.reading import Reading
from actiondiff.extract.timeline import KeyPacket, Timeline, identity_of, ticks_of
from actiondiff.extract.video import OpenVideo, open_video

_KEYS_TRIED = 2

_MOST_HELD_BACK = 128
"""No decoder holds back so many frames; one that is given no true key (H.264 with intra refresh) shows none at all."""


@dataclass(frozen=True, eq=False)
class Shown:
    """A decoded picture, not yet converted.

    Attributes:
        index: position in the source, counted from 0 over every frame.
        pts_seconds: from the source's first frame; NaN where it is not known.
        picture: PyAV's.
        matrix: how it is to be turned.
    """

    index: int
    pts_seconds: float
    picture: Any
    matrix: Matrix


class LostInFile(Exception):
    """What was found after seeking is not what the timeline says."""


def from_beginning(path: Path, reading: Reading, *, whole: bool = False) -> Iterator[Shown]:
    """Decode every picture.

    Args:
        path: the video.
        reading: the tally.
        whole: what comes is compared with what the container promises.

    Raises:
        ClipError: as :func:`actiondiff.extract.video.open_video` and :meth:`OpenVideo.pictures`.
    """
    first = last = None
    with open_video(path, reading, whole=whole) as video:
        for index, picture in enumerate(video.pictures(video.packets())):
            ticks = ticks_of(video, picture)
            if ticks is None and video.has_only_decoding_times:  # released by the end of the file
                ticks = 0 if last is None else last + 1
            if index == 0:
                first = last = ticks
            if ticks is None or first is None or last is None or ticks < last:
                reading.without_time += 1
                yield Shown(index, math.nan, picture, video.matrix(picture))
                continue
            last = ticks
            yield Shown(index, float((ticks - first) * video.stream.time_base), picture, video.matrix(picture))


def between(path: Path, timeline: Timeline, first: int, last: int, reading: Reading) -> Iterator[Shown]:
    """Decode pictures `first` to `last` - 1 of a video that is not in doubt, from the key frame before.

    What comes is compared with the timeline. Where it differs, the key frame before that is tried, then decoding from
    the beginning.
    """
    done, reading.promised = first, last - first
    for key, seek in _ways(timeline.keys_before(first)):
        try:
            for shown in _from_key(path, timeline, key, seek, done, reading):
                if shown.index < last:
                    yield shown
                    done = shown.index + 1
                if done == last:
                    return
        except LostInFile:
            pass
        reading.begin_again()
    for shown in from_beginning(path, reading):
        if shown.index >= last:
            return
        if shown.index >= done:
            yield shown


def _ways(keys: tuple[KeyPacket, ...]) -> Iterator[tuple[KeyPacket, bool]]:
    """Keys to begin at, and whether to seek them; without that, the packets before are read but not decoded."""
    useful = [key for key in keys[:_KEYS_TRIED] if key.ordinal]
    yield from ((key, True) for key in useful)
    yield from ((key, False) for key in useful)


def _from_key(
    path: Path, timeline: Timeline, key: KeyPacket, seek: bool, first: int, reading: Reading
) -> Iterator[Shown]:
    """Pictures from `first` on; raises LostInFile before the first picture that is not the one expected."""
    expected = None
    with open_video(path, reading) as video:
        for picture in _from_key_picture(video.pictures(_packets_from(video, key, seek))):
            ticks = ticks_of(video, picture)
            index = expected if ticks is None else timeline.index_of(ticks)
            if index is None or (index > first if expected is None else index < expected):
                raise LostInFile
            expected = index + 1
            if index >= first:
                yield Shown(index, float(timeline.seconds[index]), picture, video.matrix(picture))


def _from_key_picture(pictures: Iterator[Any]) -> Iterator[Any]:
    """Pictures from the key's own on: before it may come some that refer to others, which are not there."""
    for picture in pictures:
        if picture.key_frame:
            yield picture
            yield from pictures
            return


def _packets_from(video: OpenVideo, key: KeyPacket, seek: bool) -> Iterator[Any]:
    """Packets from a key on; raises LostInFile where so many of them have given no picture that none will come."""
    packets = _seek(video, key) if seek else islice(video.packets(), key.ordinal, None)
    for number, packet in enumerate(packets):
        if number == _MOST_HELD_BACK and video.reading.size_hw == (0, 0):
            raise LostInFile
        yield packet


def _seek(video: OpenVideo, key: KeyPacket) -> Iterator[Any]:
    try:
        video.container.seek(key.dts, stream=video.stream)
    except OSError as error:  # PyAV's errors are
        raise LostInFile from error
    packets = video.packets()
    for packet in packets:
        if identity_of(packet) == key.identity:
            return chain([packet], packets)
        if packet.dts is not None and packet.dts > key.dts:
            break
    raise LostInFile
