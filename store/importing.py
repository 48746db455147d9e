"""In: the published layout of ``layer_L/NAME_mean.npy``, the same as groups of HDF5, or a file that we exported."""

import hashlib
import json
import re
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from actiondiff import InputError
from actiondiff.store.errors import FeatureValueError, StoreNotFound
from actiondiff.store.exporting import HDF5_FORMAT
from actiondiff.store.places import Place, place_of
from actiondiff.store.reader import FeatureStore
from actiondiff.store.records import Failure, FeatureKey, Source, VideoFeatures
from actiondiff.store.writer import StoreWriter

if TYPE_CHECKING:
    import h5py

LAYER = re.compile(r"layer_(\d+)$")
FAULTY = "import_error"


@dataclass
class Import:
    """What :func:`import_features` did.

    Attributes:
        path: the store's folder.
        done: videos that were taken in.
        skipped: videos that were there already.
        failed: videos that could not be taken in; the store notes them too.
    """

    path: Place
    done: list[str] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    failed: list[Failure] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """As JSON values."""
        return {
            "store": str(self.path),
            "done": len(self.done),
            "skipped": len(self.skipped),
            "failed": [asdict(failure) for failure in self.failed],
        }

    def text(self) -> str:
        """A few lines for people."""
        head = (
            f"{self.path}: {len(self.done)} videos imported, {len(self.skipped)} were there, {len(self.failed)} failed"
        )
        return "\n".join([head, *(f"  {f.video_id} [{f.code}]: {f.message}" for f in self.failed)])


@dataclass(frozen=True)
class _Found:
    """One array that was found: told of without reading it."""

    dtype: np.dtype
    read: Callable[[], np.ndarray]
    digest: Callable[[], tuple[bytes, int, int]]


def import_features(
    source: str | Place, path: str | Place, timestep: int | None = None, compression: str | None = None
) -> Import:
    """Take features in, exactly as they are; run it again and it resumes.

    Three layouts are known: a folder of ``layer_L/NAME_mean.npy`` (what NAME has of folders stays in the id), an HDF5
    file with a dataset ``layer_L/NAME`` for every video, and HDF5 as :func:`export_hdf5` writes it, which brings its
    recipe, sources, times and failures along. Pickled arrays are never loaded.

    Args:
        source: a folder or an HDF5 file; what a URL names is fetched into a temporary folder first.
        path: the store, a folder or URL, which is made if there is none.
        timestep: of all features; an exported file tells its own.
        compression: of a new store, ``none`` or ``zstd``.

    Raises:
        InputError: ``source`` is none of these, or needs a timestep.
        RecipeMismatch: the store holds features of another recipe.
    """
    source, result = place_of(source), Import(place_of(path))
    if isinstance(source, Path):
        _import(source, result, timestep, compression)
        return result
    with tempfile.TemporaryDirectory(prefix="actiondiff-") as here:
        try:
            fetched = source.fetch(Path(here))
        except FileNotFoundError as error:
            raise InputError(f"{source} is not there.") from error
        _import(fetched, result, timestep, compression)
    return result


def _import(source: Path, result: Import, timestep: int | None, compression: str | None) -> None:
    if source.is_dir():
        _take_in(result, _in_folder(source), "layer_L/NAME_mean.npy", timestep, source, compression)
        return
    if not source.is_file():
        raise InputError(f"{source} is not there. Give a folder with layer_L/NAME_mean.npy, or an HDF5 file.")
    import h5py

    try:
        with h5py.File(source, "r") as file:
            if file.attrs.get("format") == HDF5_FORMAT:
                _take_back(result, file, compression)
            else:
                _take_in(result, _in_hdf5(source, file), "HDF5 layer_L/NAME", timestep, source, compression)
    except InputError:
        raise
    except (OSError, KeyError, TypeError, IndexError) as error:
        raise InputError(f"{source} cannot be read as HDF5 of features ({error}).") from error


