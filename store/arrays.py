"""Zarr v3 arrays as bytes: one file of data each, laid out so that the file itself can be memory-mapped.

A feature array has the axes (timestep, row, channel). Its single shard is a plain C-order block: all timesteps
one after another, each with its rows padded with zeros to whole inner chunks, then the shard's index. Ordinary
Zarr readers go through the index; ours maps the block. With compression the inner chunks lie in the same order, each a
zstd frame. zarr-python writes the inner chunks of a shard in Morton order, which would break rows apart, and is slower
than the disk: that is why the few bytes of metadata are made here.
"""

import json
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np

from actiondiff.store.staging import Syncs

CHUNK_ROWS = 32
"""Rows of an inner chunk: what a plain Zarr reader fetches at least (80 KiB at 1280 channels in float16)."""

COMPRESSIONS = ("none", "zstd")
ZSTD_LEVEL = 3
CHUNKS_AT_ONCE = 256

WRITE_BYTES = 8 * 2**20
WRITES_AT_ONCE = 512
"""How much goes to the system in one call: bytes, and pieces."""

DTYPES = {"float16": "<f2", "float32": "<f4", "float64": "<f8", "int64": "<i8", "uint8": "|u1"}
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
    with path.open("xb", buffering=0) as file:
        batch: list[bytes | np.ndarray] = []
        batch_bytes = 0
        for piece in pieces:
            batch.append(piece)
            batch_bytes += len(piece)
            checksum = google_crc32c.extend(checksum, piece)
            if batch_bytes >= WRITE_BYTES or len(batch) == WRITES_AT_ONCE:
                _write_all(file, batch)
                batch, size, batch_bytes = [], size + batch_bytes, 0
        _write_all(file, batch)
        size += batch_bytes
        if syncs:
            syncs.file(file)
        else:
            os.fsync(file.fileno())
    return FileRecord(size, checksum)


def _write_all(file: FileIO, batch: list[bytes | np.ndarray]) -> None:
    """One call of the system for many pieces, which is as fast as one large piece."""
    views = [memoryview(piece) for piece in batch if len(piece)]  # type: ignore[arg-type]  # see Python 3.12's Buffer
    while views:
        written = os.writev(file.fileno(), views)
        while views and written >= len(views[0]):
            written -= len(views.pop(0))
        if views:
            views[0] = views[0][written:]


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
    array = np.ascontiguousarray(array, DTYPES[dtype])
    codecs = [_BYTES_CODEC] if array.dtype.itemsize > 1 else [{"name": "bytes"}]
    metadata = _array_metadata(array.shape, array.shape, dtype, codecs, names, {})
    chunk = "/".join(["c"] + ["0"] * array.ndim)
    return {
        "zarr.json": write_file(folder / "zarr.json", [metadata], syncs),
        chunk: write_file(folder / chunk, [bytes_of(array)], syncs),
    }


def write_features(
    folder: Path,
    blocks: list[list[np.ndarray]],
    timesteps: tuple[int, ...],
    dtype: str,
    syncs: Syncs | None = None,
    compression: str = "none",
) -> dict[str, FileRecord]:
    """Write one layer's features.

    Args:
        folder: the array's folder.
        blocks: for every timestep, the (frames, channels) arrays of all videos, in the same order.
        timesteps: the timesteps, ascending.
        dtype: ``float16`` or ``float32``.
        syncs: flushes that go on beside the writing.
        compression: of every inner chunk, one of ``COMPRESSIONS``.

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
        "codecs": chunk_codecs(compression),
        "index_codecs": [_BYTES_CODEC, {"name": "crc32c"}],
        "index_location": "end",
    }
    codecs = [{"name": "sharding_indexed", "configuration": sharding}]
    names = ("timestep", "row", "channel")
    chunks = len(timesteps) * (shard[1] // chunk_rows)
    chunk_bytes = chunk_rows * channels * np.dtype(DTYPES[dtype]).itemsize
    pieces = _shard_pieces(blocks, shard, dtype)
    content = _compressed(pieces, chunk_bytes) if compression == "zstd" else _plain(pieces, chunks, chunk_bytes)
    metadata = _array_metadata(shape, shard, dtype, codecs, names, {"timesteps": [int(t) for t in timesteps]})
    return {
        "zarr.json": write_file(folder / "zarr.json", [metadata], syncs),
        "c/0/0/0": write_file(folder / "c/0/0/0", content, syncs),
    }


def chunk_codecs(compression: str) -> list[dict[str, Any]]:
    """How the inner chunks of a feature array are coded."""
    zstd = {"name": "zstd", "configuration": {"level": ZSTD_LEVEL, "checksum": False}}
    return [_BYTES_CODEC] if compression == "none" else [_BYTES_CODEC, zstd]


def _shard_pieces(blocks: list[list[np.ndarray]], shard: tuple[int, int, int], dtype: str) -> Iterator[np.ndarray]:
    _, padded_rows, channels = shard
    row_bytes = channels * np.dtype(DTYPES[dtype]).itemsize
    for block in blocks:
        for array in block:
            yield bytes_of(np.ascontiguousarray(array, dtype=DTYPES[dtype]))
        yield np.zeros((padded_rows - sum(map(len, block))) * row_bytes, np.uint8)


def _plain(pieces: Iterable[np.ndarray], chunks: int, chunk_bytes: int) -> Iterator[bytes | np.ndarray]:
    yield from pieces
    yield shard_index(np.full(chunks, chunk_bytes))


def _compressed(pieces: Iterable[np.ndarray], chunk_bytes: int) -> Iterator[bytes]:
    """Every chunk as a frame of its own, a few at the same time, then the shard's index."""
    import zstandard

    sizes: list[int] = []
    for stretch in _stretches(pieces, chunk_bytes * CHUNKS_AT_ONCE):
        chunks: list[bytes | bytearray | memoryview] = [
            stretch[at : at + chunk_bytes] for at in range(0, len(stretch), chunk_bytes)
        ]
        compressor = zstandard.ZstdCompressor(level=ZSTD_LEVEL, write_content_size=True)
        frames = compressor.multi_compress_to_buffer(chunks, threads=-1)
        for number in range(len(frames)):
            sizes.append(len(frames[number]))
            yield frames[number].tobytes()
    yield shard_index(np.array(sizes))


def _stretches(pieces: Iterable[np.ndarray], size: int) -> Iterator[memoryview]:
    """The same bytes in stretches of one size; the last may be shorter."""
    buffer, filled = bytearray(size), 0
    for piece in pieces:
        content = piece.data
        while len(content):
            taken = min(size - filled, len(content))
            buffer[filled : filled + taken] = content[:taken]
            filled, content = filled + taken, content[taken:]
            if filled == size:
                yield memoryview(buffer)
                filled = 0
    if filled:
        yield memoryview(buffer)[:filled]


def shard_index(sizes: np.ndarray) -> bytes:
    """Offset and size of every inner chunk, one after another as they lie, and the index's CRC-32C."""
    table = np.empty((len(sizes), 2), "<u8")
    table[:, 1] = sizes
    table[:, 0] = np.cumsum(sizes) - sizes
    index = table.tobytes()
    return index + google_crc32c.value(index).to_bytes(4, "little")


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


def bytes_of(array: np.ndarray) -> np.ndarray:
    """A contiguous array's memory."""
    return array.reshape(-1).view(np.uint8)
