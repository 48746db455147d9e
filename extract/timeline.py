"""When every frame of a video is shown, learned from its packets without decoding them, and where decoding may begin.

Decoding a part from the file's beginning costs as much as the whole file up to there. But a part's frames can only be
found by seeking if it is known beforehand which frames the file has, as seeking lands somewhere near. So the packets
are read once, which costs about a hundredth of decoding them; the first frames are decoded to see whether the packets
told the truth. Where they did not, or might not, `Timeline.doubt` says so, and parts are decoded from the beginning.
"""

from array import array
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float64, Int64

from actiondiff.extract.remembered import Remembered
from actiondiff.extract.video import OpenVideo, open_video

_HEAD = 48
"""So many frames are decoded to see whether the packets told the truth: more than any encoder holds back."""

_KEYS_APART = 12
"""Where every frame is a key, not every one needs to be remembered."""

_EMPTY_VOP_BYTES = 8
"""An MPEG-4 picture that only says "as before", from which no frame comes."""

# Codecs whose every packet is one frame that is shown. (VP8 hides some; a screen codec's keys may not be keys.)
_ONE_FRAME_A_PACKET = frozenset({
    "h264", "hevc", "av1", "vp9", "mpeg4", "mpeg2video", "mpeg1video", "h263", "flv1", "msmpeg4v2", "msmpeg4v3",
    "wmv1", "wmv2", "mjpeg", "ffv1", "huffyuv", "ffvhuff", "utvideo", "prores", "dnxhd", "dvvideo", "rawvideo", "png",
})  # fmt: skip
# Codecs that may change, at a key, how long they hold frames back, so that decoding times alone tell no order.
_DELAY_VARIES = frozenset({"h264", "hevc", "av1", "vp9"})


@dataclass(frozen=True)
class KeyPacket:
    """A packet from which decoding may begin.

    Attributes:
        ordinal: how many packets of the stream stand before it.
        index: of its frame; in files without presentation times of the earliest that it can be.
        identity: its times, place and size, by which it is known again after seeking.
    """

    ordinal: int
    index: int
    identity: tuple[int | None, ...]

    @property
    def dts(self) -> int:
        """Its decoding time, to seek to; its presentation time where it has no other."""
        pts, dts = self.identity[:2]
        return dts if dts is not None else (pts or 0)


@dataclass(frozen=True, eq=False)
class Timeline:
    """A video's frames in the order in which they are shown.

    Attributes:
        ticks: the time that a decoded picture carries, on the stream's clock: presentation time, or where the file has
            none the decoding time of the packet that released it.
        seconds: the same from the first frame.
        keys: where decoding may begin, in order.
        doubt: why parts must not be found by this; empty where they may.
    """

    ticks: Int64[np.ndarray, " frames"]
    seconds: Float64[np.ndarray, " frames"]
    keys: tuple[KeyPacket, ...]
    doubt: str = ""

    def span(self, start_seconds: float | None, end_seconds: float | None) -> tuple[int, int]:
        """Index of a part's first frame, and of the one behind its last."""
        first = 0 if start_seconds is None else int(np.searchsorted(self.seconds, start_seconds))
        last = len(self.seconds) if end_seconds is None else int(np.searchsorted(self.seconds, end_seconds))
        return first, max(first, last)

    def index_of(self, ticks: int | None) -> int | None:
        """Which frame a time belongs to; None where it belongs to none."""
        if ticks is None:
            return None
        index = int(np.searchsorted(self.ticks, ticks))
        return index if index < len(self.ticks) and self.ticks[index] == ticks else None

    def keys_before(self, index: int) -> tuple[KeyPacket, ...]:
        """The keys from which a frame can be reached, the nearest first."""
        return self.keys[: bisect_right(self.keys, index, key=lambda key: key.index)][::-1]


def ticks_of(video: OpenVideo, picture: Any) -> int | None:
    """The time that a decoded picture carries.

    In a file without presentation times FFmpeg guesses them for packets, wrongly so for packed B-frames. But the
    decoder gives out one picture for each packet, in the order of showing, and notes that packet's decoding time on it
    (`AVFrame.pkt_dts`): the time of showing plus a constant. None of the last pictures, which no packet released.
    """
    return picture.dts if video.has_only_decoding_times else picture.pts