def _in_folder(folder: Path) -> dict[str, dict[int, _Found | str]]:
    """Every video's arrays by layer, or what is wrong with them."""
    found: dict[str, dict[int, _Found | str]] = {}
    for entry in sorted(folder.iterdir()):
        layer = LAYER.match(entry.name)
        for file in sorted(entry.rglob("*.npy")) if layer and entry.is_dir() else ():
            name = file.relative_to(entry).with_suffix("").as_posix().removesuffix("_mean")
            try:
                dtype = np.load(file, mmap_mode="r", allow_pickle=False).dtype
                one: _Found | str = _Found(dtype, _reader(file), _digester(file))
            except (OSError, ValueError, EOFError) as error:
                one = f"{file} is no whole array ({error})"
            found.setdefault(name, {})[int(layer[1]) if layer else 0] = one
    return found


def _reader(file: Path) -> Callable[[], np.ndarray]:
    return lambda: np.load(file, allow_pickle=False)


def _digester(file: Path) -> Callable[[], tuple[bytes, int, int]]:
    def digest() -> tuple[bytes, int, int]:
        with file.open("rb") as stream:
            content = hashlib.file_digest(stream, "sha256").digest()
        stat = file.stat()
        return content, stat.st_size, stat.st_mtime_ns

    return cache(digest)


def _in_hdf5(source: Path, file: "h5py.File") -> dict[str, dict[int, _Found | str]]:
    import h5py

    found: dict[str, dict[int, _Found | str]] = {}
    digest = _digester(source)

    def visit(name: str, item: object) -> None:
        first, _, rest = name.partition("/")
        layer = LAYER.match(first)
        if layer and rest and isinstance(item, h5py.Dataset):
            one = _Found(item.dtype, lambda: item[()], digest)
            found.setdefault(rest.removesuffix("_mean"), {})[int(layer[1])] = one

    file.visititems(visit)
    return found


def _take_in(
    result: Import,
    found: Mapping[str, Mapping[int, _Found | str]],
    layout: str,
    timestep: int | None,
    source: Path,
    compression: str | None,
) -> None:
    if not found:
        raise InputError(f"{source} holds no features: there is no layer_L/NAME_mean.npy, nor a dataset layer_L/NAME.")
    if timestep is None:
        raise InputError(f"{source} does not tell the timestep of its features. Say it: --t 20")
    dtypes = {one.dtype.name for arrays in found.values() for one in arrays.values() if isinstance(one, _Found)}
    dtype = "float16" if dtypes == {"float16"} else "float32"
    recipe = {"backbone": "imported", "layout": layout, "store_dtype": dtype}
    there = _there(result.path)
    with StoreWriter(result.path, recipe, dtype, compression=compression) as writer:
        for video_id in sorted(found, key=lambda video_id: (sorted(found[video_id]), video_id)):
            arrays = found[video_id]
            keys = [FeatureKey(layer, timestep) for layer in arrays]
            if there and not there.missing(video_id, keys):
                result.skipped.append(video_id)
                continue
            try:
                video = _video(video_id, arrays, timestep, dtype)
            except (InputError, OSError, EOFError, ValueError) as error:
                _fail(result, writer, video_id, error)
                continue
            try:  # what the writer's disk says is none of the video's faults, and goes on
                writer.add(video)
            except FeatureValueError as error:
                _fail(result, writer, video_id, error)
            else:
                result.done.append(video_id)


def _fail(result: Import, writer: StoreWriter, video_id: str, error: Exception) -> None:
    try:
        failure = Failure(video_id, getattr(error, "code", FAULTY), str(error))
    except InputError as unfit:  # a name that no store may hold: nothing to note it under
        raise unfit from error
    result.failed.append(failure)
    writer.fail(failure)


def _there(path: Place) -> FeatureStore | None:
    try:
        return FeatureStore(path)
    except StoreNotFound:
        return None


