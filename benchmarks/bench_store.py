"""How fast the store is, beside a raw memory map, .npy files, HDF5, WebDataset and plain zarr-python on the same store.

``python benchmarks/bench_store.py [--quick] [--json FILE]``; the page cache is warm, every number is the median of
several runs, and ratios are of numbers from this one run.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import h5py
import numpy as np
import zarr

from actiondiff.store import FeatureKey, FeatureStore, Source, StoreWriter, VideoFeatures

KEY = FeatureKey(9, 20)
KEYWORDS = {"layer": 9, "timestep": 20}
SOURCE = Source("0" * 64, 1, 1)
RECIPE = {"backbone": "drawn", "store_dtype": "float16"}
HDF5_CHUNK_ROWS = 32


@dataclass
class Sample:
    """Drawn videos: rows of all of them, and where each begins."""

    rows: np.ndarray
    offsets: list[int]
    order: list[int]

    @classmethod
    def draw(cls, videos: int, channels: int) -> "Sample":
        """5 to 150 frames a video, short ones more often than long ones."""
        rng = np.random.default_rng(0)
        frames = np.exp(rng.uniform(np.log(5), np.log(151), videos)).astype(int)
        offsets = [0, *np.cumsum(frames).tolist()]
        rows = np.empty((offsets[-1], channels), np.float16)
        for start in range(0, len(rows), 100_000):
            piece = rows[start : start + 100_000]
            piece[:] = rng.standard_normal(piece.shape, dtype=np.float32)
        return cls(rows, offsets, rng.permutation(videos).tolist())

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def video(self, number: int) -> np.ndarray:
        """A view of one video's rows."""
        return self.rows[self.offsets[number] : self.offsets[number + 1]]

    def features(self, number: int) -> VideoFeatures:
        """As a writer takes it."""
        frames = np.arange(self.offsets[number + 1] - self.offsets[number])
        return VideoFeatures(name_of(number), SOURCE, frames * 4, frames / 7.5, {KEY: self.video(number)})


def name_of(number: int) -> str:
    """A video's id."""
    return f"domain/label/clip_{number:07d}"


@dataclass
class Table:
    """Times of one sample, as MB/s and us/video."""

    sample: Sample
    runs: int
    seconds: dict[str, dict[str, float]] = field(default_factory=dict)

    def measure(self, layout: str, what: str, work: Callable[[], Any], runs: int | None = None, of: int = 0) -> None:
        """Median of several runs; ``of`` videos where a run takes only some of them."""
        taken = []
        for _ in range(runs or self.runs):
            begin = time.perf_counter()
            work()
            taken.append(time.perf_counter() - begin)
        share = (of or len(self.sample)) / len(self.sample)
        self.seconds.setdefault(layout, {})[what] = median(taken) / share

    def show(self, title: str) -> None:
        """Print the table."""
        mb = self.sample.rows.nbytes / 1e6
        sys.stdout.write(f"\n{title}: {len(self.sample)} videos, {mb:.0f} MB\n\n| layout | ")
        columns = ("random read", "full load", "write")
        sys.stdout.write(" | ".join(f"{what} us/video | MB/s" for what in columns) + " |\n|---|" + "---|" * 6 + "\n")
        for layout, row in self.seconds.items():
            cells = []
            for what in columns:
                took = row.get(what)
                cells += ["", ""] if took is None else [f"{took / len(self.sample) * 1e6:.1f}", f"{mb / took:.0f}"]
            sys.stdout.write(f"| {layout} | " + " | ".join(cells) + " |\n")
        sys.stdout.flush()

    def ratio(self, what: str, slower: str, faster: str = "store") -> float:
        """How many times faster one layout is than another."""
        return self.seconds[slower][what] / self.seconds[faster][what]


