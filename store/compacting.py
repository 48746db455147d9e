"""Compacting: small parts are merged into large ones while readers and writers go on.

A merged part names those that it takes the place of. It becomes visible in one rename, with all that they have;
only then do they go away. A reader that meets both leaves them out. So a kill at any moment loses and doubles nothing.
"""

from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from actiondiff.store.checking import OUT_OF_REACH, part_damages
from actiondiff.store.errors import StoreError, telling_why
from actiondiff.store.header import compression_of, read_header
from actiondiff.store.index import Index, look
from actiondiff.store.open_maps import maps_at_most
from actiondiff.store.part import Part, write_part
from actiondiff.store.places import Place, place_of
from actiondiff.store.records import Failure, VideoFeatures
from actiondiff.store.remote import RemotePath, clear_broken_off, index_lost
from actiondiff.store.staging import clear_staging, fsync_folder, only_one, retire
from actiondiff.store.writer import PART_BYTES


@dataclass(frozen=True)
class Compaction:
    """What :func:`compact` did.

    Attributes:
        path: the store's folder.
        parts_before: how many parts readers looked at before,
        parts_after: and how many afterwards.
        merged: for every new part the names of those that it was merged from.
        damaged: parts that were left as they are, since they are not whole: ``verify`` tells more.
    """

    path: Place
    parts_before: int
    parts_after: int
    merged: dict[str, tuple[str, ...]]
    damaged: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """As JSON values."""
        return {
            "path": str(self.path),
            "parts_before": self.parts_before,
            "parts_after": self.parts_after,
            "merged": {name: list(names) for name, names in self.merged.items()},
            "damaged": list(self.damaged),
        }

    def text(self) -> str:
        """A line or a few for people."""
        olds = sum(map(len, self.merged.values()))
        lines = [
            f"{self.path}: {self.parts_before} parts -> {self.parts_after} ({olds} merged into {len(self.merged)} new)"
        ]
        lines += [f"  {name} is damaged and was left: actiondiff store verify {self.path}" for name in self.damaged]
        return "\n".join(lines)


def compact(path: str | Place, part_bytes: int = PART_BYTES) -> Compaction:
    """Merge parts that are smaller than half of ``part_bytes`` and have the same keys, then those of the same videos.

    Readers and writers go on meanwhile. A part is checked against its checksums before it is merged: damage is never
    given a new checksum.

    Args:
        path: the store's folder.
        part_bytes: features that a merged part holds at most.

    Raises:
        StoreNotFound: nothing is there.
        StoreBusy: another process is compacting this store.
    """
    path = place_of(path)
    compression = compression_of(read_header(path))
    merged: dict[str, tuple[str, ...]] = {}
    damaged: set[str] = set()
    with telling_why(path), only_one(path):
        clear_staging(path)
        if isinstance(path, RemotePath):
            clear_broken_off(path)
            damaged |= index_lost(path)
        before = _without_left_overs(path, damaged)
        index = before
        for sorting in (_by_kind, _by_videos):
            for group in sorting(_small(index, part_bytes, damaged), part_bytes):
                whole = [part for part in group if not part_damages(path, part.folder.name)]
                damaged |= {part.folder.name for part in group if part not in whole}
                if len(whole) > 1:
                    merged[_merge(path, index, whole, compression)] = tuple(part.folder.name for part in whole)
            index = look(path / "parts", index.opened) or index
    replaced = {name for names in merged.values() for name in names}
    last = {name: names for name, names in merged.items() if name not in replaced}
    after = len(before.parts) - sum(map(len, merged.values())) + len(merged)
    return Compaction(path, len(before.parts), after, _unfolded(last, merged), tuple(sorted(damaged)))


def _unfolded(last: dict[str, tuple[str, ...]], merged: dict[str, tuple[str, ...]]) -> dict[str, tuple[str, ...]]:
    """What was merged twice, told as if it had been at once."""
    return {name: tuple(old for part in parts for old in merged.get(part, (part,))) for name, parts in last.items()}


def _without_left_overs(path: Place, damaged: set[str]) -> Index:
    """The index, after putting away what a merge that was killed had left.

    As long as the merged part is damaged these are the only good copies: they are kept, and it is added to ``damaged``.
    """
    index = look(path / "parts", {}) or Index({})
    live = {part.folder.name for part in index.parts}
    left_over = index.opened.keys() - live
    bad = {
        part.folder.name
        for part in index.parts
        if left_over & set(part.supersedes) and part_damages(path, part.folder.name)
    }
    damaged |= bad
    kept = _merged_into(index, bad)
    if left_over - kept:
        retire(path, [index.opened[name].folder for name in sorted(left_over - kept)])
    return index


def _merged_into(index: Index, names: set[str]) -> set[str]:
    """Every part that these take the place of, also by way of others."""
    found: set[str] = set()
    ahead = set(names)
    while ahead:
        ahead = {old for name in ahead if name in index.opened for old in index.opened[name].supersedes} - found
        found |= ahead
    return found


