"""A local folder that keeps what was fetched from stores behind URLs: bounded in size, shared by all processes.

Names are for ever: what lies under one never changes, since parts do not. The oldest in use go first; whoever has one
mapped reads on. ``ACTIONDIFF_CACHE`` names the folder, ``ACTIONDIFF_CACHE_GB`` the bound.
"""

import fcntl
import mmap
import os
import secrets
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import BinaryIO

import numpy as np
from jaxtyping import UInt8

from actiondiff import InputError

CACHE_GB = 20.0
LOCKS = 64
ROOM_TO = 0.9
"""When it is full, the oldest go until this share of the bound is left."""


@dataclass(frozen=True)
class Cache:
    """The folder and its bound.

    Attributes:
        folder: made when something is first kept.
        limit_bytes: what all kept files may take together.
    """

    folder: Path
    limit_bytes: int

    def find(self, name: str) -> UInt8[np.ndarray, " bytes"] | None:
        """What is kept under this name, mapped; None where it is not."""
        path = self.folder / name
        try:
            with path.open("rb") as file:
                with suppress(OSError):  # only to go last when room is made
                    os.utime(path)
                if not os.fstat(file.fileno()).st_size:
                    return np.zeros(0, np.uint8)
                return np.frombuffer(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ), np.uint8)
        except OSError:
            return None

    def keep(
        self, name: str, size_bytes: int, fetch: Callable[[], Iterable[bytes]]
    ) -> UInt8[np.ndarray, " bytes"] | None:
        """What is kept under this name, or what ``fetch`` brings, piece by piece; of many processes one fetches.

        Returns:
            the bytes, mapped; None where they cannot be kept: larger than the bound, or the disk does not take them.
        """
        if (found := self.find(name)) is not None or size_bytes > self.limit_bytes:
            return found
        try:
            with keeping():
                self.folder.mkdir(parents=True, exist_ok=True)
            with self._locked(f".lock-{zlib.crc32(name.encode()) % LOCKS}"):
                if (found := self.find(name)) is None:
                    self._fetch(self.folder / name, size_bytes, fetch)
        except CannotKeep:
            return None
        return self.find(name)

    def _fetch(self, target: Path, size_bytes: int, fetch: Callable[[], Iterable[bytes]]) -> None:
        with keeping():
            target.parent.mkdir(parents=True, exist_ok=True)
            file = self._begin(target.with_name(f".new-{secrets.token_hex(4)}"), size_bytes)
        begun = Path(file.name)
        try:
            with file:
                for piece in fetch():
                    with keeping():
                        file.write(piece)
                if file.tell() != size_bytes:
                    raise EOFError(f"{file.tell()} bytes of {target.name} came, {size_bytes} were expected.")
                with keeping():
                    file.flush()
                    os.fsync(file.fileno())
                with self._locked(".size"), keeping():  # so that whoever counts sees it under one name
                    begun.rename(target)
        finally:
            begun.unlink(missing_ok=True)

    def _begin(self, path: Path, size_bytes: int) -> BinaryIO:
        """A new file that counts with its whole size at once; where it would be too much, the oldest go."""
        with self._locked(".size") as count:
            told = count.read()
            used = int(told) if told.isdigit() else self.limit_bytes
            if used + size_bytes > self.limit_bytes:
                used = self._drop_oldest(int((self.limit_bytes - size_bytes) * ROOM_TO))
            if used + size_bytes > self.limit_bytes:
                raise CannotKeep("So much is being fetched at this moment that there is no room.")
            count.seek(0)
            count.truncate()
            count.write(str(used + size_bytes).encode())
            file = path.open("xb")
            fcntl.flock(file, fcntl.LOCK_EX)  # tells whoever makes room that its maker lives
            file.truncate(size_bytes)
            return file

    def _drop_oldest(self, room_bytes: int) -> int:
        kept: list[tuple[int, int, Path]] = []
        for path in self.folder.rglob("*"):
            with suppress(FileNotFoundError):
                if path.is_file() and not path.name.startswith((".lock", ".size")) and not _is_stale(path):
                    stat = path.stat()
                    kept.append((stat.st_mtime_ns, stat.st_size, path))
        used = sum(size for _, size, _ in kept)
        for _, size, path in sorted(kept):
            if used <= room_bytes:
                break
            if not path.name.startswith(".new-"):
                path.unlink(missing_ok=True)
                used -= size
        return used

    @contextmanager
    def _locked(self, name: str) -> Iterator[BinaryIO]:
        with keeping():
            file = (self.folder / name).open("a+b")
        with file:
            with keeping():
                fcntl.flock(file, fcntl.LOCK_EX)
                file.seek(0)
            try:
                yield file
            finally:  # closing is not enough where a process was forked meanwhile: it would hold the lock, too
                fcntl.flock(file, fcntl.LOCK_UN)


class CannotKeep(Exception):
    """The disk does not take it: full, read-only, without locks."""


@contextmanager
def keeping() -> Iterator[None]:
    """Errors of the cache's own disk are no reason to fail: what cannot be kept is fetched every time."""
    try:
        yield
    except OSError as error:
        raise CannotKeep(str(error)) from error


def _is_stale(path: Path) -> bool:
    """Whether this is a file in the making whose maker is gone; it is removed then."""
    if not path.name.startswith(".new-"):
        return False
    with path.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return False
        path.unlink(missing_ok=True)
        return True


def the_cache() -> Cache:
    """The cache that the environment names."""
    return _cache(os.environ.get("ACTIONDIFF_CACHE", ""), os.environ.get("ACTIONDIFF_CACHE_GB", ""))


@cache
def _cache(folder: str, gigabytes: str) -> Cache:
    try:
        limit = float(gigabytes or CACHE_GB)
    except ValueError:
        limit = -1.0
    if not 0 <= limit < float("inf"):
        raise InputError(f"ACTIONDIFF_CACHE_GB is a number of gigabytes, 0 for no cache; got {gigabytes!r}.")
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Cache(Path(folder) if folder else Path(home) / "actiondiff", int(limit * 1e9))
