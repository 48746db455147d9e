"""Out: a store, or some layers and timesteps of it, as one HDF5 file from which the same store can be made again."""

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from actiondiff import InputError
from actiondiff.store.errors import PartGone, StoreError, telling_why
from actiondiff.store.places import Place, place_of
from actiondiff.store.reader import FeatureStore
from actiondiff.store.records import FeatureKey, Source, spell_keys
from actiondiff.store.staging import temporary_folder

if TYPE_CHECKING:
    import h5py

HDF5_FORMAT = "actiondiff features 1"


@dataclass(frozen=True)
class Export:
    """What :func:`export_hdf5` wrote."""

    path: Place
    out: Place
    videos: int
    frames: int
    keys: tuple[FeatureKey, ...]
    size_bytes: int

    def to_dict(self) -> dict[str, Any]:
        """As JSON values."""
        return {**asdict(self), "path": str(self.path), "out": str(self.out)}

    def text(self) -> str:
        """A line for people."""
        return (
            f"{self.path}: {self.videos} videos, {self.frames} frames, {len(self.keys)} keys -> {self.out} "
            f"({self.size_bytes / 1e6:.1f} MB)"
        )


def export_hdf5(
    path: str | Place,
    out: str | Place,
    *,
    layers: Sequence[int] = (),
    timesteps: Sequence[int] = (),
    labels: Mapping[str, Sequence[str]] | None = None,
) -> Export:
    """Write a store as one HDF5 file, whole or not at all.

    Args:
        path: the store's folder, or its URL.
        out: the file, or its URL; it must not be there yet.
        layers: which; none means all.
        timesteps: which; none means all.
        labels: of the videos by id; those that have none here get none there.

    Raises:
        InputError: ``out`` is there, or the store has nothing of what is asked for.
    """
    out = place_of(out)
    if out.exists():
        raise InputError(f"{out} is there already. Give another --out, or delete it first.")
    store = FeatureStore(path)
    with telling_why(out, "Nothing was exported."), _beside(out) as part_file:
        while True:
            with suppress(PartGone):
                _write(store, part_file, _chosen(store, layers, timesteps), labels)
                break
            store.refresh()  # parts were merged meanwhile: all over again
        size_bytes = part_file.stat().st_size
        _publish(part_file, out)
    keys = _chosen(store, layers, timesteps)
    ids = _videos_with(store, keys)
    frames = sum(len(store.frame_index(video_id)) for video_id in ids)
    return Export(store.path, out, len(ids), frames, keys, size_bytes)


@contextmanager
def _beside(out: Place) -> Iterator[Path]:
    """Where the file is written first: beside its place, or for a URL in a temporary folder."""
    if not isinstance(out, Path):
        with temporary_folder() as here:
            yield here / out.name
        return
    part_file = out.with_name(f".{out.name}.{os.getpid()}")
    try:
        yield part_file
    finally:
        part_file.unlink(missing_ok=True)


def _publish(written: Path, out: Place) -> None:
    """Put it there in one step, and never over a file that has come there meanwhile."""
    if not isinstance(out, Path):
        out.upload(written)
        return
    try:
        os.link(written, out)
    except FileExistsError as error:
        raise InputError(f"{out} has come to be meanwhile. Give another --out.") from error
    except OSError:  # a file system without hard links
        written.replace(out)


def _chosen(store: FeatureStore, layers: Sequence[int], timesteps: Sequence[int]) -> tuple[FeatureKey, ...]:
    known = store.keys()
    keys = tuple(
        key for key in known if (not layers or key.layer in layers) and (not timesteps or key.timestep in timesteps)
    )
    if not keys and (layers or timesteps):
        raise InputError(f"{store.path} has nothing of what is asked for; it has {spell_keys(known)}.")
    return keys


def _videos_with(store: FeatureStore, keys: Sequence[FeatureKey]) -> list[str]:
    return [video_id for video_id in store.video_ids if set(keys) & set(store.keys(video_id))]


