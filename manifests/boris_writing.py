"""Writes bouts as a BORIS project, so that they can be looked at and corrected there.

The project has BORIS's format 7.0, which its versions from 7 on open: one observation a media file, every behaviour a
state event, a start and a stop event for each bout. Read back by :func:`actiondiff.manifests.boris.boris`.
"""

import datetime
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from actiondiff import InputError

FORMAT = "7.0"
PLAYERS = tuple(str(number) for number in range(1, 9))
NOT_ALLOWED = "|"
"""BORIS joins names by this character."""


@dataclass(frozen=True)
class CodedBout:
    """A behaviour from one time of its media file to another; the comment is free text."""

    start_seconds: float
    end_seconds: float
    behavior: str
    comment: str = ""


@dataclass(frozen=True)
class MediaInfo:
    """What BORIS wants to know of a media file."""

    seconds: float
    frames_per_second: float
    has_audio: bool


def write_boris(
    path: str | Path,
    bouts: Mapping[str | Path, Sequence[CodedBout]],
    behaviors: Iterable[str] = (),
    description: str = "",
) -> None:
    """Write a project with an observation for each media file.

    Times are written in thousandths of seconds, which BORIS counts in, and kept inside the media file.

    Args:
        path: the project, ``NAME.boris``; must not be there yet.
        bouts: of each media file, by its path.
        behaviors: that the ethogram should have beside those of the bouts.
        description: of the project.

    Raises:
        InputError: something is at ``path``, a media file cannot be opened, or a behaviour's name holds a ``|``.
    """
    path = Path(path)
    if path.exists():
        raise InputError(f"A project that was corrected by hand is not overwritten; {path} is there already.")
    used = {bout.behavior for row in bouts.values() for bout in row}
    names = list(dict.fromkeys([*behaviors, *sorted(used)]))
    if wrong := [name for name in names if NOT_ALLOWED in name]:
        raise InputError(f"BORIS does not allow {NOT_ALLOWED!r} in a behaviour's name; rename: {', '.join(wrong)}.")
    now = datetime.datetime.now().isoformat(timespec="seconds")
    project = {
        "time_format": "hh:mm:ss",
        "project_date": now,
        "project_name": path.stem,
        "project_description": description,
        "project_format_version": FORMAT,
        "subjects_conf": {},
        "behaviors_conf": {str(place): _behavior(name) for place, name in enumerate(names)},
        "observations": _observations(bouts, now),
        "behavioral_categories": [],
        "independent_variables": {},
        "coding_map": {},
        "behaviors_coding_map": [],
        "converters": {},
    }
    path.write_text(json.dumps(project, indent=1, ensure_ascii=False), encoding="utf-8")


def media_info(path: str | Path) -> MediaInfo:
    """Length, rate and sound of a media file, as its container tells them.

    Raises:
        InputError: it cannot be opened, or has no pictures.
    """
    import av

    try:
        with av.open(f"file:{path}") as container:  # a colon in a name is no protocol
            if not container.streams.video:
                raise InputError(f"BORIS needs a video; {path} has no pictures.")
            stream = container.streams.video[0]
            rate = float(stream.average_rate or 0)
            seconds = float((container.duration or 0) / av.time_base) or (stream.frames / rate if rate else 0.0)
            return MediaInfo(seconds, rate, bool(container.streams.audio))
    except (av.FFmpegError, OSError, ValueError) as error:
        raise InputError(f"{path} cannot be opened as a video: {error}.") from error


def _observations(bouts: Mapping[str | Path, Sequence[CodedBout]], now: str) -> dict[str, Any]:
    observations: dict[str, Any] = {}
    for media, row in bouts.items():
        name, number = Path(media).stem.strip(), 2
        while name in observations:
            name, number = f"{Path(media).stem.strip()} {number}", number + 1
        observations[name] = _observation(str(Path(media).absolute()), row, now)
    return observations


def _observation(media: str, bouts: Sequence[CodedBout], now: str) -> dict[str, Any]:
    info = media_info(media)
    return {
        "file": {player: [media] if player == PLAYERS[0] else [] for player in PLAYERS},
        "type": "MEDIA",
        "date": now,
        "description": "",
        "time offset": 0.0,
        "events": _events(bouts, info),
        "observation time interval": [0, 0],
        "independent_variables": {},
        "visualize_spectrogram": False,
        "visualize_waveform": False,
        "media_creation_date_as_offset": False,
        "media_scan_sampling_duration": 0,
        "image_display_duration": 1,
        "close_behaviors_between_videos": False,
        "media_info": {
            "length": {media: info.seconds},
            "fps": {media: info.frames_per_second},
            "hasVideo": {media: True},
            "hasAudio": {media: info.has_audio},
            "offset": {PLAYERS[0]: 0.0},
        },
    }


def _events(bouts: Sequence[CodedBout], info: MediaInfo) -> list[list[Any]]:
    """Time, subject, code, modifiers, comment, frame; in the order of time, a stop before a start at the same time."""
    events = []
    for bout in bouts:
        # A frame's end can lie a little behind what the container tells, where BORIS would not find it.
        end = min(bout.end_seconds, info.seconds or bout.end_seconds)
        for seconds, is_start in ((bout.start_seconds, True), (end, False)):
            time = round(seconds, 3)
            frame = round(time * info.frames_per_second)
            comment = bout.comment if is_start else ""
            events.append((time, is_start, [time, "", bout.behavior, "", comment, frame]))
    return [event for _, _, event in sorted(events, key=lambda entry: entry[:2])]


def _behavior(name: str) -> dict[str, Any]:
    return {
        "type": "State event",
        "key": "",
        "code": name,
        "description": "",
        "color": "",
        "category": "",
        "modifiers": {},
        "excluded": "",
        "coding map": "",
    }
