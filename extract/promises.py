"""What a container says about a stream before anything of it is decoded: how many frames, how many seconds."""

import re
from dataclasses import dataclass
from typing import Any

# Elsewhere a length is an estimate from the file's last packets, which are there even where others are missing.
_WITH_A_LENGTH = {"mov", "matroska", "asf", "flv", "mxf", "avi"}


@dataclass(frozen=True)
class Span:
    """A length that a container speaks of.

    Attributes:
        begin_seconds: where it begins on the streams' clock.
        seconds: how long; 0 where that is not said.
        of_file: it is the whole file's; the picture's alone may be shorter than the sound's.
    """

    begin_seconds: float
    seconds: float
    of_file: bool = False


def promised_length(container: Any, stream: Any) -> int:
    """How many frames a stream will have, as far as can be told; 0 where it cannot. For plans, not for judgement."""
    seconds = float((container.duration or 0) / 1_000_000)  # containers count in microseconds
    return promised_frames_of(container, stream) or round(seconds * float(stream.average_rate or 0))


def promised_frames_of(container: Any, stream: Any) -> int:
    """How many packets a container counts in a stream; 0 where it keeps no count.

    Of a file with an edit list, those are counted that it leaves, among them some that are decoded but not shown.
    """
    frames = stream.frames or int(_tag(stream, "NUMBER_OF_FRAMES") or 0)
    if _name(container) == "mov" and frames and len(stream.index_entries):
        return min(frames, len(stream.index_entries))
    return frames


def promised_span(container: Any, stream: Any) -> Span:
    """How long a stream, or else the whole file, is said to be; no seconds where that is not said."""
    start = float((stream.start_time or 0) * stream.time_base)
    if _name(container) not in _WITH_A_LENGTH:
        return Span(start, 0.0)
    if match := re.fullmatch(r"(\d+):(\d+):(\d+(?:\.\d+)?)", _tag(stream, "DURATION")):
        hours, minutes, seconds = match.groups()
        return Span(0.0, 3600 * int(hours) + 60 * int(minutes) + float(seconds))  # Matroska's is the time of the end
    if stream.duration:
        return Span(start, float(stream.duration * stream.time_base))
    return Span((container.start_time or 0) / 1_000_000, (container.duration or 0) / 1_000_000, of_file=True)


def _name(container: Any) -> str:
    return container.format.name.split(",")[0]


def _tag(stream: Any, name: str) -> str:
    """A tag's text, also where a language stands behind its name (``NUMBER_OF_FRAMES-eng``); empty without it."""
    return next((text for key, text in stream.metadata.items() if key.split("-")[0] == name), "").strip()