def identity_of(packet: Any) -> tuple[int | None, ...]:
    """What a packet is known by."""
    return packet.pts, packet.dts, packet.pos, packet.size


def scan(path: Path) -> Timeline:
    """Read a video's packets, and decode its first frames.

    Raises:
        ClipError: as :func:`actiondiff.extract.video.open_video`.
    """
    with open_video(path) as video:
        ticks, keys, doubt = _read_packets(video)
    with open_video(path) as video:
        head = [ticks_of(video, picture) for picture in islice(video.pictures(video.packets()), _HEAD)]
        time_base, delayed = video.stream.time_base, video.has_only_decoding_times
    doubt = doubt or _doubt_of_head(ticks, head, delayed)
    if not doubt and delayed:
        delay = ticks.index(head[0]) if head[0] is not None else 0
        # The last pictures are released by the end of the file, one tick after another.
        ticks = ticks[delay:] + array("q", (ticks[-1] + 1 + number for number in range(delay)))
    shown = np.array(ticks, np.int64)
    # An exact quotient of two integers, as a Fraction would give it.
    seconds = (shown - shown[:1]) * time_base.numerator / time_base.denominator
    return Timeline(shown, seconds, tuple(keys), doubt)


timeline_of = Remembered(scan, most=8)
"""The timeline of a file, read once in a process; eight bytes a frame are kept twice."""


def _read_packets(video: OpenVideo) -> tuple["array[int]", list[KeyPacket], str]:
    ticks, found, doubt = array("q"), [], _doubt_of_codec(video)
    vops = _PackedVops() if video.reading.codec == "mpeg4" else None
    for ordinal, packet in enumerate(video.packets()):
        if video.is_placeholder(packet) or packet.is_discard:
            continue
        time = packet.dts if video.has_only_decoding_times else packet.pts
        if time is None:
            return ticks, [], "there are packets without a time"
        if vops is not None and vops.makes_no_frame(packet):
            doubt = doubt or "there are packets from which no frame comes"
            continue
        if packet.is_keyframe:
            found.append((time, len(ticks), ordinal, identity_of(packet)))
        ticks.append(time)
        if doubt:
            return ticks, [], doubt
    shown = array("q", sorted(ticks))
    if any(np.diff(np.array(shown, np.int64)) == 0):
        return shown, [], "there are frames with the same time"
    keys = (
        KeyPacket(ordinal, rank if video.has_only_decoding_times else bisect_right(shown, time) - 1, identity)
        for time, rank, ordinal, identity in found
    )
    return shown, list(_thinned(keys)), "" if shown else "there are no packets"


def _doubt_of_codec(video: OpenVideo) -> str:
    codec = video.reading.codec
    if codec not in _ONE_FRAME_A_PACKET:
        return f"{codec} may have packets from which no frame comes"
    if video.has_only_decoding_times and codec in _DELAY_VARIES:
        return f"{codec} reorders frames in ways that a file without presentation times does not tell"
    return ""


def _doubt_of_head(ticks: "array[int]", head: list[int | None], delayed: bool) -> str:
    """Whether the first decoded frames are those that the packets announced."""
    expected: list[int | None] = list(ticks[: 2 * _HEAD])
    if delayed and head and head[0] in expected:
        expected = expected[expected.index(head[0]) :]
        head = [time for time in head if time is not None]  # the last frames of a short file
    if not head or head != expected[: len(head)]:
        return "the first frames are not those that the packets announce"
    return ""


def _thinned(keys: Iterable[KeyPacket]) -> Iterator[KeyPacket]:
    last = -_KEYS_APART
    for key in keys:
        if key.index >= last + _KEYS_APART:
            last = key.index
            yield key


class _PackedVops:
    """Tells packets of MPEG-4 without a frame from those that stand for a frame packed into one before.

    DivX and XviD write a B-frame into the packet of the frame that it refers to, and later an empty picture in its
    place.
    """

    def __init__(self) -> None:
        self._owed = 0

    def makes_no_frame(self, packet: Any) -> bool:
        owed_before = self._owed
        pictures = bytes(packet).count(b"\0\0\1\xb6")
        self._owed += max(0, pictures - 1)
        if pictures > 1 or packet.size > _EMPTY_VOP_BYTES:
            return False
        self._owed -= bool(owed_before)
        return not owed_before
