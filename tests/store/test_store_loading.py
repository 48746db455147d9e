"""Many videos at once: everything in one array, batches, few files open, and parts that go away meanwhile."""

import pickle
import shutil
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pytest
from store_helpers import GRID, KEY, RECIPE, contents_of, contents_told, draw_video, parts_of

from actiondiff.store import FeatureKey, FeatureStore, KeyNotFound, StoreWriter, VideoFeatures, VideoNotFound, open_maps
from actiondiff.store.feature_file import FeatureFile, Rows
from actiondiff.store.part import Part

LAYER_2 = FeatureKey(2, 20)


@pytest.fixture
def videos() -> list[VideoFeatures]:
    return [draw_video(f"v{index}", GRID) for index in range(6)]


@pytest.fixture
def path(tmp_path: Path, videos: list[VideoFeatures]) -> Path:
    """Three parts; the second repeats a video between others, as two writers that did the same work leave it."""
    path = tmp_path / "features.zarr"
    for part in (videos[:2], [videos[2], videos[0], videos[3]], videos[4:]):
        with StoreWriter(path, RECIPE) as writer:
            for video in part:
                writer.add(video)
    return path


def in_order(videos: list[VideoFeatures]) -> Iterator[tuple[str, bytes]]:
    return ((video.video_id, video.features[LAYER_2].tobytes()) for video in videos)


def test_everything_is_loaded_in_the_order_of_the_disk_and_each_video_once(
    path: Path, videos: list[VideoFeatures]
) -> None:
    every = FeatureStore(path).load(layer=2, timestep=20)
    assert [(video_id, array.tobytes()) for video_id, array in every.items()] == list(in_order(videos))
    assert (len(every), every.row_offsets[0], every.row_offsets[-1]) == (6, 0, len(every.features))
    assert every[-1].tobytes() == videos[-1].features[LAYER_2].tobytes()
    with pytest.raises(IndexError):
        every[6]


def test_named_videos_are_loaded_in_the_order_asked_for(path: Path, videos: list[VideoFeatures]) -> None:
    some = FeatureStore(path).load(["v4", "v0", "v4"], layer=2, timestep=20)
    assert [(video_id, array.tobytes()) for video_id, array in some.items()] == list(
        in_order([videos[4], videos[0], videos[4]])
    )


@pytest.mark.parametrize("batch_size", [1, 4, 100])
def test_batches_hold_every_video_once(path: Path, videos: list[VideoFeatures], batch_size: int) -> None:
    batches = list(FeatureStore(path).batches(layer=2, timestep=20, batch_size=batch_size))
    assert [len(batch) for batch in batches] == [min(batch_size, 6 - first) for first in range(0, 6, batch_size)]
    found = [(video_id, array.tobytes()) for batch in batches for video_id, array in batch.items()]
    assert found == list(in_order(videos))


def test_what_is_loaded_may_be_changed_without_changing_the_store(path: Path, videos: list[VideoFeatures]) -> None:
    store = FeatureStore(path)
    store.load(layer=2, timestep=20).features[:] = 0
    store.load(["v0"], layer=2, timestep=20).features[:] = 0
    assert contents_of(store) == contents_told(videos)


def test_a_key_or_video_that_is_not_there_is_told(path: Path) -> None:
    store = FeatureStore(path)
    with pytest.raises(KeyNotFound, match="no video at layer 9, t 20; it has layer 1-3, t 5,20"):
        store.load(layer=9, timestep=20)
    with pytest.raises(VideoNotFound, match="'v9'"):
        store.load(["v0", "v9"], layer=2, timestep=20)


