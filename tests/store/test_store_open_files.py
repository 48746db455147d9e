"""More parts than files may be open: everything still loads, and merging still merges."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import store_children
from store_helpers import KEY, RECIPE, contents_told, draw_video

from actiondiff.store import FeatureStore, StoreError, StoreNotReadable, StoreWriter, open_maps
from actiondiff.store.feature_file import CompressedRows

PARTS = 150


def run_child(what: str, place: str | Path) -> dict[str, Any]:
    done = subprocess.run([sys.executable, store_children.__file__, what, place], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout)


def write_many(path: str | Path, compression: str) -> None:
    with StoreWriter(path, RECIPE, compression=compression, part_bytes=1) as writer:
        for number in range(PARTS):
            writer.add(draw_video(f"v{number:03d}", frames=3))


@pytest.mark.parametrize("compression", ["none", "zstd"])
def test_more_parts_than_files_may_be_open_are_loaded_by_id_at_once_and_in_batches_and_merged(
    tmp_path: Path, compression: str
) -> None:
    write_many(tmp_path / "f.zarr", compression)
    told = run_child("load_with_few_files", tmp_path / "f.zarr")
    assert told == {"by_id": PARTS, "all": PARTS, "batches": PARTS, "again": PARTS, "parts_after": told["parts_after"]}
    assert told["parts_after"] < PARTS / 10


def test_more_parts_behind_a_url_than_files_may_be_open_are_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ACTIONDIFF_CACHE", str(tmp_path / "cache"))
    url = f"local://{tmp_path}/f.zarr"
    write_many(url, "none")
    told = run_child("load_with_few_files", url)
    assert {told["by_id"], told["all"], told["batches"], told["again"]} == {PARTS}


def test_where_files_run_out_all_the_same_the_remedy_is_told(tmp_path: Path) -> None:
    write_many(tmp_path / "f.zarr", "none")
    assert run_child("load_with_no_file_left", tmp_path / "f.zarr") == {
        "error": StoreNotReadable.__name__,
        "told": True,
    }


def test_maps_go_on_counting_after_another_look(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(open_maps, "maps_at_most", lambda: 4)
    path = tmp_path / "f.zarr"
    with StoreWriter(path, RECIPE, part_bytes=1) as writer:
        for number in range(12):
            writer.add(draw_video(f"v{number:02d}"))
        store = FeatureStore(path)
        for number in range(12):
            store.read(f"v{number:02d}", layer=9, timestep=20)
            writer.add(draw_video(f"w{number:02d}"))
            store.refresh()
            assert sum(len(part.mapped) for part in store.parts) <= 4


def test_named_videos_of_a_compressed_store_are_unpacked_into_their_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without an array of a video's own, which would then be copied once more."""
    path, videos = tmp_path / "f.zarr", [draw_video(name) for name in "abc"]
    with StoreWriter(path, RECIPE, compression="zstd") as writer:
        for video in videos:
            writer.add(video)
    monkeypatch.setattr(CompressedRows, "__getitem__", lambda self, rows: pytest.fail("made an array in between"))
    for wanted in ("cab", "bb"):
        some = FeatureStore(path).load(list(wanted), layer=9, timestep=20)
        assert some.video_ids == tuple(wanted)
        assert {(name, KEY): rows.tobytes() for name, rows in some.items()}.items() <= contents_told(videos).items()
    every = FeatureStore(path).load(layer=9, timestep=20)
    assert {(name, KEY): rows.tobytes() for name, rows in every.items()} == contents_told(videos)


def test_named_videos_of_two_kinds_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "f.zarr"
    with StoreWriter(path, RECIPE) as writer:
        writer.add(draw_video("a"))
        writer.add(draw_video("b", channels=4))
    with pytest.raises(StoreError, match="differ in channels"):
        FeatureStore(path).load(["a", "b"], layer=9, timestep=20)
    assert FeatureStore(path).load([], layer=9, timestep=20).features.dtype == np.float64
