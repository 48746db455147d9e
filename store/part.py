"""A part: the features of some videos at some keys, written once, visible by one rename, never changed.

``parts/<part id>/`` is a Zarr group. Its attributes carry the index (ids, row offsets, failures) and the size and
CRC-32C of every file; its arrays are ``layer_LL`` (timestep, row, channel) and the rows' and sources' origins.
"""

import math
import os
import secrets
import time
from array import array
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np

from actiondiff.store.array_reading import Read, parse_json, read_array, read_bytes
from actiondiff.store.arrays import FileRecord, dump_json, group_metadata, write_array, write_features, write_file
from actiondiff.store.errors import PartGone, RemoteError, StoreError, StoreNotReadable, telling_unreadable
from actiondiff.store.feature_file import FeatureFile, Rows
from actiondiff.store.fetching import RemoteRows, read_kept
from actiondiff.store.places import Place, part_is_there, sizes_beneath
from actiondiff.store.records import Failure, FeatureKey, Source, VideoFeatures
from actiondiff.store.remote import publish
from actiondiff.store.staging import Syncs, staged


def write_part(
    store: Place,
    videos: Sequence[VideoFeatures],
    failures: Sequence[Failure],
    dtype: str,
    supersedes: Sequence[str] = (),
    compression: str = "none",
) -> str:
    """Write a part and make it visible in one step: a rename, or behind a URL the upload of its index.

    A kill before that leaves a folder under ``.writing``, or objects without an index, which no reader looks at. After
    it the part is there; that it stays through a loss of power takes an ``fsync_folder`` of ``parts``, which is left to
    the caller so that a failure there is not mistaken for a part that was not written.

    Args:
        store: the store's folder.
        videos: all with the same keys, and as many channels at each.
        failures: videos that could not be extracted.
        dtype: of the features on disk.
        supersedes: names of the parts, oldest first, that this one takes the place of; it gets the last one's time.
        compression: ``none`` or ``zstd``.

    Returns:
        the part's id; ids sort by time of writing.
    """
    time_ns = int(supersedes[-1].split("-")[1]) if supersedes else time.time_ns()
    part_id = f"part-{time_ns:020d}-{secrets.token_hex(4)}"
    with staged(store, part_id) as folder:
        with Syncs() as syncs:
            files = _write_arrays(folder, videos, dtype, syncs, compression) if videos else {}
            index = group_metadata(_attributes(videos, failures, files, supersedes))
            write_file(folder / "zarr.json", [index], syncs)
            for inner, _, _ in os.walk(folder):
                syncs.folder(Path(inner))
        for name in files:  # fails where another writer took this one for dead and its folder away in the middle
            (folder / name).stat()
        if isinstance(store, Path):
            folder.rename(store / "parts" / part_id)
        else:
            publish(folder, store / "parts" / part_id, files)
    return part_id


def _write_arrays(
    folder: Path, videos: Sequence[VideoFeatures], dtype: str, syncs: Syncs, compression: str
) -> dict[str, FileRecord]:
    files: dict[str, FileRecord] = {}

    def keep(name: str, records: dict[str, FileRecord]) -> None:
        files.update({f"{name}/{path}": record for path, record in records.items()})

    keys = sorted(videos[0].features)
    for layer in sorted({key.layer for key in keys}):
        timesteps = tuple(key.timestep for key in keys if key.layer == layer)
        blocks = [[video.features[FeatureKey(layer, t)] for video in videos] for t in timesteps]
        name = f"layer_{layer:02d}"
        keep(name, write_features(folder / name, blocks, timesteps, dtype, syncs, compression))
    for name, (values, axes) in _origins(videos).items():
        keep(name, write_array(folder / name, values, axes, syncs))
    return files