def bench(sample: Sample, folder: Path, runs: int, *, others: bool) -> Table:
    """All layouts on one sample, one after another; reads of the map and of the store by turns."""
    table = Table(sample, runs)
    raw, path = folder / "raw.bin", folder / "features.zarr"
    bench_writing(table, folder, raw, path)
    mapped = np.asarray(np.memmap(raw, np.float16, mode="r", shape=sample.rows.shape))
    offsets, order = sample.offsets, sample.order
    store = FeatureStore(path)
    names = [name_of(number) for number in order]

    def read_mapped() -> None:
        for number in order:
            mapped[offsets[number] : offsets[number + 1]].copy()

    def read_store() -> None:
        for name in names:
            store.read(name, **KEYWORDS)

    for work in (read_mapped, read_store, read_mapped, read_store):
        work()
    by_turns(table, "random read", {"raw memory map": read_mapped, "store": read_store})
    loads = {"raw memory map": lambda: np.fromfile(raw, np.float16), "store": lambda: store.load(**KEYWORDS)}
    by_turns(table, "full load", loads)
    table.measure("store, read_many of 16", "random read", lambda: read_in_groups(store, names))
    table.measure("store, batches of 16", "random read", lambda: list_nothing(store, names))
    if others:
        bench_npy(table, folder / "npy")
        bench_hdf5(table, folder)
        bench_webdataset(table, folder / "tar")
        bench_zarr(table, path)
    return table


def by_turns(
    table: Table, what: str, works: dict[str, Callable[[], Any]], before: Callable[[], Any] = lambda: None
) -> None:
    """So that a machine that is busy with other things is so for all, and none always comes first."""
    taken: dict[str, list[float]] = {layout: [] for layout in works}
    for turn in range(table.runs + 3):
        for layout, work in list(works.items())[:: 1 if turn % 2 else -1]:
            before()
            begin = time.perf_counter()
            work()
            taken[layout].append(time.perf_counter() - begin)
    for layout, seconds in taken.items():
        table.seconds.setdefault(layout, {})[what] = median(seconds)


def read_in_groups(store: FeatureStore, names: list[str]) -> None:
    """As a loader of batches reads."""
    for first in range(0, len(names), 16):
        store.read_many(names[first : first + 16], **KEYWORDS)


def list_nothing(store: FeatureStore, names: list[str]) -> None:
    """Every batch, and no more of it."""
    for _ in store.batches(names, **KEYWORDS, batch_size=16):
        pass


def bench_writing(table: Table, folder: Path, raw: Path, path: Path) -> None:
    """One raw file, and the store with its syncs and without."""
    videos = [table.sample.features(number) for number in range(len(table.sample))]
    fsync = os.fsync

    def write_store() -> None:
        with StoreWriter(path, RECIPE) as writer:
            for video in videos:
                writer.add(video)

    def write_store_unsynced() -> None:
        os.fsync = lambda descriptor: None
        try:
            write_store()
        finally:
            os.fsync = fsync

    def write_raw() -> None:
        with raw.open("wb") as file:
            file.write(table.sample.rows)  # type: ignore[arg-type]

    def write_raw_synced() -> None:
        with raw.open("wb") as file:
            file.write(table.sample.rows)  # type: ignore[arg-type]
            file.flush()
            fsync(file.fileno())

    works = {
        "raw memory map": write_raw,
        "raw file, synced": write_raw_synced,
        "store, not synced": write_store_unsynced,
        "store": write_store,
    }
    by_turns(table, "write", works, before=lambda: remove(raw, path))
    write_raw()


def bench_npy(table: Table, folder: Path) -> None:
    """The published code's layout: a file a video."""
    sample = table.sample

    def write() -> None:
        for number in range(len(sample)):
            np.save(folder / f"{number}_mean.npy", sample.video(number))

    def read() -> None:
        for number in sample.order:
            np.load(folder / f"{number}_mean.npy")

    by_turns(table, "write", {".npy a video": write}, before=lambda: (remove(folder), folder.mkdir()))
    table.measure(".npy a video", "random read", read)
    files = [folder / f"{number}_mean.npy" for number in range(len(sample))]
    table.measure(".npy a video", "full load", lambda: np.concatenate([np.load(file) for file in files]))


