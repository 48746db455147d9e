"""Charades-Ego (Sigurdsson et al., 2018): the same scripts filmed from the first and from the third person."""

import os
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from actiondiff.manifests.building import EXAMPLES_SHOWN, Builder, Built, ClipsOnDisk
from actiondiff.manifests.faults import Fault, shortened
from actiondiff.manifests.tables import TableRow, read_csv, read_text

COLUMNS = ("id", "actions", "length", "egocentric")
# Column egocentric -> domain.
VIEWS = {"yes": "1st", "no": "3rd"}
CLASS_LINE = re.compile(r"(c\d+)\s+(\S.*)")
INTERVAL = re.compile(r"(c\d+)\s+(\d+(?:\.\d+)?)\s+(\d+(?:\.\d+)?)")
# The first-person video of a pair is called like the third-person one, with this behind it.
EGO_SUFFIX = "EGO"


@dataclass(frozen=True)
class Interval:
    """An action from one second to another, as annotated: it may end before it begins, or after the video does."""

    action: str
    start_seconds: float
    end_seconds: float


def charades_ego(
    train: Sequence[str | os.PathLike[str]],
    test: Sequence[str | os.PathLike[str]],
    classes: str | os.PathLike[str],
    videos: str | os.PathLike[str],
    *,
    view: Literal["1st", "3rd", "both"] = "both",
    clips: bool = False,
    allow_missing: bool = False,
) -> Built:
    """A manifest of Charades-Ego: domain is the view, group the pair of videos.

    Args:
        train: annotation files of the training part, as published.
        test: those of the test part.
        classes: Charades_v1_classes.txt, `c000 Holding some clothes` in each line.
        videos: folder with `ID.mp4` files or `ID/` folders of frames, at any depth.
        view: which videos.
        clips: one row for each annotated interval in place of one with several labels for each video.
        allow_missing: keep rows whose video is not on disk.

    Raises:
        ManifestError: columns, classes, intervals or videos are missing or broken; all of it is told.
    """
    builder = Builder()
    names = _class_names(Path(classes), builder.faults)
    disk = ClipsOnDisk(Path(videos), ".mp4", builder.faults)
    findings: Counter[str] = Counter()
    unlabelled: list[str] = []
    for split, files in (("train", train), ("test", test)):
        for row in (row for file in files for row in read_csv(Path(file), COLUMNS, builder.faults)):
            intervals, messages = _intervals(row["actions"], names)
            length = _length(row, messages)
            domain = VIEWS.get(row["egocentric"].lower())
            if domain is None:
                messages.append(f"egocentric is {row['egocentric']!r}; it must be Yes or No.")
            builder.faults.extend(row.fault(message) for message in messages)
            if messages or view not in ("both", domain):
                continue
            if not intervals:
                unlabelled.append(row["id"])
            cells = {"split": split, "domain": domain, "group": row["id"].removesuffix(EGO_SUFFIX)}
            extra = {name: row.cells.get(name, "") for name in ("subject", "scene")}
            path = disk.path(row["id"]) if row["id"] else ""
            if clips:
                for number, interval in enumerate(_usable(intervals, length, findings)):
                    builder.add(
                        row, disk, path, video_id=f"{row['id']}/{number:02d}", labels=(names[interval.action],),
                        start_seconds=interval.start_seconds, end_seconds=interval.end_seconds, extra=extra, **cells,
                    )  # fmt: skip
            else:
                labels = tuple(dict.fromkeys(names[interval.action] for interval in intervals))
                builder.add(row, disk, path, video_id=row["id"], labels=labels, extra=extra, **cells)
    _say(builder, findings, unlabelled, clips=clips)
    return builder.finish("Charades-Ego", [disk], allow_missing=allow_missing, classes=len(names))


def _class_names(path: Path, faults: list[Fault]) -> dict[str, str]:
    """Name of each class by its code."""
    names: dict[str, str] = {}
    text = read_text(path, faults)
    for number, line in enumerate((text or "").splitlines(), start=1):
        if match := CLASS_LINE.fullmatch(line.strip()):
            names[match[1]] = match[2]
        elif line.strip():
            faults.append(Fault(number, f"{line!r} is no class; 'c000 Holding some clothes' would be one.", path.name))
    if text is not None and not names:
        faults.append(Fault(None, "names no classes.", path.name))
    return names


def _intervals(cell: str, names: Mapping[str, str]) -> tuple[list[Interval], list[str]]:
    """The intervals of a cell, each once, and what is wrong with it."""
    intervals: dict[Interval, None] = {}
    messages: list[str] = []
    for part in filter(None, (part.strip() for part in cell.split(";"))):
        match = INTERVAL.fullmatch(part)
        if match is None:
            messages.append(f"{part!r} is no interval; write class, first and last second: c115 0.00 21.70.")
        elif names and match[1] not in names:
            messages.append(f"{part!r} is of a class that the classes file does not name.")
        else:
            intervals[Interval(match[1], float(match[2]), float(match[3]))] = None
    return list(intervals), messages


def _length(row: TableRow, messages: list[str]) -> float | None:
    try:
        return float(row["length"]) if row["length"] else None
    except ValueError:
        messages.append(f"length {row['length']!r} is no number of seconds.")
        return None


def _usable(intervals: Sequence[Interval], length: float | None, findings: Counter[str]) -> Iterator[Interval]:
    """The intervals that have a duration, those that outlast the video cut to its length."""
    for interval in intervals:
        start, end = interval.start_seconds, interval.end_seconds
        if end <= start:
            findings["turned"] += 1
        elif length is not None and start >= length:
            findings["late"] += 1
        elif length is not None and end > length:
            findings["cut"] += 1
            yield Interval(interval.action, start, length)
        else:
            yield interval


def _say(builder: Builder, findings: Mapping[str, int], unlabelled: Sequence[str], *, clips: bool) -> None:
    texts = {
        "turned": "intervals do not end after their beginning and are left out",
        "late": "intervals begin after the video's end and are left out",
        "cut": "intervals outlast their video and are cut to its length",
    }
    builder.notes.extend(f"{findings[name]} {text}." for name, text in texts.items() if findings.get(name))
    if unlabelled:
        consequence = "so give no clip" if clips else "so have no label"
        listed = shortened(unlabelled, EXAMPLES_SHOWN)
        builder.notes.append(f"{len(unlabelled)} videos have no action, {consequence}: {listed}.")
