"""Parts behind a URL: small files through the cache, features by ranges or, once that pays, whole timesteps kept."""

import hashlib
from collections.abc import Iterator

import numpy as np
from jaxtyping import Shaped

from actiondiff.store.cache import the_cache
from actiondiff.store.errors import PartGone
from actiondiff.store.feature_file import FeatureFile, Rows, copy_rows
from actiondiff.store.places import READ_BYTES, Place
from actiondiff.store.remote import RemotePath, together

ROWS_AT_ONCE = 4096
"""How many rows are fetched at a time on the way into an array, where they cannot be kept."""

REQUEST_BYTES = 2**20
"""What a request costs at least, told as bytes: while it waits, so much could have come."""


def read_kept(file: Place) -> bytes:
    """A file of a part, which never changes: from behind a URL out of the cache or into it."""
    if not isinstance(file, RemotePath):
        return file.read_bytes()
    name, cache = _name_of(file), the_cache()
    found = cache.find(name)
    if found is not None:
        return found.tobytes()
    content = file.read_bytes()
    cache.keep(name, len(content), lambda: [content])
    return content


class RemoteRows:
    """All rows at one timestep in a file behind a URL.

    Rows are fetched as they are asked for, until that has cost as much as fetching the whole timestep: then this is
    done, and the cache keeps it. So a look at one video stays cheap, and whoever trains pays at most twice for what is
    from then on read as fast as a local file.

    Args:
        file: how they lie there.
        path: the file.
        timestep: which.

    Attributes:
        local: the rows as the cache has them, mapped, as soon as it does.
    """

    def __init__(self, file: FeatureFile, path: RemotePath, timestep: int) -> None:
        self._file, self._path, self._timestep = file, path, timestep
        start, stop = file.stretch(timestep)
        self._start, self._price, self._paid = start, stop - start, 0
        self.local: Rows | None = None
        found = the_cache().find(self._name)
        if found is not None and len(found) == self._price:
            self._take(found)

    @property
    def _name(self) -> str:
        return f"{_name_of(self._path)}.{self._timestep}"

    def __getitem__(self, rows: slice) -> np.ndarray:
        start, stop, _ = rows.indices(self._file.rows)
        begin, end = self._file.span(self._timestep, slice(start, stop))
        if self.local is None and self._paid + max(end - begin, REQUEST_BYTES) > self._price:
            self.keep()
        if self.local is not None:
            return self.local[start:stop]
        self._paid += max(end - begin, REQUEST_BYTES)
        return self._file.rows_from_span(self._timestep, slice(start, stop), self._read(begin, end))

    @property
    def dtype(self) -> np.dtype:
        """Of the values."""
        return self._file.dtype

    @property
    def channels(self) -> int:
        """How many values a row has."""
        return self._file.shard[2]

    def copy_into(self, rows: slice, out: Shaped[np.ndarray, "rows channels"]) -> None:
        """Fill ``out`` with the rows."""
        start, stop, _ = rows.indices(self._file.rows)
        for first in range(start, stop, ROWS_AT_ONCE):
            last, at = min(stop, first + ROWS_AT_ONCE), first - start
            if self.local is None:
                out[at : at + last - first] = self[first:last]
            else:
                copy_rows(self.local, slice(first, last), out[at : at + last - first])

    def keep(self) -> None:
        """Fetch all of it, if the cache takes it, and nobody has yet."""
        if self.local is None:
            found = the_cache().keep(self._name, self._price, self._fetch)
            if found is not None and len(found) == self._price:
                self._take(found)
            else:
                self._paid = -(2**62)  # it never will

    def _take(self, found: np.ndarray) -> None:
        self.local = self._file.rows_in(self._timestep, found)

    def _fetch(self) -> Iterator[bytes]:
        starts = range(self._start, self._start + self._price, READ_BYTES)
        spans = [(start, min(start + READ_BYTES, self._start + self._price)) for start in starts]
        for first in range(0, len(spans), 4):
            yield from together(lambda span: self._read(*span), spans[first : first + 4])

    def _read(self, start: int, stop: int) -> bytes:
        try:
            return self._path.read_range(start, stop)
        except FileNotFoundError as error:
            raise PartGone(f"{self._path} is gone: its part was merged or dropped since it was opened.") from error


def _name_of(file: RemotePath) -> str:
    """``STORE/PART/FILE`` of an object of a part: the same in every process."""
    store, _, inner = file.url.rpartition("/parts/")
    part, _, name = inner.partition("/")
    return f"{hashlib.sha256(store.encode()).hexdigest()[:16]}/{part}/{name.replace('/', '.')}"
