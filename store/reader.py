"""Reading: a store's index is held in memory, its features stay mapped files until a video is asked for."""

import hashlib
import json
import resource
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import cache, partial
from itertools import islice, pairwise
from pathlib import Path
from typing import Any, TypeVar

import google_crc32c
import numpy as np
from jaxtyping import Float64, Int64, Shaped
from numpy import ndarray

from actiondiff.store.array_reading import parse_json
from actiondiff.store.arrays import COMPRESSIONS, dump_json
from actiondiff.store.errors import (
    KeyNotFound,
    PartGone,
    RecipeMismatch,
    StoreError,
    StoreNotFound,
    VideoNotFound,
    telling_unreadable,
)
from actiondiff.store.feature_file import FeatureFile, Rows, copy_rows, kind_of
from actiondiff.store.fetching import RemoteRows
from actiondiff.store.index import Index, look
from actiondiff.store.part import Part
from actiondiff.store.places import Place, place_of
from actiondiff.store.ragged import RaggedFeatures
from actiondiff.store.records import Failure, FeatureKey, Source

FORMAT_OF = {"none": 1, "zstd": 2}
"""Which version of the format a store has: without compression it is one that readers of version 1 know."""

LOADS_AT_ONCE = 8
MOST_MAPS = 2**15
_Found = TypeVar("_Found")


