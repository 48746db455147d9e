"""Zarr v3 arrays as bytes: one file of data each, laid out so that the file itself can be memory-mapped.

A feature array has the axes (timestep, row, channel). Its single shard is a plain C-order block: all timesteps
one after another, each with its rows padded with zeros to whole inner chunks, then the shard's index. Ordinary
Zarr readers go through the index; ours maps the block. zarr-python writes the inner chunks of a shard in Morton
order, which would break rows apart, and is slower than the disk: that is why the few bytes of metadata are made here.
"""

import json
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np

from actiondiff.store.errors import StoreError
from actiondiff.store.staging import Syncs

CHUNK_ROWS = 32
"""Rows of an inner chunk: what a plain Zarr reader fetches at least (80 KiB at 1280 channels in float16)."""

_DTYPES = {"float16": "<f2", "float32": "<f4", "float64": "<f8", "int64": "<i8", "uint8": "|u1"}
_BYTES_CODEC = {"name": "bytes", "configuration": {"endian": "little"}}


@dataclass(frozen=True)
class FileRecord:
    """Size and CRC-32C of one written file."""

    size_bytes: int
    crc32c: int


def dump_json(document: Any) -> bytes:
    """The one spelling of JSON in a store: sorted, compact, no NaN."""
    return json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


def write_file(path: Path, pieces: Iterable[bytes | np.ndarray], syncs: Syncs | None = None) -> FileRecord:
    """Write the pieces one after another and flush them to the disk, with ``syncs`` beside what is written next."""
    path.parent.mkdir(parents=True, exist_ok=True)
    size, checksum = 0, 0
    with path.open("xb") as file:
        for piece in pieces:
            file.write(piece)  # type: ignore[arg-type]  # NumPy tells of its buffers from Python 3.12 on
            checksum = google_crc32c.extend(checksum, piece)
            size += len(piece)
        file.flush()
        if syncs:
            syncs.file(file)
        else:
            os.fsync(file.fileno())
    return FileRecord(size, checksum)


def group_metadata(attributes: dict[str, Any]) -> bytes:
    """``zarr.json`` of a group."""
    return dump_json({"zarr_format": 3, "node_type": "group", "attributes": attributes})


def write_array(
    folder: Path, array: np.ndarray, names: tuple[str, ...], syncs: Syncs | None = None
) -> dict[str, FileRecord]:
    """Write a small array as a single chunk.

    Returns:
        the record of every file, by its path relative to ``folder``.
    """
    dtype = array.dtype.name
    array = np.ascontiguousarray(array, _DTYPES[dtype])
    codecs = [_BYTES_CODEC] if array.dtype.itemsize > 1 else [{"name": "bytes"}]
    metadata = _array_metadata(array.shape, array.shape, dtype, codecs, names, {})
    chunk = "/".join(["c"] + ["0"] * array.ndim)
    return {
        "zarr.json": write_file(folder / "zarr.json", [metadata], syncs),
        chunk: write_file(folder / chunk, [_bytes_of(array)], syncs),
    }


