"""Clips that show almost the same pictures, though encoded, scaled or cut otherwise.

Letters of a name say its axes: N clips, P pairs.
"""

# ruff: noqa: N803, N806, N815 - letters of a name say its axes

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

from actiondiff.manifests.duplicates import EXAMPLES_SHOWN, SameBytes
from actiondiff.manifests.glimpses import Glimpse
from actiondiff.manifests.likeness import alike_pairs, is_flat, prints_of
from actiondiff.manifests.manifest import Manifest
from actiondiff.manifests.video import Video

MOST_PAIRS = 10_000
"""Pairs that are named; all are counted. A camera that saw nothing for a year gives millions."""

_PAIR = np.dtype([("one_split", bool), ("distance", np.float32), ("first", np.int64), ("second", np.int64)])


@dataclass(frozen=True)
class NearPair:
    """Two clips that show almost the same pictures.

    Attributes:
        clips: their ids.
        splits: where each stands.
        distance: root mean square difference of their pictures, in deviations of the pictures; 0 is the same.
    """

    clips: tuple[str, str]
    splits: tuple[str, str]
    distance: float

    def __str__(self) -> str:
        first, second = (
            f"{name} ({split})" if split else name for name, split in zip(self.clips, self.splits, strict=True)
        )
        return f"{first} ~ {second}"


@dataclass(frozen=True)
class NearDuplicates:
    """Clips that show almost the same pictures, though encoded, scaled or cut otherwise.

    Attributes:
        pairs: those in different splits first, then the most alike; `MOST_PAIRS` at most.
        across: number of pairs in different splits.
        within: number of the other pairs.
        compared: number of clips whose pictures were compared.
        flat: number of clips that were not, because their pictures hold almost nothing.
    """

    pairs: tuple[NearPair, ...]
    across: int
    within: int
    compared: int
    flat: int

    @property
    def warnings(self) -> list[str]:
        """One sentence for pairs in different splits, one for the others."""
        told = (
            (self.across, "in different splits ", self.pairs[: self.across]),
            (self.within, "of one split ", self.pairs[self.across :]),
        )
        return [
            f"{count} pairs of clips {where}show almost the same pictures: {_listed(count, pairs)}."
            for count, where, pairs in told
            if count
        ]

    def text(self) -> str:
        """What was compared, in one line."""
        flat = f", {self.flat} not, because they show almost nothing" if self.flat else ""
        return (
            f"pictures of {self.compared} clips compared{flat}: {self.across + self.within} pairs are almost the same"
        )

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain values."""
        return {**asdict(self), "pairs": [asdict(pair) for pair in self.pairs]}


def _listed(count: int, pairs: Sequence[NearPair]) -> str:
    shown = [str(pair) for pair in pairs[:EXAMPLES_SHOWN]]
    hidden = count - len(shown)
    return ", ".join(shown) + (f" and {hidden} more" if hidden else "")


@dataclass(frozen=True)
class _Places:
    """Where clips come from, as numbers that stand for files, contents and splits."""

    file_N: Int[np.ndarray, " N"]
    content_N: Int[np.ndarray, " N"]
    split_N: Int[np.ndarray, " N"]
    start_N: Float[np.ndarray, " N"]
    end_N: Float[np.ndarray, " N"]

    @classmethod
    def of(cls, manifest: Manifest, videos: Sequence[Video], same: SameBytes) -> "_Places":
        files = [manifest.source(video).resolve() for video in videos]
        return cls(
            _numbered([str(file) for file in files]),
            _numbered([str(same.originals.get(file, file)) for file in files]),
            _numbered([video.split for video in videos]),
            np.array([video.start_seconds or 0.0 for video in videos]),
            np.array([np.inf if video.end_seconds is None else video.end_seconds for video in videos]),
        )

    def may_pair(self, first_P: Int[np.ndarray, " P"], second_P: Int[np.ndarray, " P"]) -> Bool[np.ndarray, " P"]:
        """Clips of different contents, or parts of one file that overlap."""
        overlap = (self.start_N[first_P] < self.end_N[second_P]) & (self.start_N[second_P] < self.end_N[first_P])
        one_file = self.file_N[first_P] == self.file_N[second_P]
        return np.where(one_file, overlap, self.content_N[first_P] != self.content_N[second_P])

    def one_split(self, first_P: Int[np.ndarray, " P"], second_P: Int[np.ndarray, " P"]) -> Bool[np.ndarray, " P"]:
        return self.split_N[first_P] == self.split_N[second_P]


def _numbered(names: Sequence[str]) -> Int[np.ndarray, " N"]:
    numbers = {name: number for number, name in enumerate(dict.fromkeys(names))}
    return np.array([numbers[name] for name in names], dtype=np.int64)


def near_duplicates(manifest: Manifest, looks: Mapping[str, Glimpse], same: SameBytes) -> NearDuplicates:
    """Pairs of clips that show almost the same pictures.

    Parts of one file count only where they overlap in time. Files of the same bytes are told by `same_bytes`.

    Args:
        manifest: the clips.
        looks: pictures by id; clips without are passed over.
        same: files of the manifest that hold the same bytes.
    """
    seen = {id_: look.pictures_FHW for id_, look in looks.items() if look.pictures_FHW is not None}
    clear = {id_: pictures for id_, pictures in seen.items() if not is_flat(pictures)}
    videos = [video for video in manifest if video.video_id in clear]
    counts = {True: 0, False: 0}
    best = np.empty(0, _PAIR)
    if videos:
        places = _Places.of(manifest, videos, same)
        for first_P, second_P, distance_P in alike_pairs(prints_of([clear[video.video_id] for video in videos])):
            pairs = np.empty(len(first_P), _PAIR)
            pairs["one_split"] = places.one_split(first_P, second_P)
            pairs["first"], pairs["second"], pairs["distance"] = first_P, second_P, distance_P
            pairs = pairs[places.may_pair(first_P, second_P)]
            counts[True] += int(pairs["one_split"].sum())
            counts[False] += int((~pairs["one_split"]).sum())
            best = _first(np.concatenate([best, pairs]))
    return NearDuplicates(
        tuple(_pair(videos[pair["first"]], videos[pair["second"]], float(pair["distance"])) for pair in best),
        across=counts[False],
        within=counts[True],
        compared=len(clear),
        flat=len(seen) - len(clear),
    )


def _first(pairs: np.ndarray) -> np.ndarray:
    return pairs[np.lexsort((pairs["distance"], pairs["one_split"]))[:MOST_PAIRS]]


def _pair(first: Video, second: Video, distance: float) -> NearPair:
    return NearPair((first.video_id, second.video_id), (first.split, second.split), round(distance, 4))