class FeatureStore:
    """The features of one recipe, read by video id, layer and timestep.

    Sees the parts that were there when it was opened; :meth:`refresh` looks again.

    Args:
        path: the store's folder, or its URL.

    Raises:
        StoreNotFound: nothing is there.
        StoreError: something is there that this version cannot read.

    Example:
        >>> FeatureStore("features.zarr").read("walk/clip3", layer=9, timestep=20).shape  # doctest: +SKIP
        (37, 1280)
    """

    def __init__(self, path: str | Place) -> None:
        self.path = place_of(path)
        header = read_header(self.path)
        self.recipe: dict[str, Any] = header["recipe"]
        self.fingerprint: str = header["fingerprint"]
        self.notice: str = header.get("notice", "")
        self.compression = compression_of(header)
        self._index = Index({})
        self._maps: dict[tuple[Part, tuple[int, ...]], None] = {}
        self.refresh()

    @property
    def name(self) -> str:
        """What to call the features in tables: the backbone, or the folder; marked where there is a notice."""
        name = str(self.recipe.get("backbone", self.path.stem))
        return f"{name} (see notice)" if self.notice else name

    def refresh(self) -> None:
        """Take in what writers have added since, and what was merged or dropped."""
        index = look(self.path / "parts", self._index.opened)
        if index is not None:
            self._index = index
            there = set(index.opened.values())  # whose maps are still open, and count
            self._maps = {unit: None for unit in list(self._maps) if unit[0] in there}

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_index": self._index.opened, "_maps": {}}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state | {"_index": Index(state["_index"])})

    @property
    def video_ids(self) -> tuple[str, ...]:
        """Every video with features, in order of id."""
        return self._index.video_ids

    @property
    def failures(self) -> dict[str, Failure]:
        """Videos whose last try failed, by id."""
        return dict(sorted(self._index.failures.items()))

    @property
    def parts(self) -> tuple[Part, ...]:
        """The parts, oldest first."""
        return self._index.parts

    def keys(self, video_id: str | None = None) -> tuple[FeatureKey, ...]:
        """Layers and timesteps that the store has of this video, or of any."""
        parts = self.parts if video_id is None else [part for part, _ in self._of(video_id)]
        return tuple(sorted(set().union(*(part.keys for part in parts))))

    def __contains__(self, video_id: object) -> bool:
        return video_id in self._index.places

    def __len__(self) -> int:
        return len(self._index.places)

    def read(self, video_id: str, *, layer: int, timestep: int) -> Shaped[np.ndarray, "frames channels"]:
        """One video's features, (frames, channels), in the store's dtype.

        Raises:
            VideoNotFound: no features of this video.
            KeyNotFound: none at this layer and timestep.
        """
        index = self._index
        number = index.places.get(video_id)
        if number.__class__ is int:  # the quick way: in one part, which is mapped
            place = bisect_right(index.starts, number) - 1
            part = index.parts[place]
            rows = part.mapped.get((layer, timestep))
            if rows.__class__ is ndarray:
                position = number - index.starts[place]
                return rows[part.row_offsets[position] : part.row_offsets[position + 1]].copy()
        view = self._view(video_id, FeatureKey(layer, timestep))
        return view if view.flags.owndata else view.copy()

    def read_many(
        self, video_ids: Iterable[str], *, layer: int, timestep: int
    ) -> list[Shaped[np.ndarray, "_ channels"]]:
        """Features of several videos, in the order asked for; errors as :meth:`read`."""
        return [self.read(video_id, layer=layer, timestep=timestep) for video_id in video_ids]

    def load(self, video_ids: Iterable[str] | None = None, *, layer: int, timestep: int) -> RaggedFeatures:
        """Features of many videos in one array, each row copied once.

        Args:
            video_ids: which, in this order; without it all that have features there, in the order in which they lie on
                disk, which is as fast as reading one file.
            layer: the layer.
            timestep: the timestep.

        Raises:
            VideoNotFound: no features of one of the videos, or with ``KeyNotFound`` none at this layer and timestep.
        """
        key = FeatureKey(layer, timestep)
        if video_ids is None:
            return self._steadily(lambda: self._load_all(key))
        wanted = list(video_ids)
        return self._steadily(lambda: self._gather(wanted, key))

    def batches(
        self, video_ids: Iterable[str] | None = None, *, layer: int, timestep: int, batch_size: int
    ) -> Iterator[RaggedFeatures]:
        """Features of ``batch_size`` videos at a time, each row copied once; arguments and errors as :meth:`load`."""
        key = FeatureKey(layer, timestep)
        names = iter(self._all_with(key) if video_ids is None else video_ids)
        while batch := list(islice(names, batch_size)):
            yield self._steadily(partial(self._gather, batch, key))

    def frame_index(self, video_id: str) -> Int64[np.ndarray, " frames"]:
        """Index of each row's frame in the source."""
        return self._steadily(lambda: self._origin(video_id, lambda part: part.frame_index))

    def pts_seconds(self, video_id: str) -> Float64[np.ndarray, " frames"]:
        """Presentation time of each row; NaN where the source has no clock."""
        return self._steadily(lambda: self._origin(video_id, lambda part: part.pts_seconds))

    def source(self, video_id: str) -> Source:
        """What the video's features were made from."""

        def find() -> Source:
            part, position = self._of(video_id)[0]
            return part.source(position)

        return self._steadily(find)

    def missing(self, video_id: str, keys: Sequence[FeatureKey]) -> tuple[FeatureKey, ...]:
        """Which of the keys the store does not have of this video."""
        parts = self._index.of(video_id) if video_id in self else []
        return tuple(sorted(set(keys).difference(*(part.keys for part, _ in parts))))

    def places_of(self, key: FeatureKey) -> Iterator[tuple[Part, list[int]]]:
        """Every part that has the key, oldest first, with the positions of its videos that no older part has there."""
        index, seen = self._index, set[str]()
        for part in index.parts:
            if key not in part.keys:
                continue
            positions = list(range(len(part.video_ids)))
            if index.has_repeats:
                positions = [position for position in positions if part.video_ids[position] not in seen]
                seen.update(part.video_ids)
            if positions:
                yield part, positions

    def _origin(self, video_id: str, array: Callable[[Part], np.ndarray]) -> np.ndarray:
        part, position = self._of(video_id)[0]
        return np.array(array(part)[part.rows(position)])

    def _of(self, video_id: str) -> list[tuple[Part, int]]:
        try:
            return self._index.of(video_id)
        except KeyError:
            failure = self._index.failures.get(video_id)
            why = f" (its extraction failed: {failure.message})" if failure else ""
            raise VideoNotFound(
                f"{self.path} has no features of {video_id!r}{why}; it has {len(self)} videos."
            ) from None

    def _find(self, video_id: str, key: FeatureKey) -> tuple[Part, int]:
        # The first part wins where two writers did the same work: their bytes are the same, and this keeps order.
        for part, position in self._of(video_id):
            if key in part.keys:
                return part, position
        there = "; ".join(map(str, self.keys(video_id)))
        raise KeyNotFound(
            f"{self.path} has {video_id!r}, but not at {key}; it has {there}. "
            f"Add it with: actiondiff extract --layer {key.layer} --t {key.timestep}"
        )

    def _view(self, video_id: str, key: FeatureKey) -> np.ndarray:
        """A video's rows in the map, or unpacked or fetched from where they lie."""

        def find() -> np.ndarray:
            part, position = self._find(video_id, key)
            return self._mapped(part, key)[part.rows(position)]

        return self._steadily(find)

    def _mapped(self, part: Part, key: FeatureKey) -> Rows:
        """All of a part's rows. A map keeps a file open: the oldest are let go before there are too many."""
        known = part.mapped.get((key.layer, key.timestep))
        if known is not None:
            return known
        while len(self._maps) >= maps_at_most():
            with suppress(StopIteration, RuntimeError, KeyError):  # another thread may be at it, too
                oldest = next(iter(self._maps))
                del self._maps[oldest]
                oldest[0].forget(oldest[1])
        self._maps[part, part.unit(key)] = None
        return part.features(key)

    def _steadily(self, work: Callable[[], _Found]) -> _Found:
        """Do it, and look again where a part was merged into another or dropped meanwhile."""
        while True:
            try:
                return work()
            except PartGone:
                self.refresh()

    def _gather(self, video_ids: list[str], key: FeatureKey) -> RaggedFeatures:
        """Part by part, so that no more than one part's map is in use at a time."""
        rows_of: list[slice] = []
        places: dict[Part, list[int]] = defaultdict(list)
        for place, video_id in enumerate(video_ids):
            part, position = self._find(video_id, key)
            rows_of.append(part.rows(position))
            places[part].append(place)
        row_offsets = np.cumsum([0, *(rows.stop - rows.start for rows in rows_of)], dtype=np.int64)
        features = None
        for part, own in places.items():
            rows = self._mapped(part, key)
            channels, dtype = kind_of(rows)
            if features is None:
                features = np.empty((row_offsets[-1], channels), dtype)
            self._check_kinds(key, {(channels, dtype), (features.shape[1], features.dtype)})
            for place in own:
                copy_rows(rows, rows_of[place], features[row_offsets[place] : row_offsets[place + 1]])
        return RaggedFeatures(tuple(video_ids), row_offsets, np.zeros((0, 0)) if features is None else features)

    def _check_kinds(self, key: FeatureKey, kinds: set[tuple[int, np.dtype]]) -> None:
        if len(kinds) > 1:
            raise StoreError(
                f"Videos at {key} differ in channels or dtype: {kinds}. Load them by their ids, each kind."
            )

    def _all_with(self, key: FeatureKey) -> list[str]:
        return [part.video_ids[position] for part, positions in self.places_of(key) for position in positions]

    def _load_all(self, key: FeatureKey) -> RaggedFeatures:
        names: list[str] = []
        lengths: list[np.ndarray] = []
        runs: list[tuple[Part, list[tuple[int, int]]]] = []
        for part, positions in self.places_of(key):
            names += [part.video_ids[position] for position in positions]
            lengths.append(np.diff(np.frombuffer(part.row_offsets, np.int64))[positions])
            runs.append((part, part.runs(positions)))
        if not runs:
            raise KeyNotFound(f"{self.path} has no video at {key}; it has {'; '.join(map(str, self.keys()))}.")
        files = self._of_all(lambda piece: piece[0].file(key.layer), runs)
        kinds = {(file.shard[2], file.dtype) for file in files}
        self._check_kinds(key, kinds)
        [(channels, dtype)] = kinds
        row_offsets = np.concatenate([[0], np.cumsum(np.concatenate(lengths))]).astype(np.int64)
        features = np.empty((row_offsets[-1], channels), dtype)
        ends = np.cumsum([0, *(int(rows.sum()) for rows in lengths)])
        outs = [features[start:stop] for start, stop in pairwise(ends.tolist())]

        def read(piece: tuple[tuple[Part, list[tuple[int, int]]], FeatureFile, np.ndarray]) -> None:
            (part, parts_runs), file, out = piece
            if isinstance(self.path, Path) and file.ends is None:
                part.read_into(file, key, parts_runs, out)
                return
            rows, at = self._mapped(part, key), 0
            if isinstance(rows, RemoteRows):  # what is read whole is fetched whole
                rows.keep()
            for start, stop in parts_runs:
                copy_rows(rows, slice(start, stop), out[at : at + stop - start])
                at += stop - start

        self._of_all(read, list(zip(runs, files, outs, strict=True)))
        return RaggedFeatures(tuple(names), row_offsets, features)

    def _of_all(self, work: Callable[[Any], _Found], pieces: list[Any]) -> list[_Found]:
        """One after another from a local disk, which is fastest; several at once where they are fetched or unpacked."""
        if isinstance(self.path, Path) and self.compression == "none":
            return [work(piece) for piece in pieces]
        with ThreadPoolExecutor(LOADS_AT_ONCE) as pool:
            return list(pool.map(work, pieces))