def _video(video_id: str, arrays: Mapping[int, _Found | str], timestep: int, dtype: str) -> VideoFeatures:
    features, digests = {}, []
    for layer, one in sorted(arrays.items()):
        if isinstance(one, str):
            raise InputError(one)
        array = one.read()
        if array.ndim != 2 or not array.size or array.dtype.kind != "f":
            raise InputError(f"Features are (frames, channels) of floats; layer {layer} is {array.dtype}{array.shape}.")
        with np.errstate(over="ignore"):
            exact = array.astype(dtype)
        if not np.array_equal(exact, array, equal_nan=True):
            raise InputError(f"Layer {layer} is {array.dtype}, and {dtype} cannot hold its values exactly.")
        features[FeatureKey(layer, timestep)] = exact
        digests.append(one.digest())
    frames = {len(array) for array in features.values()}
    if len(frames) > 1:
        raise InputError(f"The layers of a video have as many frames each; here they have {sorted(frames)}.")
    content = hashlib.sha256(b"".join(digest for digest, _, _ in digests)).hexdigest()
    source = Source(content, sum(size for _, size, _ in digests), max(mtime for _, _, mtime in digests))
    rows = np.arange(frames.pop())
    return VideoFeatures(video_id, source, rows, np.full(len(rows), np.nan), features)


def _take_back(result: Import, file: "h5py.File", compression: str | None) -> None:
    """A file of our own: the store that it was made from, as far as it was asked for."""
    names = _texts(file["videos/video_id"])
    places: dict[str, dict[FeatureKey, tuple[h5py.Dataset, int, int]]] = {name: {} for name in names}
    for key, group in _keys_of(file):
        offsets = group["row_offsets"][()].tolist()
        for place, number in enumerate(group["videos"][()].tolist()):
            places[names[number]][key] = (group["features"], offsets[place], offsets[place + 1])
    dtypes = {group["features"].dtype.name for _, group in _keys_of(file)} or {"float16"}
    recipe, there = json.loads(file.attrs["recipe"]), _there(result.path)
    videos = dict(_videos(file, names))
    notice = file.attrs["notice"]
    with StoreWriter(result.path, recipe, max(dtypes), notice=notice, compression=compression) as writer:
        for name in sorted(names, key=lambda name: (sorted(places[name]), name)):
            if there and not there.missing(name, list(places[name])):
                result.skipped.append(name)
                continue
            features = {key: rows[start:stop] for key, (rows, start, stop) in places[name].items()}
            writer.add(VideoFeatures(name, *videos[name], features))
            result.done.append(name)
        fields = (_texts(file[f"failures/{name}"]) for name in ("video_id", "code", "message"))
        known = there.failures if there else {}
        for failure in (Failure(*values) for values in zip(*fields, strict=True)):
            if known.get(failure.video_id) != failure:
                writer.fail(failure)


def _keys_of(file: "h5py.File") -> Iterator[tuple[FeatureKey, "h5py.Group"]]:
    for layer_name, layer in file.items():
        if LAYER.match(layer_name):
            for name, group in layer.items():
                yield FeatureKey(int(layer_name.removeprefix("layer_")), int(name.removeprefix("t_"))), group


def _videos(file: "h5py.File", names: Sequence[str]) -> Iterator[tuple[str, tuple[Source, np.ndarray, np.ndarray]]]:
    """Everything that is known of a video beside its features."""
    group, rows = file["videos"], file["rows"]
    offsets, sha256, stat = group["row_offsets"][()].tolist(), _texts(group["source_sha256"]), group["source_stat"][()]
    intervals, frame_index, pts = group["source_interval_seconds"][()], rows["frame_index"][()], rows["pts_seconds"][()]
    for number, name in enumerate(names):
        start, end = (None if np.isnan(at) else float(at) for at in intervals[number])
        size_bytes, mtime_ns = stat[number].tolist()
        own = slice(offsets[number], offsets[number + 1])
        yield name, (Source(sha256[number], size_bytes, mtime_ns, start, end), frame_index[own], pts[own])


def _texts(dataset: "h5py.Dataset") -> list[str]:
    return [text.decode() for text in dataset[()]]
