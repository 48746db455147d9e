"""One layer's features of a part: where each timestep's bytes lie in the file, and rows of them as arrays."""

import threading
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeAlias, runtime_checkable

import numpy as np
from jaxtyping import Int64, Shaped, UInt8

from actiondiff.store.array_reading import Read, read_bytes, read_json
from actiondiff.store.arrays import DTYPES, shard_index
from actiondiff.store.errors import StoreError
from actiondiff.store.places import Place

_CODECS = {("bytes",): "none", ("bytes", "zstd"): "zstd"}


@runtime_checkable
class BroughtRows(Protocol):
    """All rows of a part at one layer and timestep, which are unpacked or fetched when asked for."""

    @property
    def dtype(self) -> np.dtype:
        """Of the values."""

    @property
    def channels(self) -> int:
        """How many values a row has."""

    def __getitem__(self, rows: slice, /) -> Shaped[np.ndarray, "rows channels"]:
        """Some of them, one after another."""

    def copy_into(self, rows: slice, out: Shaped[np.ndarray, "rows channels"]) -> None:
        """Fill ``out`` with some of them."""


Rows: TypeAlias = np.ndarray | BroughtRows
"""All rows of a part at one layer and timestep: mapped, or brought when asked for."""


def kind_of(rows: Rows) -> tuple[int, np.dtype]:
    """Channels and dtype."""
    return (rows.shape[1] if isinstance(rows, np.ndarray) else rows.channels), rows.dtype


def copy_rows(rows: Rows, wanted: slice, out: Shaped[np.ndarray, "wanted channels"]) -> None:
    """Fill ``out`` with some of the rows, without an array of them in between."""
    if isinstance(rows, np.ndarray):
        out[:] = rows[wanted]
    else:
        rows.copy_into(wanted, out)


