"""What zstd saves and costs on real features: one store without compression and one with, from the same clips.

``python benchmarks/bench_compression.py CLIPS [--clips N] [--json FILE]`` extracts some clips of a folder with
``svd-tiny`` (random weights) and ``frame-diff``, and writes, reads and loads their features both ways. Sizes depend on
the clips alone, times on the machine; the page cache is warm, every time is the median of several turns.
"""

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import tensorstore
import zarr

from actiondiff.extract import extract, feature_keys, load_backbone
from actiondiff.manifests import Manifest, scan
from actiondiff.store import FeatureKey, FeatureStore, StoreWriter, VideoFeatures

GRIDS = {"svd-tiny": ("1-13", "0,20,29"), "frame-diff": (None, None)}
COMPRESSIONS = ("none", "zstd")
REPEATS = 40
"""How often each video is written under another name, so that times are of more than a few megabytes."""


def videos_of(store: FeatureStore, repeats: int) -> list[VideoFeatures]:
    """Everything in the store, as a writer takes it, several times under other names.

    The copies of a video are far from each other: in one chunk they would be packed as one.
    """
    found = []
    for name in store.video_ids:
        features = {key: store.read(name, layer=key.layer, timestep=key.timestep) for key in store.keys(name)}
        found.append((name, store.source(name), store.frame_index(name), store.pts_seconds(name), features))
    return [VideoFeatures(f"{name}/{turn}", *rest) for turn in range(repeats) for name, *rest in found]


def by_turns(works: dict[str, Callable[[], Any]], turns: int) -> dict[str, float]:
    """Median seconds of each; none always comes first."""
    taken: dict[str, list[float]] = {name: [] for name in works}
    for turn in range(turns):
        for name, work in list(works.items())[:: 1 if turn % 2 else -1]:
            begin = time.perf_counter()
            work()
            taken[name].append(time.perf_counter() - begin)
    return {name: median(seconds) for name, seconds in taken.items()}


def measure(extracted: FeatureStore, folder: Path, turns: int, repeats: int) -> dict[str, dict[str, float]]:
    """Size, and MB/s of writing, random reads and full loads, with each compression."""
    videos, key = videos_of(extracted, repeats), extracted.keys()[len(extracted.keys()) // 2]
    order = np.random.default_rng(0).permutation(len(videos)).tolist()
    total_mb = sum(array.nbytes for video in videos for array in video.features.values()) / 1e6
    key_mb = sum(video.features[key].nbytes for video in videos) / 1e6
    turn = 0

    def write(compression: str) -> None:
        nonlocal turn
        turn += 1
        with StoreWriter(folder / f"{turn}-{compression}", extracted.recipe, compression=compression) as writer:
            for video in videos:
                writer.add(video)

    writing = by_turns({name: lambda name=name: write(name) for name in COMPRESSIONS}, turns)
    stores = {
        name: FeatureStore(max(folder.glob(f"*-{name}"), key=lambda path: path.stat().st_mtime)) for name in writing
    }
    reading = by_turns(
        {name: lambda store=store: read(store, videos, order, key) for name, store in stores.items()}, turns
    )
    loading = by_turns(
        {
            name: lambda store=store: store.load(layer=key.layer, timestep=key.timestep)
            for name, store in stores.items()
        },
        turns,
    )
    others = {
        f"{name} by {tool}": seconds
        for name, store in stores.items()
        for tool, seconds in others_of(store, key).items()
    }
    for name, store in stores.items():
        compare(store, videos, key)
        sys.stderr.write(f"{name}: {store.path}\n")
    size_mb = {name: sum(part.size_bytes for part in store.parts) / 1e6 for name, store in stores.items()}
    rows = {
        name: {
            "size_mb": size_mb[name],
            "share": size_mb[name] / size_mb["none"],
            "write_mb_s": total_mb / writing[name],
            "read_us_video": reading[name] / len(order) * 1e6,
            "read_mb_s": key_mb / reading[name],
            "load_mb_s": key_mb / loading[name],
        }
        for name in COMPRESSIONS
    }
    return rows | {name: {"load_mb_s": key_mb / seconds} for name, seconds in others.items()}


def read(store: FeatureStore, videos: list[VideoFeatures], order: list[int], key: FeatureKey) -> None:
    """Whole videos at random."""
    for number in order:
        store.read(videos[number].video_id, layer=key.layer, timestep=key.timestep)


def compare(store: FeatureStore, videos: list[VideoFeatures], key: FeatureKey) -> None:
    """What is read is what was written."""
    for video in videos:
        found = store.read(video.video_id, layer=key.layer, timestep=key.timestep)
        if found.tobytes() != video.features[key].tobytes():
            raise AssertionError(f"{video.video_id} reads as something else.")


def others_of(store: FeatureStore, key: FeatureKey) -> dict[str, float]:
    """Seconds of a full load by zarr-python and by TensorStore, once."""
    folders = [Path(str(part.folder)) / f"layer_{key.layer:02d}" for part in store.parts]
    places = [part.file(key.layer).timesteps.index(key.timestep) for part in store.parts]

    def by_zarr() -> None:
        for folder, place in zip(folders, places, strict=True):
            zarr.open_array(folder, mode="r")[place]

    def by_tensorstore() -> None:
        for folder, place in zip(folders, places, strict=True):
            spec = {"driver": "zarr3", "kvstore": {"driver": "file", "path": f"{folder}/"}}
            tensorstore.open(spec, read=True).result()[place].read().result()

    return by_turns({"zarr-python": by_zarr, "TensorStore": by_tensorstore}, 2)


def some_of(manifest: Manifest, count: int) -> Manifest:
    """Clips from all over the manifest."""
    step = max(1, len(manifest.videos) // count)
    return manifest.subset([video.video_id for video in manifest.videos[::step][:count]])


def main() -> None:
    """Extract, measure, print."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("folder", type=Path, help="Folder of clips, as `manifest scan` takes it.")
    arguments.add_argument("--clips", type=int, default=12, help="How many clips.  [default: 12]")
    arguments.add_argument("--turns", type=int, default=5, help="How often each is measured.  [default: 5]")
    arguments.add_argument("--repeats", type=int, default=REPEATS, help=f"Copies of each video.  [default: {REPEATS}]")
    arguments.add_argument("--json", type=Path, help="Numbers as a file, too.")
    given = arguments.parse_args()
    clips = some_of(scan(given.folder), given.clips)
    results = {}
    for name, (layers, timesteps) in GRIDS.items():
        with tempfile.TemporaryDirectory() as here:
            backbone = load_backbone(name)
            extract(clips, Path(here) / "features.zarr", backbone, feature_keys(name, layers, timesteps))
            store = FeatureStore(Path(here) / "features.zarr")
            results[name] = measure(store, Path(here), given.turns, given.repeats)
            show(name, results[name], len(store))
    if given.json:
        given.json.write_text(json.dumps(results, indent=2) + "\n")


def show(name: str, rows: dict[str, dict[str, float]], videos: int) -> None:
    """Print a table."""
    columns = ("size_mb", "share", "write_mb_s", "read_us_video", "read_mb_s", "load_mb_s")
    sys.stdout.write(
        f"\n{name}, {videos} clips\n\n| store | " + " | ".join(columns) + " |\n|---|" + "---|" * len(columns) + "\n"
    )
    for layout, row in rows.items():
        cells = [f"{row[column]:.3g}" if column in row else "" for column in columns]
        sys.stdout.write(f"| {layout} | " + " | ".join(cells) + " |\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
