"""Where things are prepared: folders under ``.writing`` that no reader looks at, named after the process at work.

For a store behind a URL that is a temporary folder of this machine.
"""

import fcntl
import os
import secrets
import shutil
import socket
import tempfile
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from io import FileIO
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

from actiondiff.store.errors import StoreBusy
from actiondiff.store.places import Place
from actiondiff.store.remote import RemotePath, withdraw

STAGING = ".writing"
SYNCS_AT_ONCE = 8


@contextmanager
def staged(store: Place, name: str) -> Iterator[Path]:
    """A new folder under ``.writing``; whatever is still there on leaving is removed.

    Args:
        store: the store's folder.
        name: unique, without dots.
    """
    if not isinstance(store, Path):
        with tempfile.TemporaryDirectory(prefix="actiondiff-") as here:
            yield Path(here)
        return
    folder = store / STAGING / _owned(name)
    try:
        _make(folder)
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        _remove_if_empty(folder.parent)


def clear_staging(store: Place) -> None:
    """Remove what writers of this machine that no longer run left unfinished; other machines' are left alone."""
    if not isinstance(store, Path):
        return
    try:
        folders = list((store / STAGING).iterdir())
    except FileNotFoundError:
        return
    for folder in folders:
        if _owner_is_gone(folder.name):
            _remove(folder)
    _remove_if_empty(store / STAGING)


@contextmanager
def only_one(store: Place) -> Iterator[None]:
    """No second process of this machine may put parts away meanwhile. A kill lets go; writers and readers need not ask.

    Behind a URL there are no locks; two that merge the same parts lose nothing, but may do it twice.

    Raises:
        StoreBusy: where another one is at it.
    """
    if not isinstance(store, Path):
        yield
        return
    descriptor = os.open(store, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise StoreBusy(f"Another process is merging or dropping parts of {store}. Try again later.") from error
        except OSError:  # a file system without locks: two that merge the same parts lose nothing, but may do it twice
            pass
        yield
    finally:
        with suppress(OSError):  # closing is not enough where a process was forked meanwhile
            fcntl.flock(descriptor, fcntl.LOCK_UN)
        os.close(descriptor)


def retire(store: Place, folders: Iterable[Place]) -> None:
    """Take parts out of the store, each in one step, and then away; mapped arrays of theirs can still be read."""
    if not isinstance(store, Path):
        for folder in folders:
            if isinstance(folder, RemotePath):
                withdraw(folder)
        return
    with staged(store, f"dead-{secrets.token_hex(4)}") as grave:
        for folder in folders:
            with suppress(FileNotFoundError):  # somebody else was faster
                if isinstance(folder, Path):
                    folder.rename(grave / folder.name)
        fsync_folder(store / "parts")


class Syncs:
    """Flushes to the disk that go on beside the writing, several at once: the disk then makes one journey of many.

    Use it as a context manager; on leaving everything is on the disk, or the first error is raised.
    """

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(SYNCS_AT_ONCE)
        self._running: list[Future[None]] = []

    def file(self, file: BinaryIO | FileIO) -> None:
        """Flush a file, which may be closed meanwhile."""
        self._running.append(self._pool.submit(_fsync_and_close, os.dup(file.fileno())))

    def folder(self, folder: Path) -> None:
        """Make a folder's entries last."""
        self._running.append(self._pool.submit(fsync_folder, folder))

    def wait(self) -> None:
        """Until all that was begun is done."""
        while self._running:
            self._running.pop().result()

    def __enter__(self) -> "Syncs":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._pool.shutdown()
        if error is None:
            self.wait()


def _fsync_and_close(descriptor: int) -> None:
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def fsync_folder(folder: Place) -> None:
    """Make a folder's entries last; behind a URL, what was answered for lasts."""
    if isinstance(folder, Path):
        _fsync_and_close(os.open(folder, os.O_RDONLY))


def _make(folder: Path) -> None:
    while True:
        with suppress(FileExistsError):
            folder.parent.mkdir()
        try:
            folder.mkdir()
            return
        except FileNotFoundError:  # a writer that was done has just removed the empty .writing
            continue


def _remove(folder: Path) -> None:
    # Away in one step first: an owner that lives after all (in a container, its process number means nothing here)
    # then finds its folder gone and says so; it can never publish a folder that is half deleted.
    grave = folder.with_name(_owned(f"dead-{secrets.token_hex(4)}"))
    with suppress(FileNotFoundError):  # another writer was faster
        folder.rename(grave)
        shutil.rmtree(grave, ignore_errors=True)


def _remove_if_empty(folder: Path) -> None:
    with suppress(OSError):
        folder.rmdir()


def _owned(name: str) -> str:
    return f"{name}.{_host()}.{os.getpid()}"


def _owner_is_gone(name: str) -> bool:
    _, host, process = name.rsplit(".", 2) if name.count(".") >= 2 else ("", "", "")
    return host == _host() and process.isdecimal() and not _alive(int(process))


def _host() -> str:
    return socket.gethostname().replace(".", "-") or "localhost"


def _alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return True
    return True
