"""Reads BORIS projects and the tables that BORIS exports into observations with paired bouts."""

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from actiondiff.manifests.faults import Fault
from actiondiff.manifests.reading import numbered_rows
from actiondiff.manifests.tables import TableRow, read_first_sheet, read_text

TIME_COLUMNS = ("Time", "Start (s)")
FILE_COLUMNS = ("Media file name", "Media file", "Media file path")
NEEDED_COLUMNS = ("Behavior", "Subject")
# How BORIS writes that nothing was chosen.
NOTHING = ("", "NA", "None")
NO_SUBJECT = "No focal subject"


@dataclass(frozen=True)
class Bout:
    """One labelled behaviour, in seconds of its observation; a point event has no end."""

    behavior: str
    subject: str
    modifiers: str
    start_seconds: float
    end_seconds: float | None


@dataclass(frozen=True)
class Media:
    """A media file of an observation and its length, where that is known."""

    name: str
    seconds: float | None


@dataclass(frozen=True)
class Observation:
    """Bouts and the files they were seen in, which were played one after another."""

    place: TableRow
    name: str
    media: tuple[Media, ...]
    offset_seconds: float
    bouts: tuple[Bout, ...]


@dataclass
class Findings:
    """What was left out, by observation."""

    unpaired: list[str]
    without_media: list[str]
    outside: list[str]
    points: int = 0
    other_players: int = 0


def read_project(path: Path, found: Findings, faults: list[Fault]) -> Iterator[Observation]:
    """The observations of a .boris file."""
    text = read_text(path, faults)
    if text is None:
        return
    try:
        project = json.loads(text)
        states = {
            entry["code"]: entry["type"].lower().startswith("state") for entry in project["behaviors_conf"].values()
        }
        observations: Mapping[str, Any] = project["observations"]
        for name, observation in observations.items():
            yield _project_observation(TableRow(path.name, 0, {}), name, observation, states, found, faults)
    except json.JSONDecodeError as error:
        faults.append(Fault(error.lineno, f"is no BORIS project, the JSON is broken ({error.msg}).", path.name))
    except (KeyError, AttributeError, TypeError, ValueError, IndexError) as error:
        faults.append(Fault(None, f"is no BORIS project as this program knows it ({error!r}).", path.name))


def _project_observation(
    place: TableRow, name: str, observation: Mapping[str, Any], states: Mapping[str, bool],
    found: Findings, faults: list[Fault],
) -> Observation:  # fmt: skip
    players = observation["file"] if isinstance(observation["file"], dict) else {}
    is_media = observation.get("type") == "MEDIA"
    lengths = observation.get("media_info", {}).get("length", {})
    files = players.get("1", []) if is_media else []
    found.other_players += any(players.get(player) for player in players if player != "1")
    media = tuple(Media(file, float(lengths[file]) if file in lengths else None) for file in files)
    events = []
    for time, subject, code, modifiers, *_ in observation["events"]:
        if code not in states:
            faults.append(place.fault(f"observation {name!r}: the project has no behaviour {code!r}."))
        events.append((float(time), str(subject), str(code), str(modifiers), states.get(code, False)))
    bouts = tuple(_paired(events, name, found))
    return Observation(place, name, media, float(observation.get("time offset") or 0.0), bouts)


def _paired(events: Iterable[tuple[float, str, str, str, bool]], name: str, found: Findings) -> Iterator[Bout]:
    """State events alternate between start and stop, for each subject, behaviour and choice of modifiers."""
    running: dict[tuple[str, str, str], float] = {}
    for time, subject, behavior, modifiers, is_state in sorted(events, key=lambda event: event[0]):
        key = (subject, behavior, modifiers)
        cells = (behavior, _chosen(subject), _chosen(modifiers))
        if not is_state:
            yield Bout(*cells, time, None)
        elif key in running:
            yield Bout(*cells, running.pop(key), time)
        else:
            running[key] = time
    found.unpaired.extend(f"{name}: {behavior} at {time:g} s" for (_, behavior, _), time in running.items())


def _chosen(cell: str) -> str:
    return "" if cell in (*NOTHING, NO_SUBJECT) else cell


