"""Reads a manifest CSV and reports every faulty row at once, by the line in which it begins."""

import csv
import io
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from actiondiff.manifests.faults import Fault, ManifestError, ManifestNotFound, VideoError
from actiondiff.manifests.video import CONTRACT_COLUMNS, LABEL_SEPARATOR, REQUIRED_COLUMNS, TIME_COLUMNS, Video

Row = tuple[int, list[str]]


def read_videos(path: Path, *, check_files: bool) -> tuple[Video, ...]:
    """Read the rows of a manifest.

    Args:
        path: the CSV file, UTF-8.
        check_files: refuse rows whose file or frame folder does not exist.

    Raises:
        ManifestNotFound: there is no such file.
        ManifestError: the file or some of its rows break a rule; all faults are told.
    """
    faults: list[Fault] = []
    rows = numbered_rows(_read_text(path), faults)
    header = _checked_header(path, rows, faults)
    videos = list(_videos(header, rows, path.parent if check_files else None, faults))
    if not videos and not faults:
        raise ManifestError(f"{path} has a header but no videos; write one row for each clip.")
    if faults:
        raise ManifestError(_headline(path, faults), tuple(sorted(faults, key=lambda fault: fault.line or 0)))
    return tuple(videos)


def _read_text(path: Path) -> str:
    if path.is_dir():
        raise ManifestError(
            f"{path} is a folder; a manifest is a CSV file with the columns {','.join(REQUIRED_COLUMNS)}. "
            f"Name the file, or make one: actiondiff manifest scan {path}"
        )
    try:
        data = path.read_bytes()
    except FileNotFoundError as error:
        raise ManifestNotFound(
            f"There is no manifest at {path}. Name one with --manifest, "
            f"or make one from a folder of clips: actiondiff manifest scan DIR --out {path}"
        ) from error
    return decoded(data, path)


def decoded(data: bytes, path: Path) -> str:
    """The text of a UTF-8 file.

    Raises:
        ManifestError: it is none; the line of the first foreign byte is told.
    """
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        fault = Fault(line, f"byte 0x{data[error.start]:02x} is not UTF-8; save the file again as 'CSV UTF-8'.")
        raise ManifestError(f"{path} is not a UTF-8 text file.", (fault,)) from error


def numbered_rows(text: str, faults: list[Fault], delimiter: str = ",") -> Iterator[Row]:
    """Yield each row with the line in which it begins: quoted cells may hold line breaks, blank lines pass."""
    # strict: otherwise one forgotten quote swallows the rest of the file in silence.
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    begins = 1
    try:
        for cells in reader:
            # Spreadsheets leave rows of nothing but commas behind.
            if any(cell.strip() for cell in cells):
                yield begins, cells
            begins = reader.line_num + 1
    except csv.Error as error:
        faults.append(Fault(begins, f"the CSV is broken from here on ({error}); look for a quote that is not closed."))


def _checked_header(path: Path, rows: Iterator[Row], faults: list[Fault]) -> list[str]:
    line, cells = next(rows, (1, []))
    header = [cell.strip() for cell in cells]
    faults.extend(Fault(line, message) for message in _header_rules(header))
    if faults:
        raise ManifestError(f"{path} is not a manifest.", tuple(faults))
    return header


def _header_rules(header: Sequence[str]) -> Iterator[str]:
    missing = [column for column in REQUIRED_COLUMNS if column not in header]
    if missing:
        found = ",".join(header) or "nothing"
        yield (
            f"the header lacks {', '.join(missing)}; found: {found}. The first line must name at least "
            f"{','.join(REQUIRED_COLUMNS)}, parted by commas (label may stay empty below)."
        )
    for column, times in Counter(header).items():
        if not column:
            yield "a column has no name; name it or take the column away."
        elif times > 1:
            yield f"column {column!r} stands {times} times in the header; keep one."


def _videos(header: list[str], rows: Iterator[Row], root: Path | None, faults: list[Fault]) -> Iterator[Video]:
    first_lines: dict[str, int] = {}
    for line, cells in rows:
        if len(cells) != len(header):
            faults.append(Fault(line, _wrong_length(len(cells), len(header))))
            continue
        row = dict(zip(header, cells, strict=True))
        messages: list[str] = [*_seconds_rules(row), *_repeat_rules(row["video_id"], line, first_lines)]
        if root is not None and row["path"]:
            messages.extend(_file_rules(root, row["path"]))
        try:
            yield _video(row)
        except VideoError as error:
            messages = [*error.broken, *messages]
        faults.extend(Fault(line, message) for message in messages)


def _wrong_length(found: int, expected: int) -> str:
    remedy = "put cells that hold a comma in double quotes" if found > expected else "write a comma for each empty cell"
    return f"the row has {found} cells, the header {expected}; {remedy}."


def _video(row: Mapping[str, str]) -> Video:
    return Video(
        video_id=row["video_id"],
        path=row["path"],
        labels=tuple(label.strip() for label in row["label"].split(LABEL_SEPARATOR)) if row["label"].strip() else (),
        split=row.get("split", ""),
        domain=row.get("domain", ""),
        group=row.get("group", ""),
        start_seconds=_seconds(row.get("start_seconds", "")),
        end_seconds=_seconds(row.get("end_seconds", "")),
        extra={name: cell for name, cell in row.items() if name not in CONTRACT_COLUMNS},
    )


def _seconds(cell: str) -> float | None:
    """Seconds of a cell; None where it is empty, and where it is no number, which `_seconds_rules` tells."""
    try:
        return float(cell)
    except ValueError:
        return None


def _seconds_rules(row: Mapping[str, str]) -> Iterator[str]:
    for column in TIME_COLUMNS:
        cell = row.get(column, "").strip()
        if cell and _seconds(cell) is None:
            yield f"{column} {cell!r} is not a number; give seconds such as 12.5, or leave it empty."


def _repeat_rules(video_id: str, line: int, first_lines: dict[str, int]) -> Iterator[str]:
    first = first_lines.setdefault(video_id, line)
    if video_id and first != line:
        yield f"video_id {video_id!r} stands in line {first} too; every id must be there once."


def _file_rules(root: Path, path: str) -> Iterator[str]:
    try:
        exists = (root / path).exists()
    except OSError as error:
        yield f"{path!r} cannot be looked at ({error.strerror}); check the path and its permissions."
        return
    if not exists:
        hint = "; write '/' for the backslashes" if "\\" in path else ""
        yield f"there is no file or folder {path!r} under {root}{hint}; paths are relative to the manifest."


def _headline(path: Path, faults: Sequence[Fault]) -> str:
    lines = len({fault.line for fault in faults})
    return f"{path}: {lines} {'row breaks' if lines == 1 else 'rows break'} the rules of a manifest."
