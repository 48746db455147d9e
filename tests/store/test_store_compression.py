"""Stores with zstd: the same features in fewer bytes, everywhere that a store goes."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorstore
import zarr
from store_helpers import GRID, KEY, RECIPE, contents_of, contents_told, draw_failure, draw_video, parts_of

from actiondiff import InputError
from actiondiff.store import (
    FeatureStore,
    Source,
    StoreError,
    StoreWriter,
    VideoFeatures,
    compact,
    describe,
    export_hdf5,
    import_features,
    verify,
)

VIDEOS = [draw_video(f"v{index}", GRID, frames=20 + 9 * index) for index in range(5)]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "features.zarr"
    for half in (VIDEOS[:3], VIDEOS[3:]):
        with StoreWriter(path, RECIPE, compression="zstd") as writer:
            for video in half:
                writer.add(video)
            writer.fail(draw_failure("broken"))
    return path


def test_the_same_is_read_as_from_an_uncompressed_store(path: Path) -> None:
    store = FeatureStore(path)
    assert store.compression == "zstd"
    assert contents_of(store) == contents_told(VIDEOS)
    for key in GRID:
        loaded = store.load(layer=key.layer, timestep=key.timestep)
        assert {(name, key): rows.tobytes() for name, rows in loaded.items()} == {
            place: content for place, content in contents_told(VIDEOS).items() if place[1] == key
        }
        for batch in store.batches(layer=key.layer, timestep=key.timestep, batch_size=2):
            for name, rows in batch.items():
                assert rows.tobytes() == contents_told(VIDEOS)[name, key]


def test_what_is_read_may_be_changed_and_has_the_stores_dtype(path: Path) -> None:
    store = FeatureStore(path)
    store.read("v1", layer=1, timestep=5)[:] = 0
    again = store.read("v1", layer=1, timestep=5)
    assert again.dtype == np.float16
    assert again.tobytes() == VIDEOS[1].features[GRID[0]].tobytes()


def test_plain_zarr_python_and_tensorstore_read_the_same(path: Path) -> None:
    for part in parts_of(path):
        group = zarr.open_group(part, mode="r")
        spec = {"driver": "zarr3", "kvstore": {"driver": "file", "path": f"{part}/layer_02/"}}
        other = np.asarray(tensorstore.open(spec, read=True).result().read().result())
        offsets = group.attrs["row_offsets"]
        for position, video_id in enumerate(group.attrs["video_ids"]):
            rows = slice(offsets[position], offsets[position + 1])
            for place, timestep in enumerate((5, 20)):
                expected = FeatureStore(path).read(video_id, layer=2, timestep=timestep)
                assert np.array_equal(group["layer_02"][place, rows], expected)
                assert np.array_equal(other[place, rows], expected)


def test_features_that_repeat_take_less_room_and_info_says_how_much(tmp_path: Path) -> None:
    rows = np.repeat(np.linspace(0, 1, 64, dtype=np.float16)[:, None], 128, axis=1)
    for name in ("none", "zstd"):
        with StoreWriter(tmp_path / name, RECIPE, compression=name) as writer:
            source = Source("0" * 64, 1, 2)
            writer.add(VideoFeatures("a", source, np.arange(64), np.zeros(64), {KEY: rows}))
    plain, packed = describe(tmp_path / "none"), describe(tmp_path / "zstd")
    assert packed.size_bytes < plain.size_bytes / 2
    assert (plain.compression, packed.compression, packed.feature_bytes) == ("none", "zstd", rows.nbytes)
    assert "compression zstd (0." in packed.text()
    assert "compression none," in plain.text()


def test_the_choice_is_made_once_and_kept_by_those_who_do_not_ask(path: Path, tmp_path: Path) -> None:
    with StoreWriter(path, RECIPE) as writer:
        writer.add(draw_video("late"))
    header = json.loads((path / "zarr.json").read_bytes())["attributes"]["actiondiff"]
    assert (header["format_version"], header["compression"]) == (2, "zstd")
    codecs = [
        json.loads(file.read_bytes())["codecs"][0]["configuration"]["codecs"][1]["name"]
        for part in parts_of(path)
        for file in part.glob("layer_*/zarr.json")
    ]
    assert codecs == ["zstd"] * 7
    with pytest.raises(InputError, match=r"has zstd \(asked for: none\)"):
        StoreWriter(path, RECIPE, compression="none")
    with pytest.raises(InputError, match="none or zstd; got 'gzip'"):
        StoreWriter(tmp_path / "other.zarr", RECIPE, compression="gzip")
    assert not (tmp_path / "other.zarr").exists()


def test_without_compression_nothing_of_it_is_said_and_the_format_stays_1(tmp_path: Path) -> None:
    StoreWriter(tmp_path / "a", RECIPE, compression="none")
    header = json.loads((tmp_path / "a/zarr.json").read_bytes())["attributes"]["actiondiff"]
    assert (header["format_version"], "compression" in header) == (1, False)


@pytest.mark.parametrize(("version", "compression"), [(2, "brotli"), (1, "zstd"), (2, "none")])
def test_a_header_that_contradicts_itself_or_is_newer_is_refused(path: Path, version: int, compression: str) -> None:
    document = json.loads((path / "zarr.json").read_bytes())
    header = document["attributes"]["actiondiff"]
    header |= {"format_version": version, "compression": compression}
    del header["crc32c"]
    (path / "zarr.json").write_text(json.dumps(document))
    with pytest.raises(StoreError, match="Update actiondiff"):
        FeatureStore(path)


def test_it_is_verified_merged_exported_and_imported_like_any(path: Path, tmp_path: Path) -> None:
    assert verify(path).good
    assert compact(path).parts_after == 1
    assert contents_of(FeatureStore(path)) == contents_told(VIDEOS)
    export_hdf5(path, tmp_path / "f.h5")
    import_features(tmp_path / "f.h5", tmp_path / "again.zarr", compression="zstd")
    assert contents_of(FeatureStore(tmp_path / "again.zarr")) == contents_told(VIDEOS)
    for part in parts_of(path):
        assert verify(path).good
        shard = part / "layer_03/c/0/0/0"
        content = shard.read_bytes()
        shard.write_bytes(content[:9] + bytes([content[9] ^ 4]) + content[10:])
        assert [(d.kind, d.layer) for d in verify(path).damages] == [("changed", 3)]


def test_threads_and_pickles_read_the_same(path: Path) -> None:
    import pickle
    from concurrent.futures import ThreadPoolExecutor

    store = FeatureStore(path)
    with ThreadPoolExecutor(8) as pool:
        for found in pool.map(contents_of, [store] * 8):
            assert found == contents_told(VIDEOS)
    assert contents_of(pickle.loads(pickle.dumps(store))) == contents_told(VIDEOS)  # noqa: S301


def test_readers_of_uncompressed_stores_do_not_load_it(tmp_path: Path) -> None:
    with StoreWriter(tmp_path / "f.zarr", RECIPE) as writer:
        writer.add(draw_video("a"))
    code = (
        f"import sys; from actiondiff.store import FeatureStore; "
        f"FeatureStore({str(tmp_path / 'f.zarr')!r}).load(layer=9, timestep=20); print('zstandard' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "False"
