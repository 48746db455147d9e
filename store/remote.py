"""Stores behind a URL, by fsspec: ``s3://``, ``gs://`` and whatever else it speaks.

Object storage has no rename. A part's objects are put where they belong, its index (``zarr.json``) last and only if
none is there: a part without one is no part. Objects of a part never change, which is what lets readers keep them.
"""

from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path, PurePosixPath
from typing import Any

from actiondiff import ActionDiffError, InputError
from actiondiff.store.errors import (
    DISK_ERRORS,
    LIMIT_ERRORS,
    RemoteError,
    StoreError,
    StoreNotWritable,
    telling_unreadable,
    telling_why,
)

BUCKETS = {"s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "adl", "oci", "tos", "oss"}
"""Storage without folders: what would make one there makes buckets."""

AT_ONCE = 16
"""Requests that are under way at the same time."""

STAGING = ".writing"
"""Where things are prepared, or behind a URL, where the marks of parts stand that come or go; no part of the store."""

BROKEN_OFF_AFTER = timedelta(days=1)
"""An upload whose last object is older than this will not go on."""


class RemotePath:
    """A URL as something like a :class:`pathlib.Path`: of that, what stores use.

    Args:
        url: such as ``s3://bucket/features.zarr``; where the server is and who asks is up to fsspec's own settings,
            which for S3 are those of every AWS tool.

    Raises:
        InputError: the protocol is unknown, or its library is not installed.
    """

    def __init__(self, url: str) -> None:
        if "::" in url:
            raise InputError(f"A store is behind one URL, PROTOCOL://PATH; got the chain {url!r}.")
        self.url = url.rstrip("/")
        try:
            from fsspec import get_filesystem_class

            get_filesystem_class(self.protocol)
        except (ImportError, ValueError) as error:
            raise InputError(
                f"{url} cannot be used ({error}). Stores behind URLs need: pip install 'actiondiff[remote]'"
            ) from error

    def __str__(self) -> str:
        return self.url

    def __repr__(self) -> str:
        return f"RemotePath({self.url!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, RemotePath) and self.url == other.url

    def __hash__(self) -> int:
        return hash(self.url)

    def __truediv__(self, name: str) -> "RemotePath":
        beneath = object.__new__(RemotePath)
        beneath.url = f"{self.url}/{name}"
        return beneath

    @property
    def protocol(self) -> str:
        """What comes before the ``://``."""
        return self.url.partition("://")[0]

    @property
    def name(self) -> str:
        """What follows the last slash."""
        return self.url.rpartition("/")[2]

    @property
    def stem(self) -> str:
        """The name without its last suffix."""
        return PurePosixPath(self.name).stem

    @property
    def parent(self) -> "RemotePath":
        """What it lies in."""
        above = object.__new__(RemotePath)
        above.url = self.url.rpartition("/")[0]
        return above

    def exists(self) -> bool:
        """Whether there is such an object, or any beneath."""
        with asking(self) as (fs, path):
            return bool(fs.exists(path))

    def read_bytes(self) -> bytes:
        """The whole object."""
        with asking(self) as (fs, path):
            return bytes(fs.cat_file(path))

    def read_range(self, start: int, stop: int) -> bytes:
        """Its bytes from ``start`` to ``stop``, the latter not included; as many are there, or it is damaged."""
        with asking(self) as (fs, path):
            content = bytes(fs.cat_file(path, start=start, end=stop))
        if len(content) != stop - start:
            raise StoreError(f"{self} is damaged: it ends at byte {start + len(content)}; {stop} were expected.")
        return content

    def size(self) -> int:
        """In bytes."""
        with asking(self) as (fs, path):
            return int(fs.info(path)["size"])

    def pieces(self, piece_bytes: int) -> Iterator[bytes]:
        """The object's bytes, piece by piece."""
        size = self.size()
        for start in range(0, size, piece_bytes):
            yield self.read_range(start, min(start + piece_bytes, size))

    def iterdir(self) -> Iterator["RemotePath"]:
        """What lies in it, as seen now.

        Raises:
            FileNotFoundError: nothing does.
        """
        with asking(self) as (fs, path):
            found = fs.ls(path, detail=False)
        names = {name.rstrip("/").rpartition("/")[2] for name in found}
        return iter(sorted((self / name for name in names), key=str))

    def sizes(self) -> dict[str, int]:
        """Size of every object beneath, by its path in here, as seen now."""
        return {name: int(info["size"]) for name, info in self._infos().items()}

    def youngest(self) -> datetime | None:
        """When the last object beneath was written; None where the storage does not tell."""
        with asking(self) as (fs, path):
            try:
                return max((fs.modified(f"{path}/{name}") for name in self._infos()), default=None)
            except NotImplementedError:
                return None

    def modified(self) -> datetime | None:
        """When the object was written; None where the storage does not tell."""
        with asking(self) as (fs, path):
            try:
                return fs.modified(path)
            except NotImplementedError:
                return None

    def _infos(self) -> dict[str, dict[str, Any]]:
        with asking(self) as (fs, path):
            found = fs.find(path, detail=True)
        start = len(path.rstrip("/")) + 1
        return {name[start:]: info for name, info in found.items() if len(name) > start - 1}

    def write_new(self, content: bytes) -> None:
        """Make the object, unless there is one: by one conditional request where the storage can.

        Raises:
            FileExistsError: there is one.
        """
        with asking(self, writing=True) as (fs, path):
            self._make_folder(fs, path)
            try:
                fs.pipe_file(path, content, mode="create")
            except (NotImplementedError, ValueError, TypeError):  # a storage that knows no condition
                if fs.exists(path):
                    raise FileExistsError(f"{self} is there already.") from None
                fs.pipe_file(path, content)

    def upload(self, file: Path) -> None:
        """Make the object of a local file's bytes."""
        with asking(self, writing=True) as (fs, path):
            self._make_folder(fs, path)
            fs.put_file(str(file), path)

    def _make_folder(self, fs: Any, path: str) -> None:
        if self.protocol not in BUCKETS:
            fs.makedirs(path.rpartition("/")[0], exist_ok=True)

    def fetch(self, folder: Path) -> Path:
        """Copy what is here, an object or all beneath, into a local folder; where it is then."""
        target = folder / self.name
        with asking(self) as (fs, path):
            if fs.isfile(path):
                fs.get_file(path, str(target))
            else:
                for name in self._infos():
                    (target / name).parent.mkdir(parents=True, exist_ok=True)
                    fs.get_file(f"{path}/{name}", str(target / name))
        return target

    def remove(self) -> None:
        """Delete the object, or all that are beneath; nothing there is as good."""
        with asking(self, writing=True) as (fs, path), suppress(FileNotFoundError):
            fs.rm(path, recursive=True)


_TOLD_BY_OTHERS = (FileExistsError, IsADirectoryError, NotADirectoryError, NotImplementedError, ActionDiffError)
_FAULTS = (TypeError, AttributeError, NameError, AssertionError)


@contextmanager
def asking(place: RemotePath, writing: bool = False) -> Iterator[tuple[Any, str]]:
    """The filesystem and the path there; what goes wrong at the other end is told with the URL and a remedy.

    Faults of a program go on as they are, and so does a full disk where ``place`` is read: it is one of this machine.
    """
    from fsspec.core import url_to_fs

    try:
        fs, path = url_to_fs(place.url)
        fs.invalidate_cache()  # of listings: others write there, too
        yield fs, path
    except (*_TOLD_BY_OTHERS, *_FAULTS):
        raise
    except Exception as error:
        code = error.errno if isinstance(error, OSError) else None
        if not writing and (isinstance(error, FileNotFoundError) or code in DISK_ERRORS):
            raise
        if code in DISK_ERRORS | LIMIT_ERRORS:
            with telling_why(place) if writing else telling_unreadable(place):
                raise
        what = "written" if writing else "read"
        kind = StoreNotWritable if writing else RemoteError
        detail = f"{type(error).__name__}: {error}" if not isinstance(error, OSError) else str(error)
        raise kind(
            f"{place} cannot be {what} ({detail}). Check the address, that you are logged in with the right to do so, "
            "and the network; then run it again."
        ) from error


def together(work: Callable[[Any], Any], items: Any) -> list[Any]:
    """Do it for all, several at once, since every request waits; results in order, or the first error."""
    with ThreadPoolExecutor(AT_ONCE) as pool:
        return list(pool.map(work, items))


def publish(folder: Path, target: RemotePath, files: Mapping[str, Any]) -> None:
    """Put a part that was prepared in a local folder where it belongs; its index last, which makes it visible.

    Args:
        folder: the part as it lies locally.
        target: where it goes, ``STORE/parts/part-…``; nothing is there yet.
        files: every file but the index, with its size as ``size_bytes``.

    Raises:
        StoreNotWritable: it did not arrive whole; what did is taken away again.
    """
    try:
        _mark(target)
        together(lambda name: (target / name).upload(folder / name), files)
        arrived = target.sizes()
        if arrived != {name: record.size_bytes for name, record in files.items()}:
            raise StoreNotWritable(f"{target} did not arrive whole: the storage tells of other sizes. Run it again.")
        index = (folder / "zarr.json").read_bytes()
        try:
            (target / "zarr.json").write_new(index)
        except FileExistsError:  # an answer was lost, and the request made again: nobody else writes under this name
            if (target / "zarr.json").read_bytes() != index:
                raise
    except BaseException:
        _take_back(target)
        raise
    with suppress(ActionDiffError, OSError):  # the part is there; a mark too many does no harm
        _mark_of(target).remove()


def _take_back(target: RemotePath) -> None:
    """Remove an upload that failed; unless its index stands after all, its answer alone being lost."""
    try:
        if not (target / "zarr.json").exists():
            target.remove()
            _mark_of(target).remove()
    except (ActionDiffError, OSError):  # it stays as objects without an index, until a later compact
        pass


def withdraw(folder: RemotePath) -> None:
    """Take a part away: its index first, after which it is none."""
    _mark(folder)
    (folder / "zarr.json").remove()
    folder.remove()
    _mark_of(folder).remove()


def _mark_of(part: RemotePath) -> RemotePath:
    """An object that is there as long as a part comes or goes: it may lack its index then, and at no other time."""
    return part.parent.parent / STAGING / part.name


def _mark(part: RemotePath) -> None:
    with suppress(FileExistsError):  # an answer was lost, or the part began to go earlier
        _mark_of(part).write_new(b"")


def _without_index(store: RemotePath) -> set[str]:
    names = (store / "parts").sizes()
    whole = {name.partition("/")[0] for name in names if name.endswith("/zarr.json") and name.count("/") == 1}
    return {name.partition("/")[0] for name in names if name.startswith("part-") and "/" in name} - whole


def index_lost(store: RemotePath) -> set[str]:
    """Names of the parts that have objects, but no index, though they neither come nor go: damage, never litter."""
    found = _without_index(store)
    found -= (store / STAGING).sizes().keys() if found else set()
    parts = {name: store / "parts" / name for name in found}
    # Asked after the marks: one that has just been taken away had its index by then, or nothing any more.
    return {name for name, part in parts.items() if part.sizes() and not (part / "zarr.json").exists()}


def clear_broken_off(store: RemotePath) -> None:
    """Remove what uploads and removals left that broke off long ago: marks, and the parts without index under them."""
    for name in (store / STAGING).sizes():
        part, mark = store / "parts" / name, store / STAGING / name
        unfinished = name in _without_index(store)
        with suppress(FileNotFoundError):  # it is done in this moment
            times = [mark.modified(), part.youngest() if unfinished else None]
            youngest = max((_aware(moment) for moment in times if moment is not None), default=None)
            if youngest is not None and datetime.now(UTC) - youngest > BROKEN_OFF_AFTER:
                if unfinished:
                    part.remove()
                mark.remove()


def _aware(moment: datetime) -> datetime:
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