def test_no_more_maps_are_kept_than_files_may_be_open(
    path: Path, videos: list[VideoFeatures], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(open_maps, "maps_at_most", lambda: 2)
    store = FeatureStore(path)
    for _ in range(2):
        assert contents_of(store) == contents_told(videos)
        assert len(mapped_layers(store)) <= 2
    switching = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)  # threads meet within what takes microseconds
    try:
        with ThreadPoolExecutor(8) as pool:
            for found in pool.map(contents_of, [store] * 32):
                assert found == contents_told(videos)
    finally:
        sys.setswitchinterval(switching)
    assert len(mapped_layers(store)) <= 2


def test_a_map_that_another_thread_lets_go_at_once_is_read_all_the_same(
    path: Path, videos: list[VideoFeatures]
) -> None:
    class LettingGo(dict):  # type: ignore[type-arg]
        def update(self, *args: object) -> None:
            super().update(*args)
            self.clear()

    store = FeatureStore(path)
    for part in store.parts:
        object.__setattr__(part, "mapped", LettingGo())
    assert contents_of(store) == contents_told(videos)


def test_a_map_that_is_made_while_other_threads_make_theirs_is_counted(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(open_maps, "maps_at_most", lambda: 1)
    store, views, others = FeatureStore(path), FeatureFile.views, [1, 3]

    def views_in_between(file: FeatureFile) -> dict[int, Rows]:
        found = views(file)
        if others:
            with ThreadPoolExecutor(1) as pool:
                pool.submit(store.read, "v4", layer=others.pop(), timestep=20).result()
        return found

    monkeypatch.setattr(FeatureFile, "views", views_in_between)
    store.read("v4", layer=2, timestep=20)
    assert not others
    assert len(mapped_layers(store)) == 1


def mapped_layers(store: FeatureStore) -> set[tuple[Part, int]]:
    return {(part, layer) for part in store.parts for layer, _ in part.mapped}


def test_spawned_readers_read_the_same_as_a_pickle_of_the_index(path: Path, videos: list[VideoFeatures]) -> None:
    store = FeatureStore(path)
    contents_of(store)
    assert len(pickle.dumps(store)) < 4000
    with get_context("spawn").Pool(2) as pool:
        for found in pool.map(contents_of, [store, store]):
            assert found == contents_told(videos)


@pytest.mark.parametrize("call", ["read", "load", "load some", "batches", "frame_index", "source"])
def test_a_part_that_was_dropped_since_is_looked_for_again_and_not_taken_for_damage(path: Path, call: str) -> None:
    store = FeatureStore(path)
    shutil.rmtree(parts_of(path)[0])
    calls = {
        "read": lambda: store.read("v0", layer=2, timestep=20),
        "load": lambda: store.load(layer=2, timestep=20).video_ids,
        "load some": lambda: store.load(["v0"], layer=2, timestep=20),
        "batches": lambda: list(store.batches(["v0", "v2"], layer=2, timestep=20, batch_size=2)),
        "frame_index": lambda: store.frame_index("v0"),
        "source": lambda: store.source("v0"),
    }
    calls[call]()  # the second part has the video, too
    assert store.video_ids == ("v0", "v2", "v3", "v4", "v5")
    with pytest.raises(VideoNotFound, match="'v1'"):
        store.read("v1", layer=2, timestep=20)


def test_a_mapped_part_is_read_on_after_it_was_dropped(path: Path, videos: list[VideoFeatures]) -> None:
    store = FeatureStore(path)
    first = store.read("v1", layer=2, timestep=20)
    shutil.rmtree(parts_of(path)[0])
    np.testing.assert_array_equal(store.read("v1", layer=2, timestep=20), first)


def test_other_channels_at_one_key_are_loaded_by_id_only(tmp_path: Path) -> None:
    path = tmp_path / "mixed.zarr"
    with StoreWriter(path, RECIPE) as writer:
        writer.add(draw_video("a"))
        writer.add(draw_video("b", channels=4))
    store = FeatureStore(path)
    with pytest.raises(Exception, match="differ in channels"):
        store.load(layer=KEY.layer, timestep=KEY.timestep)
    assert store.load(["b"], layer=9, timestep=20).features.shape[1] == 4
