"""Writes a manifest CSV in one atomic step, its paths made relative to where it now lies."""

import csv
import os
import uuid
from collections.abc import Sequence
from pathlib import Path

from actiondiff.manifests.video import Video


def write_videos(path: Path, videos: Sequence[Video], columns: Sequence[str], root: Path) -> None:
    """Write rows to a manifest; a reader sees the old file or the whole new one.

    Args:
        path: the CSV file to make; missing parent folders are made too.
        videos: the rows.
        columns: the header; must hold every column that a row fills.
        root: the folder that the rows' paths are relative to so far.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = [_cells(video, columns, root, path.parent) for video in videos]
    partial = path.with_name(f".{path.name}.{uuid.uuid4().hex}.partial")
    try:
        _write_rows(partial, [list(columns), *rows])
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def _write_rows(path: Path, rows: Sequence[Sequence[str]]) -> None:
    # Python 3.11 and 3.12 leave a lone carriage return unquoted, which no strict reader takes back.
    has_return = any("\r" in cell for row in rows for cell in row)
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n", quoting=csv.QUOTE_ALL if has_return else csv.QUOTE_MINIMAL)
        writer.writerows(rows)
        file.flush()
        os.fsync(file.fileno())


def _cells(video: Video, columns: Sequence[str], root: Path, folder: Path) -> list[str]:
    return [moved_path(video.path, root, folder) if column == "path" else video.column(column) for column in columns]


def moved_path(path: str, root: Path, folder: Path) -> str:
    """The same file's path as seen from another folder, with `/` between its parts.

    Args:
        path: path relative to `root`, or absolute, which stays as it is.
        root: the folder it was relative to.
        folder: the folder that it shall be relative to.
    """
    # Both folders are resolved, because `..` climbs from where a linked folder really lies.
    old, new = root.resolve(), folder.resolve()
    if Path(path).is_absolute() or old == new:
        return path
    if ".." in Path(path).parts:
        # What `..` means behind a link cannot be seen from the text, so that this part of the path is left alone.
        return (Path(os.path.relpath(old, new)) / path).as_posix()
    return Path(os.path.relpath(old / path, new)).as_posix()