@dataclass(frozen=True)
class _Small:
    """A part that may be merged: the channels of each of its layers, the dtype, the bytes of its features."""

    part: Part
    channels: dict[int, int]
    dtype: str
    size_bytes: int


def _small(index: Index, part_bytes: int, damaged: set[str]) -> list[_Small]:
    found = []
    for part in index.parts:
        try:
            files = {layer: part.file(layer) for layer in sorted({key.layer for key in part.keys})}
        except OUT_OF_REACH:
            raise
        except (StoreError, OSError):
            damaged.add(part.folder.name)
            continue
        size_bytes = sum(int(np.prod(file.shard)) * file.dtype.itemsize for file in files.values())
        if 2 * size_bytes >= part_bytes or _differs_elsewhere(index, part):
            continue
        dtype = next((file.dtype.name for file in files.values()), "float16")
        found.append(_Small(part, {layer: file.shard[2] for layer, file in files.items()}, dtype, size_bytes))
    return found


def _by_kind(parts: Sequence[_Small], part_bytes: int) -> list[list[Part]]:
    """Parts that have the same keys and as many channels at each: their videos go behind one another."""
    kinds: dict[Any, list[_Small]] = defaultdict(list)
    for small in parts:
        kinds[small.part.keys, tuple(small.channels.items()), small.dtype].append(small)
    return [group for kind in kinds.values() for group in _groups(kind, part_bytes)]


def _by_videos(parts: Sequence[_Small], part_bytes: int) -> list[list[Part]]:
    """Parts that have the same videos: their keys go beside one another, as if they had been extracted at once."""
    kinds: dict[Any, list[_Small]] = defaultdict(list)
    channels: dict[Any, dict[int, int]] = defaultdict(dict)
    for small in parts:
        kind = frozenset(small.part.video_ids), small.dtype
        known = channels[kind]
        if small.part.video_ids and all(known.get(layer, n) == n for layer, n in small.channels.items()):
            known.update(small.channels)
            kinds[kind].append(small)
    return [group for kind in kinds.values() for group in _groups(kind, part_bytes)]


def _differs_elsewhere(index: Index, part: Part) -> bool:
    """Whether a video of the part stands in another with another source or other frames; then their order matters."""
    if not index.has_repeats:
        return False
    for position, video_id in enumerate(part.video_ids):
        own = _origin(part, position)
        if any(other is not part and _origin(other, place) != own for other, place in index.of(video_id)):
            return True
    return False


def _origin(part: Part, position: int) -> tuple[Any, ...]:
    rows = part.rows(position)
    return part.source(position), part.frame_index[rows].tobytes(), part.pts_seconds[rows].tobytes()


def _groups(parts: Sequence[_Small], part_bytes: int) -> list[list[Part]]:
    """Small parts in their order, as many together as fit and may be mapped at once."""
    groups: list[list[Part]] = []
    room = maps = -1
    for small in parts:
        if small.size_bytes > room or (maps < len(small.channels) and len(groups[-1]) > 1):
            groups.append([])
            room, maps = part_bytes, maps_at_most()
        groups[-1].append(small.part)
        room -= small.size_bytes
        maps -= len(small.channels)
    return [group for group in groups if len(group) > 1]


def _merge(path: Place, index: Index, parts: Sequence[Part], compression: str) -> str:
    videos = _videos_of(parts)
    dtypes = {array.dtype.name for video in videos.values() for array in video.features.values()}
    name = write_part(
        path,
        list(videos.values()),
        _failures(index, parts, videos.keys()),
        min(dtypes, default="float16"),
        supersedes=[part.folder.name for part in parts],
        compression=compression,
    )
    fsync_folder(path / "parts")  # a loss of power must not take the new part and leave the old ones gone
    retire(path, [part.folder for part in parts])
    for part in parts:  # the next group needs as many maps
        for key in part.keys:
            part.forget(part.unit(key))
    return name


def _videos_of(parts: Sequence[Part]) -> dict[str, VideoFeatures]:
    """Every video of the parts at all its keys, mapped."""
    videos: dict[str, VideoFeatures] = {}
    for part in parts:
        views = {key: part.features(key) for key in part.keys}
        for position, video_id in enumerate(part.video_ids):
            rows = part.rows(position)
            known = videos[video_id].features if video_id in videos else {}
            new = {key: view[rows] for key, view in views.items() if key not in known}
            if new:  # where two writers did the same work the first counts
                origin = part.source(position), part.frame_index[rows], part.pts_seconds[rows]
                videos[video_id] = VideoFeatures(video_id, *origin, {**known, **new})
    return videos


def _failures(index: Index, parts: Sequence[Part], video_ids: Collection[str]) -> list[Failure]:
    """Failures that still count, of the merged parts and of videos in them.

    The merged part comes where the last of its parts was. There its videos would take back failures that are younger
    than they are: these are noted once more. Those that were taken back already are left out.
    """
    own = {failure.video_id for part in parts for failure in part.failures}
    return [failure for video_id, failure in index.failures.items() if video_id in own or video_id in video_ids]