@cache
def maps_at_most() -> int:
    """Half of the files that this process may have open, since a map keeps its file; Linux allows 65,530 maps."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return max(min(soft // 2, MOST_MAPS), 16) if soft != resource.RLIM_INFINITY else MOST_MAPS


def read_header(path: str | Place) -> dict[str, Any]:
    """The store's own record: format version, recipe, fingerprint.

    Raises:
        StoreNotFound: nothing is there.
        StoreError: of another format, or damaged.
        StoreNotReadable: it cannot be read just now; ``RemoteError`` behind a URL.
    """
    path = place_of(path)
    file = path / "zarr.json"
    try:
        with telling_unreadable(file):
            document = parse_json(file, file.read_bytes())
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        if not path.exists():
            raise StoreNotFound(
                f"There is no store at {path}. Make one with: actiondiff extract --store {path}"
            ) from None
        document = {}
    try:
        header = document["attributes"]["actiondiff"]
        version = header["format_version"]
    except (KeyError, TypeError):
        raise StoreNotFound(f"{path} is not a feature store of actiondiff (no such record in its zarr.json).") from None
    if version not in FORMAT_OF.values():
        raise StoreError(
            f"{path} has format {version}; this version of actiondiff reads format 1 and 2. Update actiondiff."
        )
    recipe = header.get("recipe")
    if not isinstance(recipe, dict) or header.get("fingerprint") != recipe_fingerprint(recipe):
        raise StoreError(f"{file} is damaged: its fingerprint is not the one of its recipe.")
    if header.get("crc32c", header_checksum(header)) != header_checksum(header):
        raise StoreError(f"{file} is damaged: the checksum of its header does not match.")
    if FORMAT_OF.get(compression_of(header)) != version:
        raise StoreError(
            f"{path} is compressed by {compression_of(header)!r}, unknown to this version in format {version}: "
            f"it knows {', '.join(COMPRESSIONS)}. Update actiondiff."
        )
    return header


def compression_of(header: Mapping[str, Any]) -> str:
    """How a store's features are compressed; format 1 does not tell, and they are not."""
    return header.get("compression", "none")


