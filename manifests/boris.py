"""BORIS (Friard & Gamba, 2016): the bouts that ethologists have labelled, as clips with start and end."""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path, PureWindowsPath

from actiondiff.manifests.boris_files import Bout, Findings, Media, Observation, read_project, read_table
from actiondiff.manifests.building import EXAMPLES_SHOWN, Builder, Built, ClipsOnDisk
from actiondiff.manifests.faults import shortened


def boris(
    files: Sequence[str | Path],
    videos: str | Path | None = None,
    *,
    point_seconds: float = 2.0,
    allow_missing: bool = False,
) -> Built:
    """A manifest of the bouts in BORIS projects and tables: label is the behaviour, group the subject.

    Args:
        files: projects (`.boris`), or exported tabular or aggregated events (`.csv`, `.tsv`, `.xlsx`).
        videos: folder of the media files, found by name at any depth; by default that of the first file. The paths in
            a project are those of the computer it was made on, so that only the names count.
        point_seconds: length of the clip around a point event, which has no duration of its own; 0 leaves them out.
        allow_missing: keep rows whose media file is not on disk.

    Raises:
        ManifestError: files are no projects or tables, times cannot be told, or media are missing; all of it is told.
    """
    builder, found = Builder(), Findings([], [], [])
    paths = [Path(file) for file in files]
    disk = ClipsOnDisk(Path(videos) if videos else paths[0].absolute().parent, "", builder.faults)
    for path in paths:
        reader = read_project if path.suffix.lower() == ".boris" else read_table
        for observation in reader(path, found, builder.faults):
            if not observation.media:
                found.without_media.append(observation.name)
            elif len(observation.media) > 1 and any(media.seconds is None for media in observation.media):
                told = f"observation {observation.name!r} has several media files and not the length of each"
                builder.faults.append(
                    observation.place.fault(f"{told}; give the .boris project in place of the table.")
                )
            else:
                _add(observation, disk, point_seconds, found, builder)
    _say(found, builder)
    return builder.finish("BORIS", [disk], allow_missing=allow_missing)


def _add(observation: Observation, disk: ClipsOnDisk, point_seconds: float, found: Findings, builder: Builder) -> None:
    stem = f"{_plain(Path(observation.place.file).stem)}/{_plain(observation.name)}"
    number = 0
    for bout in observation.bouts:
        if bout.end_seconds is None and not point_seconds:
            found.points += 1
            continue
        clips = list(_clips(bout, observation, point_seconds))
        if not clips:
            found.outside.append(f"{observation.name} at {bout.start_seconds:g} s")
        for media, start, end in clips:
            name = PureWindowsPath(media.name)
            extra = {
                "observation": observation.name, "subject": bout.subject, "modifiers": bout.modifiers,
                "event": "point" if bout.end_seconds is None else "state",
            }  # fmt: skip
            builder.add(
                observation.place, disk, disk.path(name.stem, name.suffix), video_id=f"{stem}/{number:03d}",
                labels=(bout.behavior,), start_seconds=start, end_seconds=end, extra=extra,
                group=bout.subject or observation.name,
            )  # fmt: skip
            number += 1


def _plain(name: str) -> str:
    return re.sub(r"[\\/\x00-\x1f]", "_", name).strip()


def _clips(bout: Bout, observation: Observation, point_seconds: float) -> Iterator[tuple[Media, float, float]]:
    """The bout in seconds of its media file; in several parts where it goes on from one file into the next."""
    start, end = bout.start_seconds - observation.offset_seconds, bout.end_seconds
    end = start + point_seconds / 2 if end is None else end - observation.offset_seconds
    if bout.end_seconds is None:
        start -= point_seconds / 2
    begins = 0.0
    for media in observation.media:
        ends = float("inf") if media.seconds is None else begins + media.seconds
        first, last = max(start, begins), min(end, ends)
        # Thousandths are what BORIS counts in; a rest below is no clip.
        if round(last - first, 3) > 0:
            yield media, round(first - begins, 3), round(last - begins, 3)
        begins = ends


def _say(found: Findings, builder: Builder) -> None:
    lists = {
        "state events have a start and no stop, and are left out": found.unpaired,
        "observations are live or of pictures, without media, and are left out": found.without_media,
        "bouts have no duration inside their media, and are left out": found.outside,
    }
    for text, cases in lists.items():
        if cases:
            builder.notes.append(f"{len(cases)} {text}: {shortened(cases, EXAMPLES_SHOWN)}.")
    if found.points:
        builder.notes.append(f"{found.points} point events are left out.")
    if found.other_players:
        builder.notes.append(
            f"{found.other_players} observations have further players; the first one's files are taken."
        )
