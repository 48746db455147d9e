"""Where a store lies: a folder of this machine, or a URL."""

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from stat import S_ISDIR
from typing import TypeAlias
from urllib.parse import unquote

import numpy as np

from actiondiff.store.remote import RemotePath

Place: TypeAlias = Path | RemotePath
READ_BYTES = 8 * 2**20


def is_url(text: str) -> bool:
    """Whether this names something elsewhere, such as ``s3://bucket/features.zarr``."""
    return "://" in text


def place_of(path: str | Place) -> Place:
    """A local path, or what a URL names.

    Raises:
        InputError: the library that speaks this URL's protocol is not installed.
    """
    if isinstance(path, str) and path.startswith("file://"):
        return Path(unquote(path.removeprefix("file://").removeprefix("localhost")))
    if isinstance(path, str) and is_url(path):
        return RemotePath(path)
    return Path(path) if isinstance(path, str) else path


def names_in(folder: Place) -> set[str]:
    """Names of what lies in a folder; none where it is not there.

    Raises:
        NotADirectoryError: it is a file.
    """
    try:
        return {entry.name for entry in folder.iterdir()}
    except FileNotFoundError:
        return set()


def sizes_beneath(folder: Place) -> dict[str, int]:
    """Size in bytes of every file at any depth, by its path in the folder; links count as what they are."""
    if not isinstance(folder, Path):
        return folder.sizes()
    sizes = {}
    for inner, folders, files in os.walk(folder, onerror=_unless_gone):
        for path in (Path(inner, name) for name in (*files, *folders)):
            with suppress(FileNotFoundError):  # its part is being put away
                stat = path.lstat()
                if not S_ISDIR(stat.st_mode):
                    sizes[path.relative_to(folder).as_posix()] = stat.st_size
    return sizes


def _unless_gone(error: OSError) -> None:
    if not isinstance(error, FileNotFoundError | NotADirectoryError):
        raise error


def pieces_of(file: Place) -> Iterator[bytes | np.ndarray]:
    """A file's bytes, piece by piece; a piece is good until the next is asked for."""
    if not isinstance(file, Path):
        yield from file.pieces(READ_BYTES)
        return
    buffer = np.empty(READ_BYTES, np.uint8)
    with file.open("rb", buffering=0) as stream:
        while size := stream.readinto(buffer.data):
            yield buffer[:size]


def part_is_there(folder: Place) -> bool:
    """Whether a part still stands: locally it goes away in one rename, elsewhere with its index.

    A link that leads nowhere stands: it is damage, not a part that was merged meanwhile.
    """
    return os.path.lexists(folder) if isinstance(folder, Path) else (folder / "zarr.json").exists()


def within(folder: Place, file: Place) -> str:
    """A file's path in a folder."""
    return str(file).removeprefix(f"{folder}").lstrip("/")
