"""Reading: a store's index is held in memory, its features stay mapped files until a video is asked for."""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np
from jaxtyping import Float64, Int64, Shaped

from actiondiff.store.arrays import dump_json, read_json
from actiondiff.store.errors import KeyNotFound, RecipeMismatch, StoreError, StoreNotFound, VideoNotFound
from actiondiff.store.part import Part
from actiondiff.store.records import Failure, FeatureKey, Source

FORMAT_VERSION = 1


class FeatureStore:
    """The features of one recipe, read by video id, layer and timestep.

    Sees the parts that were there when it was opened; :meth:`refresh` looks again.

    Args:
        path: the store's folder.

    Raises:
        StoreNotFound: nothing is there.
        StoreError: something is there that this version cannot read.

    Example:
        >>> FeatureStore("features.zarr").read("walk/clip3", layer=9, timestep=20).shape  # doctest: +SKIP
        (37, 1280)
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        header = read_header(self.path)
        self.recipe: dict[str, Any] = header["recipe"]
        self.fingerprint: str = header["fingerprint"]
        self.notice: str = header.get("notice", "")
        self._parts: dict[str, Part] = {}
        self._places: dict[str, list[tuple[Part, int]]] = {}
        self._failures: dict[str, Failure] = {}
        self.refresh()

    def refresh(self) -> None:
        """Take in the parts that writers have added since."""
        names = part_names(self.path / "parts")
        new = [name for name in names if name not in self._parts]
        if not new and len(names) == len(self._parts):
            return
        opened = {name: Part.open(self.path / "parts" / name) for name in new}
        parts = {name: opened.get(name) or self._parts[name] for name in names}
        # All over again, since a part's time is when its writing began: it may belong between those already known.
        places: dict[str, list[tuple[Part, int]]] = {}
        failures: dict[str, Failure] = {}
        for part in parts.values():
            for position, video_id in enumerate(part.video_ids):
                places.setdefault(video_id, []).append((part, position))
                failures.pop(video_id, None)
            failures.update({failure.video_id: failure for failure in part.failures})
        self._parts, self._places, self._failures = parts, places, failures

    @property
    def video_ids(self) -> tuple[str, ...]:
        """Every video with features, in order of id."""
        return tuple(sorted(self._places))

    @property
    def failures(self) -> dict[str, Failure]:
        """Videos whose last try failed, by id."""
        return dict(sorted(self._failures.items()))

    @property
    def parts(self) -> tuple[Part, ...]:
        """The parts, oldest first."""
        return tuple(self._parts.values())

    def keys(self, video_id: str | None = None) -> tuple[FeatureKey, ...]:
        """Layers and timesteps that the store has of this video, or of any."""
        parts = self.parts if video_id is None else [part for part, _ in self._of(video_id)]
        return tuple(sorted(set().union(*(part.keys for part in parts))))

    def __contains__(self, video_id: object) -> bool:
        return video_id in self._places

    def __len__(self) -> int:
        return len(self._places)

    def read(self, video_id: str, *, layer: int, timestep: int) -> Shaped[np.ndarray, "frames channels"]:
        """One video's features, (frames, channels), in the store's dtype.

        Raises:
            VideoNotFound: no features of this video.
            KeyNotFound: none at this layer and timestep.
        """
        part, position = self._find(video_id, FeatureKey(layer, timestep))
        return np.array(part.features(FeatureKey(layer, timestep))[part.rows(position)])

    def read_many(
        self, video_ids: Iterable[str], *, layer: int, timestep: int
    ) -> list[Shaped[np.ndarray, "_ channels"]]:
        """Features of several videos, in the order asked for; errors as :meth:`read`."""
        return [self.read(video_id, layer=layer, timestep=timestep) for video_id in video_ids]

    def frame_index(self, video_id: str) -> Int64[np.ndarray, " frames"]:
        """Index of each row's frame in the source."""
        part, position = self._of(video_id)[0]
        return np.array(part.frame_index[part.rows(position)])

    def pts_seconds(self, video_id: str) -> Float64[np.ndarray, " frames"]:
        """Presentation time of each row; NaN where the source has no clock."""
        part, position = self._of(video_id)[0]
        return np.array(part.pts_seconds[part.rows(position)])

    def source(self, video_id: str) -> Source:
        """What the video's features were made from."""
        part, position = self._of(video_id)[0]
        return part.source(position)

    def missing(self, video_id: str, keys: Sequence[FeatureKey]) -> tuple[FeatureKey, ...]:
        """Which of the keys the store does not have of this video."""
        there = set().union(*(part.keys for part, _ in self._places.get(video_id, [])))
        return tuple(sorted(set(keys) - there))

    def _of(self, video_id: str) -> list[tuple[Part, int]]:
        try:
            return self._places[video_id]
        except KeyError:
            failure = self._failures.get(video_id)
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


def read_header(path: Path) -> dict[str, Any]:
    """The store's own record: format version, recipe, fingerprint.

    Raises:
        StoreNotFound: nothing is there.
        StoreError: of another format, or damaged.
    """
    if not path.exists():
        raise StoreNotFound(f"There is no store at {path}. Make one with: actiondiff extract --store {path}")
    document = read_json(path / "zarr.json") if (path / "zarr.json").is_file() else {}
    try:
        header = document["attributes"]["actiondiff"]
        version = header["format_version"]
    except (KeyError, TypeError):
        raise StoreNotFound(f"{path} is not a feature store of actiondiff (no such record in its zarr.json).") from None
    if version != FORMAT_VERSION:
        raise StoreError(
            f"{path} has format {version}; this version of actiondiff reads format {FORMAT_VERSION}. Update actiondiff."
        )
    if header.get("crc32c", header_checksum(header)) != header_checksum(header):
        raise StoreError(f"{path / 'zarr.json'} is damaged: the checksum of its header does not match.")
    recipe = header.get("recipe")
    if not isinstance(recipe, dict) or header.get("fingerprint") != recipe_fingerprint(recipe):
        raise StoreError(f"{path / 'zarr.json'} is damaged: its fingerprint is not the one of its recipe.")
    return header


def header_checksum(header: Mapping[str, Any]) -> str:
    """CRC-32C, in hex, of a header (without its own checksum) in the store's spelling of JSON."""
    rest = {name: value for name, value in header.items() if name != "crc32c"}
    return f"{google_crc32c.value(dump_json(rest)):08x}"


def part_names(folder: Path) -> list[str]:
    """Names of the parts, oldest first; anything else in the folder is none of a reader's business."""
    try:
        return sorted(entry.name for entry in folder.iterdir() if entry.name.startswith("part-"))
    except (FileNotFoundError, NotADirectoryError) as error:
        raise StoreError(f"{folder} is missing: the store is damaged.") from error


def recipe_fingerprint(recipe: Mapping[str, Any]) -> str:
    """Hex SHA-256 of a recipe: two recipes agree exactly when their fingerprints do."""
    return hashlib.sha256(dump_json(as_json(recipe))).hexdigest()


def as_json(recipe: Mapping[str, Any]) -> dict[str, Any]:
    """As it reads from JSON, where tuples are lists and names are strings."""
    return json.loads(dump_json(dict(recipe)))


def check_recipe(path: Path, header: Mapping[str, Any], recipe: Mapping[str, Any]) -> None:
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