def bench_hdf5(table: Table, folder: Path) -> None:
    """One chunked dataset, and a dataset a video."""
    sample, one, many = table.sample, folder / "one.h5", folder / "many.h5"

    def write_one() -> None:
        with h5py.File(one, "w") as file:
            file.create_dataset("rows", data=sample.rows, chunks=(HDF5_CHUNK_ROWS, sample.rows.shape[1]))

    def write_many() -> None:
        with h5py.File(many, "w") as file:
            for number in range(len(sample)):
                file.create_dataset(str(number), data=sample.video(number))

    by_turns(table, "write", {"HDF5, one dataset": write_one}, before=lambda: remove(one))
    by_turns(table, "write", {"HDF5, a dataset a video": write_many}, before=lambda: remove(many))
    with h5py.File(one) as file:
        rows = file["rows"]
        table.measure(
            "HDF5, one dataset",
            "random read",
            lambda: [rows[sample.offsets[number] : sample.offsets[number + 1]] is None for number in sample.order],
        )
        table.measure("HDF5, one dataset", "full load", lambda: rows[:])
    with h5py.File(many) as file:
        table.measure(
            "HDF5, a dataset a video",
            "random read",
            lambda: [file[str(number)][:] is None for number in sample.order],
        )


def bench_webdataset(table: Table, folder: Path) -> None:
    """Tar files of .npy, 1,000 videos each, which are read one after another: there is no random read."""
    try:
        import webdataset
    except ImportError:
        sys.stderr.write("WebDataset is left out: pip install webdataset\n")
        return
    sample = table.sample

    def write() -> None:
        with webdataset.ShardWriter(str(folder / "%05d.tar"), maxcount=1000, verbose=0) as shards:
            for number in range(len(sample)):
                shards.write({"__key__": f"{number:07d}", "npy": sample.video(number)})

    def load() -> None:
        files = [str(file) for file in sorted(folder.iterdir())]
        dataset = webdataset.WebDataset(files, shardshuffle=False, empty_check=False).decode()
        np.concatenate([video["npy"] for video in dataset])

    by_turns(table, "write", {"WebDataset": write}, before=lambda: (remove(folder), folder.mkdir()))
    table.measure("WebDataset", "full load", load)


def bench_zarr(table: Table, path: Path) -> None:
    """zarr-python on the store as it lies, on some of the videos."""
    group = zarr.open_group(path / "parts", mode="r")
    places = {}
    for part_name, part in group.groups():
        del part_name
        array, offsets = part["layer_09"], part.attrs["row_offsets"]
        for position, name in enumerate(part.attrs["video_ids"]):
            places[name] = (array, offsets[position], offsets[position + 1])
    some = [name_of(number) for number in table.sample.order[:200]]

    def read() -> None:
        for name in some:
            array, start, stop = places[name]
            array[0, start:stop]

    table.measure("zarr-python on the store", "random read", read, of=len(some))
    arrays = {id(array): array for array, _, _ in places.values()}.values()
    table.measure("zarr-python on the store", "full load", lambda: [array[0] for array in arrays], runs=1)


def bench_opening(folder: Path, videos: int, per_part: int) -> dict[str, float]:
    """Time and memory of opening a store with that many videos, in a process of its own, medians of five."""
    path = folder / "wide.zarr"
    frames, features = np.arange(1), {KEY: np.zeros((1, 1), np.float16)}
    fsync = os.fsync
    os.fsync = lambda descriptor: None
    with StoreWriter(path, RECIPE) as writer:
        for number in range(videos):
            writer.add(VideoFeatures(name_of(number), SOURCE, frames, frames / 7.5, features))
            if (number + 1) % per_part == 0:
                writer.commit()
    os.fsync = fsync
    runs = [json.loads(subprocess.check_output([sys.executable, __file__, "--open", str(path)])) for _ in range(5)]
    return {name: median(run[name] for run in runs) for name in runs[0]} | {"videos": videos, "per_part": per_part}


