"""Reading: a store's index is held in memory, its features stay mapped files until a video is asked for."""

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import islice, pairwise
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from jaxtyping import Float64, Int64, Shaped
from numpy import ndarray

from actiondiff.store.errors import KeyNotFound, PartGone, StoreError, VideoNotFound
from actiondiff.store.feature_file import FeatureFile, Rows, copy_rows, kind_of
from actiondiff.store.fetching import RemoteRows
from actiondiff.store.header import compression_of, read_header
from actiondiff.store.index import Index, look
from actiondiff.store.open_maps import OpenMaps
from actiondiff.store.part import Part
from actiondiff.store.places import Place, place_of
from actiondiff.store.ragged import RaggedFeatures
from actiondiff.store.records import Failure, FeatureKey, Source, spell_keys

LOADS_AT_ONCE = 8
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
        self._maps = OpenMaps()
        self.refresh()

    @property
    def name(self) -> str:
        """What to call the features in tables: the backbone, or the folder; marked where there is a notice."""
        name = str(self.recipe.get("backbone", self.path.stem))
        return f"{name} (see notice)" if self.notice else name

    def extract_command(self, layer: int | str, timestep: int | str) -> str:
        """What to type for further features in this store."""
        backbone = self.recipe.get("backbone")
        named = f" --backbone {backbone}" if backbone and backbone != "imported" else ""
        return f"actiondiff extract --layer {layer} --t {timestep} --store {self.path}{named}"

    def refresh(self) -> None:
        """Take in what writers have added since, and what was merged or dropped."""
        index = look(self.path / "parts", self._index.opened)
        if index is not None:
            self._index = index
            self._maps.keep(set(index.opened.values()))

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_index": self._index.opened, "_maps": OpenMaps()}

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
        raise KeyNotFound(
            f"{self.path} has {video_id!r}, but not at {key}; it has {spell_keys(self.keys(video_id))}. "
            f"Add it with: {self.extract_command(key.layer, key.timestep)}"
        )

    def _view(self, video_id: str, key: FeatureKey) -> np.ndarray:
        """A video's rows in the map, or unpacked or fetched from where they lie."""

        def find() -> np.ndarray:
            part, position = self._find(video_id, key)
            return self._mapped(part, key)[part.rows(position)]

        return self._steadily(find)

    def _mapped(self, part: Part, key: FeatureKey) -> Rows:
        """All of a part's rows."""
        known = part.mapped.get((key.layer, key.timestep))
        if known is None or (isinstance(known, RemoteRows) and known.local is not None):
            known = part.features(key)
            self._maps.note(part, key)
        return known

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
            raise KeyNotFound(f"{self.path} has no video at {key}; it has {spell_keys(self.keys())}.")
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