def _origins(videos: Sequence[VideoFeatures]) -> dict[str, tuple[np.ndarray, tuple[str, ...]]]:
    sources = [video.source for video in videos]
    nan = float("nan")
    interval = [
        [nan if s.start_seconds is None else s.start_seconds, nan if s.end_seconds is None else s.end_seconds]
        for s in sources
    ]
    sha256 = np.frombuffer(bytes.fromhex("".join(s.sha256 for s in sources)), np.uint8).reshape(-1, 32)
    return {
        "frame_index": (np.concatenate([video.frame_index for video in videos]), ("row",)),
        "pts_seconds": (np.concatenate([video.pts_seconds for video in videos]), ("row",)),
        "source_sha256": (sha256, ("video", "byte")),
        "source_stat": (np.array([[s.size_bytes, s.mtime_ns] for s in sources], np.int64), ("video", "bytes_mtime_ns")),
        "source_interval_seconds": (np.array(interval, np.float64), ("video", "start_end")),
    }


def _attributes(
    videos: Sequence[VideoFeatures],
    failures: Sequence[Failure],
    files: dict[str, FileRecord],
    supersedes: Sequence[str],
) -> dict[str, Any]:
    offsets = np.cumsum([0] + [len(video.frame_index) for video in videos]).tolist()
    keys = sorted(videos[0].features) if videos else []
    attributes: dict[str, Any] = {
        "video_ids": [video.video_id for video in videos],
        "row_offsets": offsets,
        "keys": [[int(key.layer), int(key.timestep)] for key in keys],
        "failures": [{"video_id": f.video_id, "code": f.code, "message": _encodable(f.message)} for f in failures],
        "files": {name: [record.size_bytes, f"{record.crc32c:08x}"] for name, record in sorted(files.items())},
    }
    if supersedes:
        attributes["supersedes"] = sorted(supersedes)
    return attributes | {"crc32c": attributes_checksum(attributes)}


def _encodable(message: str) -> str:
    """Without the lone surrogates that stand for undecodable bytes of file names; UTF-8 has no room for them."""
    return message.encode(errors="backslashreplace").decode()


def attributes_checksum(attributes: dict[str, Any]) -> str:
    """CRC-32C, in hex, of a part's attributes (without their own checksum) in the store's spelling of JSON."""
    rest = {name: value for name, value in attributes.items() if name != "crc32c"}
    return f"{google_crc32c.value(dump_json(rest)):08x}"


_INDEX_BEGINS, _INDEX_ENDS = b'{"attributes":{"crc32c":"', b'},"node_type":"group","zarr_format":3}'


def _is_whole(content: bytes, attributes: dict[str, Any]) -> bool:
    """Whether the attributes are those that were written.

    In the store's own spelling their bytes stand in the file as they were summed up; only what another tool has
    rewritten must be spelled again, which takes longer than parsing.
    """
    checksum, start = attributes["crc32c"], len(_INDEX_BEGINS) + len('01234567",')
    if content.startswith(_INDEX_BEGINS) and content.endswith(_INDEX_ENDS):
        found = google_crc32c.extend(google_crc32c.value(b"{"), content[start : -len(_INDEX_ENDS)])
        if f"{google_crc32c.extend(found, b'}'):08x}" == checksum:
            return True
    return checksum == attributes_checksum(attributes)


def read_index(folder: Place, read: Read = read_bytes) -> dict[str, Any]:
    """A part's attributes, compared with their checksum.

    Args:
        folder: the part's folder.
        read: gets the file's bytes.

    Raises:
        PartGone: where there is no such part (any more).
        StoreError: where the index is missing, damaged or not of format 1.
        StoreNotReadable: where it cannot be read just now; ``RemoteError`` behind a URL.
    """
    path = folder / "zarr.json"
    try:
        with telling_unreadable(path):
            content = read(path)
    except FileNotFoundError as error:
        kind = StoreError if part_is_there(folder) else PartGone
        raise kind(f"{path} is missing: the part is damaged, or was merged or dropped meanwhile.") from error
    document = parse_json(path, content)
    try:
        attributes = document["attributes"]
        if not _is_whole(content, attributes):
            raise StoreError(f"{path} is damaged: the checksum of its attributes does not match.")
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise StoreError(f"{path} is not the index of a part of format 1 ({error!r}).") from error
    return attributes