def open_once(path: Path) -> dict[str, float]:
    """Open a store and read one video."""
    before = memory_bytes()
    begin = time.perf_counter()
    store = FeatureStore(path)
    opened = time.perf_counter()
    store.read(name_of(len(store) // 2), **KEYWORDS)
    read = time.perf_counter()
    memory_mb = (memory_bytes() - before) / 1e6
    return {"open_seconds": opened - begin, "first_read_seconds": read - opened, "memory_mb": memory_mb}


def memory_bytes() -> int:
    """What this process holds now; the peak would be the parent's, which a child inherits."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def remove(*paths: Path) -> None:
    """Files or folders, if they are there; nobody after it waits for the disk to finish with them."""
    subprocess.run(["rm", "-rf", *map(str, paths)], check=True)
    os.sync()


def main() -> None:
    """Run everything and print tables and ratios."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--quick", action="store_true", help="A tenth of everything: does it still run?")
    arguments.add_argument("--json", type=Path, help="Numbers as a file, too.")
    arguments.add_argument("--folder", type=Path, help="Where to write.  [default: a temporary folder]")
    arguments.add_argument("--open", type=Path, help=argparse.SUPPRESS)
    given = arguments.parse_args()
    if given.open:
        sys.stdout.write(json.dumps(open_once(given.open)))
        return
    scale, runs = (10, 3) if given.quick else (1, 5)
    with tempfile.TemporaryDirectory(dir=given.folder) as name:
        folder = Path(name)
        table = bench(Sample.draw(3000 // scale, 1280), folder, runs, others=True)
        table.show("Videos of 1280 float16")
        ratios = {
            "random reads: store / raw memory map (goal 0.8)": table.ratio("random read", "raw memory map"),
            "random reads: store / .npy a video (goal 3)": table.ratio("random read", ".npy a video"),
            "full load: store / one raw file (goal 0.8)": table.ratio("full load", "raw memory map"),
            "writing: store / raw file without fsync (goal 0.5)": table.ratio("write", "raw memory map"),
            "writing: store without its fsync / the same": table.ratio("write", "raw memory map", "store, not synced"),
            "writing: store / raw file with fsync": table.ratio("write", "raw file, synced"),
        }
        remove(*folder.iterdir())
        small = bench(Sample.draw(3000 // scale, 16), folder, runs, others=False)
        small.show("Small features")
        remove(*folder.iterdir())
        many = bench(Sample.draw(300_000 // scale, 16), folder, 3, others=False)
        many.show("A hundred times as many")
        per_video = [t.seconds["store"]["random read"] / len(t.sample) for t in (small, many)]
        ratios["us/video at 100 times as many videos / at few"] = per_video[1] / per_video[0]
        per_map = [t.seconds["raw memory map"]["random read"] / len(t.sample) for t in (small, many)]
        ratios["the same of the raw memory map"] = per_map[1] / per_map[0]
        remove(*folder.iterdir())
        opening = bench_opening(folder, 1_000_000 // scale, 2500)
    sys.stdout.write("\n" + "".join(f"{name}: {ratio:.2f}\n" for name, ratio in ratios.items()))
    sys.stdout.write(
        f"opening {opening['videos']} videos in parts of {opening['per_part']}: {opening['open_seconds']:.2f} s, "
        f"{opening['memory_mb']:.0f} MB; the first read {opening['first_read_seconds'] * 1e3:.1f} ms\n"
    )
    if given.json:
        tables = {"large": table.seconds, "small": small.seconds, "many": many.seconds}
        given.json.write_text(json.dumps({"seconds": tables, "ratios": ratios, "opening": opening}, indent=1))


if __name__ == "__main__":
    main()