def _write(
    store: FeatureStore, file_path: Path, keys: Sequence[FeatureKey], labels: Mapping[str, Sequence[str]] | None
) -> None:
    import h5py

    ids = _videos_with(store, keys)
    numbers = {video_id: number for number, video_id in enumerate(ids)}
    with h5py.File(file_path, "w") as file:
        recipe = json.dumps(store.recipe, sort_keys=True)
        header = {"format": HDF5_FORMAT, "recipe": recipe, "fingerprint": store.fingerprint, "notice": store.notice}
        file.attrs.update(header)
        _write_videos(file, store, ids, labels)
        for key in keys:
            _write_key(file.create_group(f"layer_{key.layer:02d}/t_{key.timestep:02d}"), store, key, numbers)
        failures = file.create_group("failures")
        for name in ("video_id", "code", "message"):
            _write_texts(failures, name, [getattr(failure, name) for failure in store.failures.values()])
        file.flush()
    with file_path.open("rb") as written:
        os.fsync(written.fileno())


def _write_videos(
    file: "h5py.File", store: FeatureStore, ids: Sequence[str], labels: Mapping[str, Sequence[str]] | None
) -> None:
    frame_index = [store.frame_index(video_id) for video_id in ids]
    sources = [store.source(video_id) for video_id in ids]
    videos, rows = file.create_group("videos"), file.create_group("rows")
    _write_texts(videos, "video_id", ids)
    videos["row_offsets"] = np.cumsum([0, *map(len, frame_index)], dtype=np.int64)
    _write_texts(videos, "source_sha256", [source.sha256 for source in sources])
    stat = [(source.size_bytes, source.mtime_ns) for source in sources]
    videos["source_stat"] = np.array(stat, np.int64).reshape(-1, 2)
    videos["source_interval_seconds"] = np.array([_interval(source) for source in sources], float).reshape(-1, 2)
    if labels is not None:
        _write_texts(videos, "labels", [";".join(labels.get(video_id, ())) for video_id in ids])
    rows["frame_index"] = np.concatenate([np.zeros(0, np.int64), *frame_index])
    rows["pts_seconds"] = np.concatenate([np.zeros(0), *(store.pts_seconds(video_id) for video_id in ids)])


def _interval(source: Source) -> tuple[float, float]:
    start, end = (float("nan") if at is None else at for at in (source.start_seconds, source.end_seconds))
    return start, end


def _write_texts(group: "h5py.Group", name: str, texts: Sequence[str]) -> None:
    import h5py

    group.create_dataset(name, data=np.array(texts, object), dtype=h5py.string_dtype(), shape=(len(texts),))


def _write_key(group: "h5py.Group", store: FeatureStore, key: FeatureKey, numbers: Mapping[str, int]) -> None:
    """Part by part, so that no more than a map of each is needed."""
    lengths: list[int] = []
    ids: list[str] = []
    kinds = set()
    for part, positions in store.places_of(key):
        ids += [part.video_ids[position] for position in positions]
        lengths += [part.row_offsets[position + 1] - part.row_offsets[position] for position in positions]
        file = part.file(key.layer)
        kinds.add((file.shard[2], file.dtype))
    if len(kinds) != 1:
        raise StoreError(f"Videos at {key} differ in channels or dtype: {kinds}. They do not fit into one array.")
    [(channels, dtype)] = kinds
    group["videos"] = np.array([numbers[video_id] for video_id in ids], np.int64)
    group["row_offsets"] = np.cumsum([0, *lengths], dtype=np.int64)
    features, at = group.create_dataset("features", (sum(lengths), channels), dtype), 0
    for part, positions in store.places_of(key):
        view = part.features(key)
        runs = part.runs(positions)
        for start, stop in runs:
            features[at : at + stop - start] = view[start:stop]
            at += stop - start
        part.forget(part.unit(key))