def files_of(attributes: dict[str, Any]) -> dict[str, FileRecord]:
    """Size and checksum of every file of a part but its index, by path, from its attributes."""
    return {name: FileRecord(size, int(checksum, 16)) for name, (size, checksum) in attributes["files"].items()}


def _reading(folder: Place) -> Read:
    """How a part's small files are read: those behind a URL through the cache, since they never change."""
    return read_bytes if isinstance(folder, Path) else read_kept


def _index_of(folder: Place) -> dict[str, Any]:
    try:
        return read_index(folder, _reading(folder))
    except PartGone:
        raise
    except StoreError:
        if isinstance(folder, Path):
            raise
        return read_index(folder)  # what the cache has kept may be what is damaged


@dataclass(frozen=True, eq=False)
class Part:
    """A part opened for reading; its arrays are read or mapped when first asked for.

    Threads may share it: the worst that can happen is that two of them map the same file.

    Attributes:
        folder: where it lies.
        video_ids: its videos, in the order of their rows.
        row_offsets: one number more than videos: where the rows of each begin.
        keys: what every one of its videos has.
        failures: videos that could not be extracted.
        supersedes: names of the parts that it was merged from, which readers leave out.
        file_bytes: size of every file; told of parts behind a URL only.
        mapped: what is open of the layers, mapped if it can be, by layer and timestep; :meth:`forget` lets go.
    """

    folder: Place
    video_ids: list[str]
    row_offsets: "array[int]"
    keys: frozenset[FeatureKey]
    failures: tuple[Failure, ...]
    supersedes: tuple[str, ...] = ()
    file_bytes: Mapping[str, int] = field(default_factory=dict, repr=False)
    mapped: dict[tuple[int, int], Rows] = field(default_factory=dict, init=False, repr=False)
    _files: dict[int, FeatureFile] = field(default_factory=dict, init=False, repr=False)
    _arrays: dict[str, np.ndarray] = field(default_factory=dict, init=False, repr=False)

    def __reduce__(self) -> tuple[type, tuple[Any, ...]]:  # to another process goes the index, never the features
        index = self.video_ids, self.row_offsets, self.keys, self.failures, self.supersedes, self.file_bytes
        return Part, (self.folder, *index)

    @classmethod
    def open(cls, folder: Place) -> "Part":
        """Read a part's index.

        Raises:
            PartGone: where there is no such part (any more).
            StoreError: where the index is missing, damaged or not of format 1.
        """
        attributes = _index_of(folder)
        sizes = {} if isinstance(folder, Path) else {name: size for name, (size, _) in attributes["files"].items()}
        try:
            return cls(
                folder,
                attributes["video_ids"],
                array("q", attributes["row_offsets"]),
                frozenset(FeatureKey(layer, timestep) for layer, timestep in attributes["keys"]),
                tuple(Failure(**failure) for failure in attributes["failures"]),
                tuple(attributes.get("supersedes", ())),
                sizes,
            )
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise StoreError(f"{folder / 'zarr.json'} is not the index of a part of format 1 ({error!r}).") from error

    def rows(self, position: int) -> slice:
        """Which rows the part's video number ``position`` has."""
        return slice(self.row_offsets[position], self.row_offsets[position + 1])

    def runs(self, positions: Sequence[int]) -> list[tuple[int, int]]:
        """The rows of the videos at these positions (ascending, at least one) as stretches (start, stop)."""
        offsets = np.frombuffer(self.row_offsets, np.int64)
        starts, stops = offsets[:-1][positions], offsets[1:][positions]
        breaks = np.flatnonzero(starts[1:] != stops[:-1])
        return list(zip(starts[[0, *breaks + 1]].tolist(), stops[[*breaks, -1]].tolist(), strict=True))

    def file(self, layer: int) -> FeatureFile:
        """One layer's file.

        Raises:
            PartGone: where the part has been merged or dropped.
            StoreError: where the file is damaged or does not fit the part's index.
        """
        folder = self.folder / f"layer_{layer:02d}"
        if layer in self._files:
            return self._files[layer]
        with self._there():
            file = FeatureFile.open(folder, self.file_bytes.get(f"layer_{layer:02d}/c/0/0/0"), self._read)
        timesteps = {key.timestep for key in self.keys if key.layer == layer}
        if file.rows != self.row_offsets[-1] or set(file.timesteps) != timesteps:
            raise StoreError(f"{folder} is damaged: its shape is not the one that the part's index tells of.")
        if not isinstance(folder, Path):
            self._files[layer] = file
        return file

    def features(self, key: FeatureKey) -> Rows:
        """The rows (rows, channels) of all the part's videos, mapped anew where they can be; errors as :meth:`file`."""
        file, name = self.file(key.layer), (key.layer, key.timestep)
        if isinstance(file.path, Path):
            with self._there():
                views = file.views()
            self.mapped.update({(key.layer, timestep): rows for timestep, rows in views.items()})
            return views[key.timestep]
        rows = self.mapped.get(name)
        if rows is None:
            rows = self.mapped.setdefault(name, RemoteRows(file, file.path, key.timestep))
        if isinstance(rows, RemoteRows) and rows.local is not None:
            rows = self.mapped[name] = rows.local
        return rows

    def unit(self, key: FeatureKey) -> tuple[int, ...]:
        """What one map holds: a layer of a local part, a layer's timestep of one behind a URL."""
        return (key.layer,) if isinstance(self.folder, Path) else (key.layer, key.timestep)

    def forget(self, unit: tuple[int, ...]) -> None:
        """Unmap it, as soon as no view of it is in use."""
        for name in [name for name in list(self.mapped) if name[: len(unit)] == unit]:
            self.mapped.pop(name, None)

    def read_into(self, file: FeatureFile, key: FeatureKey, runs: Sequence[tuple[int, int]], out: np.ndarray) -> None:
        """Fill ``out`` with the rows of the runs (start, stop) of an uncompressed local file, one run after another.

        The file is read and closed, not mapped; ``file`` is the key's :meth:`file`.
        """
        with self._there():
            file.read_into(key.timestep, runs, out)

    @property
    def frame_index(self) -> np.ndarray:
        """Source frame of every row."""
        return self._array("frame_index")

    @property
    def pts_seconds(self) -> np.ndarray:
        """Presentation time of every row."""
        return self._array("pts_seconds")

    def source(self, position: int) -> Source:
        """What the part's video number ``position`` was made from."""
        sha256 = bytes(self._array("source_sha256")[position]).hex()
        size_bytes, mtime_ns = self._array("source_stat")[position].tolist()
        interval = self._array("source_interval_seconds")[position].tolist()
        start, end = (None if math.isnan(value) else value for value in interval)
        return Source(sha256, size_bytes, mtime_ns, start, end)

    def _array(self, name: str) -> np.ndarray:
        if name not in self._arrays:
            with self._there():
                self._arrays[name] = read_array(self.folder / name, self._read)
        return self._arrays[name]

    @contextmanager
    def _there(self) -> Iterator[None]:
        """Tell a part that was merged or dropped since its index was read from one that is damaged or out of reach."""
        try:
            with telling_unreadable(self.folder):
                yield
        except (StoreNotReadable, RemoteError):
            raise
        except (StoreError, OSError) as error:
            if part_is_there(self.folder):
                raise
            raise PartGone(f"{self.folder} is gone: it was merged or dropped since it was opened.") from error

    @property
    def size_bytes(self) -> int:
        """What the part takes on disk."""
        return sum(sizes_beneath(self.folder).values())

    @property
    def _read(self) -> Read:
        return _reading(self.folder)