def read_table(path: Path, found: Findings, faults: list[Fault]) -> list[Observation]:
    """The observations of exported tabular or aggregated events: .csv, .tsv or .xlsx."""
    rows = _table_rows(path, faults)
    header = next((place for place, (_, cells) in enumerate(rows) if _is_header(cells)), None)
    if header is None:
        if rows or not faults:
            told = f"has no header with {', '.join(NEEDED_COLUMNS)} and {' or '.join(TIME_COLUMNS)}"
            faults.append(Fault(None, f"{told}; export tabular or aggregated events from BORIS.", path.name))
        return []
    # Older tables of events say above the header which observation they are of.
    above = {cells[0]: cells[1] for _, cells in rows[:header] if len(cells) > 1}
    names = rows[header][1]
    by_observation: dict[str, list[TableRow]] = {}
    for line, cells in rows[header + 1 :]:
        row = TableRow(path.name, line, {**above, **dict(zip(names, cells, strict=False))})
        by_observation.setdefault(row.cells.get("Observation id", path.stem), []).append(row)
    return [_table_observation(name, rows, found, faults) for name, rows in by_observation.items()]


def _table_rows(path: Path, faults: list[Fault]) -> list[tuple[int, list[str]]]:
    if path.suffix.lower() == ".xlsx":
        return read_first_sheet(path, faults) if path.exists() else _absent(path, faults)
    text = read_text(path, faults) or ""
    broken: list[Fault] = []
    rows = list(numbered_rows(text, broken, "\t" if "\t" in text else ","))
    faults.extend(Fault(fault.line, fault.message, path.name) for fault in broken)
    return [(line, [cell.strip() for cell in cells]) for line, cells in rows]


def _absent(path: Path, faults: list[Fault]) -> list[tuple[int, list[str]]]:
    faults.append(Fault(None, "cannot be read (No such file or directory); check the path.", str(path)))
    return []


def _is_header(cells: Sequence[str]) -> bool:
    return all(name in cells for name in NEEDED_COLUMNS) and any(name in cells for name in TIME_COLUMNS)


def _table_observation(name: str, rows: list[TableRow], found: Findings, faults: list[Fault]) -> Observation:
    events, bouts = [], []
    for row in rows:
        cells = row.cells
        subject, code = cells.get("Subject", ""), cells.get("Behavior", "")
        modifiers = "|".join(cell for key, cell in cells.items() if key.startswith("Modifier") and cell not in NOTHING)
        kind = (cells.get("Behavior type") or cells.get("Status") or "").upper()
        try:
            if "Start (s)" in cells:
                stop = None if kind.startswith("POINT") else float(cells["Stop (s)"])
                bouts.append(Bout(code, _chosen(subject), modifiers, float(cells["Start (s)"]), stop))
            else:
                events.append((float(cells["Time"]), subject, code, modifiers, kind in ("START", "STOP")))
        except (KeyError, ValueError):
            faults.append(row.fault("the row's times are no numbers of seconds."))
    offset = rows[0].cells.get("Time offset (s)", "")
    try:
        offset_seconds = 0.0 if offset in NOTHING else float(offset)
    except ValueError:
        faults.append(rows[0].fault(f"the time offset {offset!r} is no number of seconds."))
        offset_seconds = 0.0
    return Observation(rows[0], name, _table_media(rows), offset_seconds, (*bouts, *_paired(events, name, found)))


def _table_media(rows: Sequence[TableRow]) -> tuple[Media, ...]:
    """The files of the first player, from column Source where there is one, else whatever the rows name."""
    source = re.match(r"player #1:\s*([^|]+)", rows[0].cells.get("Source", ""))
    if source is None:
        named = dict.fromkeys(row.cells.get(column, "") for row in rows for column in FILE_COLUMNS)
        return tuple(Media(name, None) for name in named if name not in NOTHING)
    files = [file.strip() for file in source[1].split(";")]
    lengths = rows[0].cells.get("Media duration (s)", "").partition("|")[0].split(";")
    if len(lengths) != len(files) or not all(re.fullmatch(r"\s*\d+(\.\d+)?\s*", length) for length in lengths):
        return tuple(Media(file, None) for file in files)
    return tuple(Media(file, float(length)) for file, length in zip(files, lengths, strict=True))