def header_checksum(header: Mapping[str, Any]) -> str:
    """CRC-32C, in hex, of a header (without its own checksum) in the store's spelling of JSON."""
    rest = {name: value for name, value in header.items() if name != "crc32c"}
    return f"{google_crc32c.value(dump_json(rest)):08x}"


def recipe_fingerprint(recipe: Mapping[str, Any]) -> str:
    """Hex SHA-256 of a recipe: two recipes agree exactly when their fingerprints do."""
    return hashlib.sha256(dump_json(as_json(recipe))).hexdigest()


def as_json(recipe: Mapping[str, Any]) -> dict[str, Any]:
    """As it reads from JSON, where tuples are lists and names are strings."""
    return json.loads(dump_json(dict(recipe)))


def check_recipe(path: str | Place, header: Mapping[str, Any], recipe: Mapping[str, Any]) -> None:
    """Refuse to mix recipes, naming what differs.

    Raises:
        RecipeMismatch: where the header's recipe is another one.
    """
    if header["fingerprint"] == recipe_fingerprint(recipe):
        return
    there, asked = _spelled(header["recipe"]), _spelled(as_json(recipe))
    names = [name for name in sorted(there.keys() | asked.keys()) if there.get(name) != asked.get(name)]
    differences = ", ".join(
        f"{name} {there.get(name, 'not given')} (asked for: {asked.get(name, 'not given')})" for name in names
    )
    raise RecipeMismatch(
        f"A store holds the features of one recipe. {path} was made with {differences}. "
        "Give the same options, or another --store."
    )


def _spelled(recipe: Mapping[str, Any]) -> dict[str, str]:
    """Every field as JSON: there 1, 1.0 and true differ, as they do in fingerprints."""
    return {name: dump_json(value).decode() for name, value in recipe.items()}