@dataclass(frozen=True, eq=False)
class FeatureFile:
    """One layer's features as they lie in a file.

    Attributes:
        path: the file of all values.
        dtype: of the values.
        timesteps: what the first axis stands for.
        shard: the block as it lies, or did before compression: (timesteps, padded rows, channels).
        rows: how many rows are none of the padding.
        chunk_rows: rows of an inner chunk.
        ends: where each inner chunk begins, and where the last ends; None without compression.
    """

    path: Place
    dtype: np.dtype
    timesteps: tuple[int, ...]
    shard: tuple[int, int, int]
    rows: int
    chunk_rows: int
    ends: Int64[np.ndarray, " chunks_and_one"] | None = None

    @classmethod
    def open(cls, folder: Place, size_bytes: int | None = None, read: Read = read_bytes) -> "FeatureFile":
        """Read the metadata, and make sure that the file is what they say.

        Args:
            folder: the array's folder.
            size_bytes: of the file, for one that lies behind a URL.
            read: gets the metadata's bytes.

        Raises:
            StoreError: where the array is not laid out as :func:`actiondiff.store.arrays.write_features` does, or its
                file is not whole.
        """
        metadata = read_json(folder / "zarr.json", read)
        try:
            timesteps, rows, channels = metadata["shape"]
            shard = tuple(metadata["chunk_grid"]["configuration"]["chunk_shape"])
            sharding = metadata["codecs"][0]["configuration"]
            compression = _CODECS.get(tuple(codec["name"] for codec in sharding["codecs"]))
            fitting = sharding["chunk_shape"][::2] == [1, channels] and _is_little(sharding["codecs"][0])
            numbers = tuple(metadata["attributes"]["timesteps"])
            dtype = np.dtype(DTYPES[metadata["data_type"]])
            chunk_rows = sharding["chunk_shape"][1]
            chunks = timesteps * (shard[1] // chunk_rows)
        except (ArithmeticError, IndexError, KeyError, TypeError, ValueError) as error:
            raise StoreError(f"{folder / 'zarr.json'} is not a feature array of format 1 or 2 ({error!r}).") from error
        if compression is None or not fitting or len(numbers) != timesteps:
            raise StoreError(
                f"{folder} is not a feature array of format 1 or 2, uncompressed or zstd; this version cannot read it."
            )
        path, chunk_bytes = folder / "c/0/0/0", chunk_rows * channels * dtype.itemsize
        ends = _read_ends(path, chunks, chunk_bytes, compression, size_bytes)
        return cls(path, dtype, numbers, shard, rows, chunk_rows, ends)

    def stretch(self, timestep: int) -> tuple[int, int]:
        """Where a timestep's bytes begin and end in the file."""
        place = self.timesteps.index(timestep)
        if self.ends is None:
            size = self.shard[1] * self.shard[2] * self.dtype.itemsize
            return place * size, (place + 1) * size
        chunks = self.shard[1] // self.chunk_rows
        return int(self.ends[place * chunks]), int(self.ends[(place + 1) * chunks])

    def map(self) -> np.ndarray:
        """A read-only view (timesteps, rows, channels) of a local uncompressed file, of which nothing is read yet."""
        return np.asarray(np.memmap(str(self.path), self.dtype, mode="r", shape=self.shard))[:, : self.rows]

    def views(self) -> dict[int, Rows]:
        """The rows of every timestep of a local file, mapped."""
        if self.ends is None:
            return dict(zip(self.timesteps, self.map(), strict=True))
        content = np.asarray(np.memmap(str(self.path), np.uint8, mode="r"))
        return {
            timestep: self.rows_in(timestep, content[slice(*self.stretch(timestep))]) for timestep in self.timesteps
        }

    def rows_in(self, timestep: int, content: UInt8[np.ndarray, " bytes"]) -> Rows:
        """The rows in a timestep's stretch of the file."""
        if self.ends is None:
            return content.view(self.dtype).reshape(self.shard[1:])[: self.rows]
        return self._unpacker(timestep, 0, self.shard[1] // self.chunk_rows, content)

    def span(self, timestep: int, rows: slice) -> tuple[int, int]:
        """Where what holds these rows begins and ends in the file: they themselves, or their compressed chunks."""
        if self.ends is None:
            begin, row_bytes = self.stretch(timestep)[0], self.shard[2] * self.dtype.itemsize
            return begin + rows.start * row_bytes, begin + rows.stop * row_bytes
        first = self.timesteps.index(timestep) * (self.shard[1] // self.chunk_rows)
        start, stop = self._chunks_of(rows)
        return int(self.ends[first + start]), int(self.ends[first + stop])

    def rows_from_span(self, timestep: int, rows: slice, content: bytes) -> np.ndarray:
        """The rows out of the bytes of their :meth:`span`."""
        found = np.frombuffer(content, np.uint8)
        if self.ends is None:
            return found.view(self.dtype).reshape(-1, self.shard[2])
        start, stop = self._chunks_of(rows)
        before = start * self.chunk_rows
        return self._unpacker(timestep, start, stop, found)[rows.start - before : rows.stop - before]

    def _chunks_of(self, rows: slice) -> tuple[int, int]:
        return rows.start // self.chunk_rows, -(-rows.stop // self.chunk_rows)

    def _unpacker(self, timestep: int, start: int, stop: int, content: np.ndarray) -> "CompressedRows":
        """The rows of a timestep's chunks from number ``start`` to ``stop``, of which ``content`` has the bytes."""
        if self.ends is None:
            raise StoreError(f"{self.path} is not compressed.")
        first = self.timesteps.index(timestep) * (self.shard[1] // self.chunk_rows)
        ends = self.ends[first + start : first + stop + 1]
        rows = min(self.rows, stop * self.chunk_rows) - start * self.chunk_rows
        return CompressedRows(self.path, content, ends - ends[0], self.chunk_rows, self.shard[2], self.dtype, rows)

    def read_into(self, timestep: int, runs: Iterable[tuple[int, int]], out: np.ndarray) -> None:
        """Fill ``out`` with the rows of the runs (start, stop) of a local uncompressed file, one run after another.

        The kernel copies straight into ``out``; through a map it would first have to make every page known.
        """
        row_bytes = self.shard[2] * self.dtype.itemsize
        first = self.timesteps.index(timestep) * self.shard[1]
        content, at = out.reshape(-1).view(np.uint8).data, 0
        with Path(str(self.path)).open("rb", buffering=0) as file:
            for start, stop in runs:
                file.seek((first + start) * row_bytes)
                end = at + (stop - start) * row_bytes
                while at < end:
                    size = file.readinto(content[at:end])
                    if not size:
                        raise StoreError(f"{self.path} is damaged: it ends before its rows do.")
                    at += size


_THREAD = threading.local()


@dataclass(frozen=True, eq=False)
class CompressedRows:
    """Rows in chunks of zstd frames, which are unpacked when asked for."""

    path: Place
    content: UInt8[np.ndarray, " bytes"]
    ends: Int64[np.ndarray, " chunks_and_one"]
    chunk_rows: int
    channels: int
    dtype: np.dtype
    rows: int

    def __getitem__(self, rows: slice) -> Shaped[np.ndarray, "rows channels"]:
        """A new array of the rows."""
        start, stop, _ = rows.indices(self.rows)
        out = np.empty((max(0, stop - start), self.channels), self.dtype)
        self.copy_into(slice(start, start + len(out)), out)
        return out

    def copy_into(self, rows: slice, out: Shaped[np.ndarray, "rows channels"]) -> None:
        """Fill ``out`` with the rows."""
        start, stop, _ = rows.indices(self.rows)
        for chunk in range(start // self.chunk_rows, -(-stop // self.chunk_rows)) if stop > start else ():
            first = chunk * self.chunk_rows
            own = slice(max(start, first), min(stop, first + self.chunk_rows))
            out[own.start - start : own.stop - start] = self._unpack(chunk)[own.start - first : own.stop - first]

    def _unpack(self, chunk: int) -> np.ndarray:
        import zstandard

        if not hasattr(_THREAD, "decompressor"):
            _THREAD.decompressor = zstandard.ZstdDecompressor()
        frame = self.content[self.ends[chunk] : self.ends[chunk + 1]]
        expected = self.chunk_rows * self.channels * self.dtype.itemsize
        try:
            found = _THREAD.decompressor.decompress(frame.data, max_output_size=expected)
        except zstandard.ZstdError as error:
            raise StoreError(f"{self.path} is damaged: a chunk of it cannot be unpacked ({error}).") from error
        if len(found) != expected:
            raise StoreError(f"{self.path} is damaged: a chunk of it has {len(found)} bytes instead of {expected}.")
        return np.frombuffer(found, self.dtype).reshape(self.chunk_rows, self.channels)


def _is_little(codec: dict[str, Any]) -> bool:
    return codec == {"name": "bytes", "configuration": {"endian": "little"}}


def _read_ends(
    path: Place, chunks: int, chunk_bytes: int, compression: str, size_bytes: int | None
) -> np.ndarray | None:
    """Refuse a file that is not whole chunks in order and their index; where they end, if they are compressed."""
    index_bytes = 16 * chunks + 4
    whole_bytes = chunks * chunk_bytes + index_bytes
    if isinstance(path, Path):
        found_bytes = path.stat().st_size if path.is_file() else 0
    else:
        found_bytes = path.size() if size_bytes is None else size_bytes
    if found_bytes < index_bytes or (compression == "none" and found_bytes != whole_bytes):
        raise StoreError(f"{path} is damaged: {whole_bytes} bytes are expected, {found_bytes} are there.")
    index = _tail(path, found_bytes - index_bytes, found_bytes)
    if compression == "none":
        good, ends = index == shard_index(np.full(chunks, chunk_bytes)), None
    else:
        sizes = np.frombuffer(index[:-4], "<u8").reshape(-1, 2)[:, 1].astype(np.int64)
        ends = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
        good = index == shard_index(sizes) and bool((sizes > 0).all()) and ends[-1] == found_bytes - index_bytes
    if not good:
        raise StoreError(f"{path} is damaged: the index at its end is not the one of its chunks in order.")
    return ends


def _tail(path: Place, start: int, stop: int) -> bytes:
    if not isinstance(path, Path):
        return path.read_range(start, stop)
    with path.open("rb") as file:
        file.seek(start)
        return file.read()