def write_features(
    folder: Path,
    blocks: list[list[np.ndarray]],
    timesteps: tuple[int, ...],
    dtype: str,
    syncs: Syncs | None = None,
) -> dict[str, FileRecord]:
    """Write one layer's features.

    Args:
        folder: the array's folder.
        blocks: for every timestep, the (frames, channels) arrays of all videos, in the same order.
        timesteps: the timesteps, ascending.
        dtype: ``float16`` or ``float32``.
        syncs: flushes that go on beside the writing.

    Returns:
        the record of every file, by its path relative to ``folder``.
    """
    rows = sum(len(block) for block in blocks[0])
    channels = blocks[0][0].shape[1]
    chunk_rows = min(CHUNK_ROWS, rows)
    shape = (len(timesteps), rows, channels)
    shard = (len(timesteps), -(-rows // chunk_rows) * chunk_rows, channels)
    sharding = {
        "chunk_shape": [1, chunk_rows, channels],
        "codecs": [_BYTES_CODEC],
        "index_codecs": [_BYTES_CODEC, {"name": "crc32c"}],
        "index_location": "end",
    }
    codecs = [{"name": "sharding_indexed", "configuration": sharding}]
    names = ("timestep", "row", "channel")
    metadata = _array_metadata(shape, shard, dtype, codecs, names, {"timesteps": [int(t) for t in timesteps]})
    return {
        "zarr.json": write_file(folder / "zarr.json", [metadata], syncs),
        "c/0/0/0": write_file(folder / "c/0/0/0", _shard_pieces(blocks, shard, chunk_rows, dtype), syncs),
    }


def _shard_pieces(
    blocks: list[list[np.ndarray]], shard: tuple[int, int, int], chunk_rows: int, dtype: str
) -> Iterator[bytes | np.ndarray]:
    timesteps, padded_rows, channels = shard
    row_bytes = channels * np.dtype(_DTYPES[dtype]).itemsize
    for block in blocks:
        for array in block:
            yield _bytes_of(np.ascontiguousarray(array, dtype=_DTYPES[dtype]))
        yield bytes((padded_rows - sum(map(len, block))) * row_bytes)
    yield _shard_index(timesteps * (padded_rows // chunk_rows), chunk_rows * row_bytes)


def _shard_index(chunks: int, chunk_bytes: int) -> bytes:
    """Offset and size of every inner chunk, one after another as they lie, and the index's CRC-32C."""
    offsets = np.arange(chunks, dtype="<u8") * chunk_bytes
    index = np.stack([offsets, np.full_like(offsets, chunk_bytes)], axis=1).tobytes()
    return index + google_crc32c.value(index).to_bytes(4, "little")


@dataclass(frozen=True)
class FeatureFile:
    """One layer's features on disk.

    Attributes:
        path: the file of all values.
        dtype: of the values.
        timesteps: what the first axis stands for.
        shard: the block as it lies: (timesteps, padded rows, channels).
        rows: how many rows are none of the padding.
    """

    path: Path
    dtype: np.dtype
    timesteps: tuple[int, ...]
    shard: tuple[int, int, int]
    rows: int

    @classmethod
    def open(cls, folder: Path) -> "FeatureFile":
        """Read the metadata, and make sure that the file is what they say.

        Raises:
            StoreError: where the array is not laid out as :func:`write_features` does, or its file is not whole.
        """
        metadata = read_json(folder / "zarr.json")
        try:
            timesteps, rows, channels = metadata["shape"]
            shard = tuple(metadata["chunk_grid"]["configuration"]["chunk_shape"])
            sharding = metadata["codecs"][0]["configuration"]
            contiguous = sharding["codecs"] == [_BYTES_CODEC] and sharding["chunk_shape"][::2] == [1, channels]
            numbers = tuple(metadata["attributes"]["timesteps"])
            dtype = np.dtype(_DTYPES[metadata["data_type"]])
            chunk_bytes = sharding["chunk_shape"][1] * channels * dtype.itemsize
            chunks = timesteps * (shard[1] // sharding["chunk_shape"][1])
        except (ArithmeticError, IndexError, KeyError, TypeError, ValueError) as error:
            raise StoreError(f"{folder / 'zarr.json'} is not a feature array of format 1 ({error!r}).") from error
        if not contiguous or len(numbers) != timesteps:
            raise StoreError(f"{folder} is not an uncompressed feature array of format 1; this version cannot read it.")
        path = folder / "c/0/0/0"
        _check_shard(path, chunks, chunk_bytes)
        return cls(path, dtype, numbers, shard, rows)

    def map(self) -> np.ndarray:
        """A read-only view (timesteps, rows, channels) of the file, of which nothing is read yet."""
        return np.asarray(np.memmap(self.path, self.dtype, mode="r", shape=self.shard))[:, : self.rows]

    def read_into(self, timestep: int, runs: Iterable[tuple[int, int]], out: np.ndarray) -> None:
        """Fill ``out`` with the rows of the runs (start, stop), one run after another.

        The kernel copies straight into ``out``; through a map it would first have to make every page known.
        """
        row_bytes = self.shard[2] * self.dtype.itemsize
        first = self.timesteps.index(timestep) * self.shard[1]
        content, at = out.reshape(-1).view(np.uint8).data, 0
        with self.path.open("rb", buffering=0) as file:
            for start, stop in runs:
                file.seek((first + start) * row_bytes)
                end = at + (stop - start) * row_bytes
                while at < end:
                    size = file.readinto(content[at:end])
                    if not size:
                        raise StoreError(f"{self.path} is damaged: it ends before its rows do.")
                    at += size


def map_features(folder: Path) -> tuple[np.ndarray, tuple[int, ...]]:
    """Map one layer's features into memory, without reading them.

    Returns:
        a read-only view (timesteps, rows, channels), and the timesteps of its first axis.

    Raises:
        StoreError: as :meth:`FeatureFile.open`.
    """
    file = FeatureFile.open(folder)
    return file.map(), file.timesteps


def _check_shard(path: Path, chunks: int, chunk_bytes: int) -> None:
    """Refuse a file that is not whole chunks in their order with the index of just these."""
    index = _shard_index(chunks, chunk_bytes)
    expected_bytes = chunks * chunk_bytes + len(index)
    found_bytes = path.stat().st_size if path.is_file() else 0
    if found_bytes != expected_bytes:
        raise StoreError(f"{path} is damaged: {expected_bytes} bytes are expected, {found_bytes} are there.")
    with path.open("rb") as file:
        file.seek(chunks * chunk_bytes)
        if file.read() != index:
            raise StoreError(f"{path} is damaged: the index at its end is not the one of its chunks in order.")


def read_array(folder: Path) -> np.ndarray:
    """Read an array written by :func:`write_array`.

    Raises:
        StoreError: where it is not there, not whole, or of another kind.
    """
    metadata = read_json(folder / "zarr.json")
    try:
        shape, dtype = metadata["shape"], _DTYPES[metadata["data_type"]]
        path = folder / "/".join(["c"] + ["0"] * len(shape))
    except (KeyError, TypeError) as error:
        raise StoreError(f"{folder / 'zarr.json'} is not an array of format 1 ({error!r}).") from error
    try:
        return np.fromfile(path, dtype).reshape(shape)
    except (OSError, ValueError) as error:
        raise StoreError(f"{path} is damaged or missing ({error}).") from error


def read_json(path: Path) -> Any:
    """Read one of the store's JSON documents.

    Raises:
        StoreError: where it is not there or no JSON.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise StoreError(f"{path} cannot be read as JSON ({error}).") from error
    return parse_json(path, content)


def parse_json(path: Path, content: bytes) -> Any:
    """What the document at ``path`` says.

    Raises:
        StoreError: where it is no JSON.
    """
    try:
        return json.loads(content)
    except ValueError as error:
        raise StoreError(f"{path} cannot be read as JSON ({error}).") from error


def _array_metadata(
    shape: tuple[int, ...],
    chunk_shape: tuple[int, ...],
    dtype: str,
    codecs: list[dict[str, Any]],
    names: tuple[str, ...],
    attributes: dict[str, Any],
) -> bytes:
    return dump_json(
        {
            "zarr_format": 3,
            "node_type": "array",
            "shape": list(shape),
            "data_type": dtype,
            "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": list(chunk_shape)}},
            "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
            "fill_value": 0 if dtype in ("int64", "uint8") else 0.0,
            "codecs": codecs,
            "dimension_names": list(names),
            "attributes": attributes,
        }
    )


def _bytes_of(array: np.ndarray) -> np.ndarray:
    return array.reshape(-1).view(np.uint8)
