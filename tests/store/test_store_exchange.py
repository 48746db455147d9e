"""In and out: HDF5 and .npy folders, to and fro without a bit changed."""

import json
from functools import partial
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from store_helpers import GRID, KEY, RECIPE, contents_of, contents_told, draw_bits, draw_failure, draw_video, files_of

from actiondiff import InputError
from actiondiff.store import (
    FeatureKey,
    FeatureStore,
    RecipeMismatch,
    StoreNotWritable,
    StoreWriter,
    compact,
    export_hdf5,
)
from actiondiff.store import import_features as take_in


def same(first: FeatureStore, second: FeatureStore) -> None:
    assert contents_of(first) == contents_of(second)
    assert (first.recipe, first.notice, first.failures) == (second.recipe, second.notice, second.failures)
    for video_id in first.video_ids:
        assert first.frame_index(video_id).tobytes() == second.frame_index(video_id).tobytes()
        assert first.pts_seconds(video_id).tobytes() == second.pts_seconds(video_id).tobytes()
        assert first.source(video_id) == second.source(video_id)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "features.zarr"
    with StoreWriter(path, RECIPE, notice="Drawn.") as writer:
        for name in ("a", "lawn/straße", "c"):
            writer.add(draw_video(name))
        writer.add(draw_video("a", GRID))
        writer.add(draw_video("d", GRID[:3]))
        writer.fail(draw_failure("broken", "Zeile\n2"))
        writer.fail(draw_failure("c"))
    return path


def test_a_store_comes_back_from_hdf5_bit_for_bit(path: Path, tmp_path: Path) -> None:
    result = export_hdf5(path, tmp_path / "f.h5")
    assert (result.videos, len(result.keys)) == (4, 7)
    again = take_in(tmp_path / "f.h5", tmp_path / "again.zarr")
    assert (sorted(again.done), again.skipped, again.failed) == (["a", "c", "d", "lawn/straße"], [], [])
    same(FeatureStore(path), FeatureStore(tmp_path / "again.zarr"))


@settings(max_examples=10, deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from("abcd"), st.sampled_from([(KEY,), GRID, GRID[:2]])), max_size=6, unique_by=lambda v: v
    ),
    st.sampled_from(["float16", "float32"]),
)
def test_any_store_comes_back_from_hdf5(
    tmp_path_factory: pytest.TempPathFactory, drawn: list[tuple[str, tuple[FeatureKey, ...]]], dtype: str
) -> None:
    folder = tmp_path_factory.mktemp("exchange")
    with StoreWriter(folder / "s.zarr", RECIPE, dtype) as writer:
        for name, keys in drawn:
            writer.add(draw_video(name, keys, dtype=dtype))
            writer.fail(draw_failure(name + "x"))
    export_hdf5(folder / "s.zarr", folder / "f.h5")
    take_in(folder / "f.h5", folder / "t.zarr")
    same(FeatureStore(folder / "s.zarr"), FeatureStore(folder / "t.zarr"))


def test_importing_again_takes_in_nothing_twice(path: Path, tmp_path: Path) -> None:
    export_hdf5(path, tmp_path / "f.h5")
    take_in(tmp_path / "f.h5", tmp_path / "again.zarr")
    before = files_of(tmp_path / "again.zarr")
    result = take_in(tmp_path / "f.h5", tmp_path / "again.zarr")
    assert (result.done, len(result.skipped)) == ([], 4)
    assert files_of(tmp_path / "again.zarr") == before


def test_some_layers_and_timesteps_and_labels_are_exported(path: Path, tmp_path: Path) -> None:
    out = tmp_path / "f.h5"
    result = export_hdf5(path, out, layers=[1, 9], timesteps=[20], labels={"a": ("push", "hug")})
    assert result.keys == (FeatureKey(1, 20), KEY)
    with h5py.File(out) as file:
        names = [name.decode() for name in file["videos/video_id"]]
        assert dict(zip(names, file["videos/labels"].asstr(), strict=True))["a"] == "push;hug"
        group = file["layer_09/t_20"]
        place = [names[number] for number in group["videos"]].index("a")
        start, stop = group["row_offsets"][place : place + 2]
        assert group["features"][start:stop].tobytes() == draw_video("a").features[KEY].tobytes()
        first, last = file["videos/row_offsets"][names.index("a") : names.index("a") + 2]
        np.testing.assert_array_equal(file["rows/pts_seconds"][first:last], draw_video("a").pts_seconds)
        assert "t_05" not in file["layer_01"]


def test_nothing_is_written_over_and_nothing_half(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "f.h5"
    with pytest.raises(InputError, match="nothing of what is asked for; it has layer 1-3, t 5,20"):
        export_hdf5(path, out, layers=[5])
    with monkeypatch.context() as patches:
        patches.setattr("os.fsync", lambda descriptor: 1 // 0)
        with pytest.raises(ZeroDivisionError):
            export_hdf5(path, out)
    assert [entry.name for entry in tmp_path.iterdir()] == ["features.zarr"]
    out.write_bytes(b"mine")
    with pytest.raises(InputError, match="is there already"):
        export_hdf5(path, out)
    assert out.read_bytes() == b"mine"


def test_an_export_goes_on_where_parts_are_merged_meanwhile(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with StoreWriter(path, RECIPE) as writer:
        writer.add(draw_video("e"))
    store = FeatureStore(path)
    compact(path)
    monkeypatch.setattr("actiondiff.store.exporting.FeatureStore", lambda path: store)
    export_hdf5(path, tmp_path / "f.h5")
    take_in(tmp_path / "f.h5", tmp_path / "again.zarr")
    same(FeatureStore(path), FeatureStore(tmp_path / "again.zarr"))


@pytest.fixture
def published(tmp_path: Path) -> Path:
    """As the published code leaves it: a file a video and layer."""
    for layer in (9, 12):
        for name in ("v1", "deep/v2"):
            file = tmp_path / "npy" / f"layer_{layer}" / f"{name}_mean.npy"
            file.parent.mkdir(parents=True, exist_ok=True)
            np.save(file, draw_bits((4, 3 + layer), "float32", layer))
    return tmp_path / "npy"


def test_the_published_layout_is_taken_in_as_it_is(published: Path, tmp_path: Path) -> None:
    result = take_in(published, tmp_path / "s.zarr", 20)
    assert sorted(result.done) == ["deep/v2", "v1"]
    store = FeatureStore(tmp_path / "s.zarr")
    assert store.recipe == {"backbone": "imported", "layout": "layer_L/NAME_mean.npy", "store_dtype": "float32"}
    for layer in (9, 12):
        for name in ("v1", "deep/v2"):
            read = store.read(name, layer=layer, timestep=20)
            assert read.dtype == np.float32
            assert read.tobytes() == np.load(published / f"layer_{layer}" / f"{name}_mean.npy").tobytes()
    assert store.frame_index("v1").tolist() == [0, 1, 2, 3]
    assert np.isnan(store.pts_seconds("v1")).all()
    assert take_in(published, tmp_path / "s.zarr", 20).skipped == ["deep/v2", "v1"]
    assert take_in(published, tmp_path / "s.zarr", 5).done == ["deep/v2", "v1"]


def test_the_same_in_groups_of_hdf5(published: Path, tmp_path: Path) -> None:
    with h5py.File(tmp_path / "f.h5", "w") as file:
        for layer in (9, 12):
            file[f"layer_{layer}/deep/v2"] = np.load(published / f"layer_{layer}" / "deep/v2_mean.npy")
    assert take_in(tmp_path / "f.h5", tmp_path / "s.zarr", 20).done == ["deep/v2"]
    read = FeatureStore(tmp_path / "s.zarr").read("deep/v2", layer=12, timestep=20)
    assert read.tobytes() == np.load(published / "layer_12/deep/v2_mean.npy").tobytes()


def damage(published: Path, kind: str) -> None:
    file = published / "layer_9" / "v1_mean.npy"
    if kind == "pickle":
        np.save(file, np.array([{"code": "runs"}], object), allow_pickle=True)
    elif kind == "cut":
        file.write_bytes(file.read_bytes()[:-1])
    elif kind == "empty":
        file.write_bytes(b"")
    else:
        arrays = {
            "shape": np.zeros(3, np.float32),
            "frames": np.zeros((5, 3), np.float32),
            "integers": np.zeros((4, 3), np.int64),
            "not exact": np.full((4, 3), 0.1),
            "not finite": np.full((4, 3), np.nan, np.float32),
        }
        np.save(file, arrays[kind])


@pytest.mark.parametrize("kind", ["pickle", "cut", "empty", "shape", "frames", "integers", "not exact", "not finite"])
def test_a_faulty_file_fails_its_video_alone_and_is_noted(published: Path, tmp_path: Path, kind: str) -> None:
    damage(published, kind)
    result = take_in(published, tmp_path / "s.zarr", 20)
    assert (result.done, [failure.video_id for failure in result.failed]) == (["deep/v2"], ["v1"])
    code = "not_finite" if kind == "not finite" else "import_error"
    assert FeatureStore(tmp_path / "s.zarr").failures["v1"].code == code
    np.save(published / "layer_9" / "v1_mean.npy", np.ones((4, 12), np.float32))
    assert take_in(published, tmp_path / "s.zarr", 20).done == ["v1"]
    assert FeatureStore(tmp_path / "s.zarr").failures == {}


def test_what_is_no_source_or_lacks_its_timestep_is_refused_and_nothing_is_made(
    published: Path, tmp_path: Path
) -> None:
    (tmp_path / "text.h5").write_text("no HDF5")
    (tmp_path / "bare").mkdir()
    for source, said in (("text.h5", "cannot be read as HDF5"), ("bare", "holds no features"), ("none", "not there")):
        with pytest.raises(InputError, match=said):
            take_in(tmp_path / source, tmp_path / "s.zarr", 20)
    with pytest.raises(InputError, match="--t 20"):
        take_in(published, tmp_path / "s.zarr")
    assert not (tmp_path / "s.zarr").exists()


def test_imported_features_are_not_mixed_with_extracted_ones(path: Path, published: Path) -> None:
    with pytest.raises(RecipeMismatch):
        take_in(published, path, 20)


def test_the_commands_go_to_and_fro(path: Path, tmp_path: Path, actiondiff) -> None:
    (tmp_path / "manifest.csv").write_text("video_id,path,label\na,a.mp4,push\n")
    result = actiondiff("store", "export", "--out", "f.h5", "--manifest", "manifest.csv", "--json", cwd=tmp_path)
    assert (result.exit_code, json.loads(result.stdout)["videos"]) == (0, 4), result.stderr
    assert actiondiff("store", "export", "--out", "f.h5").exit_code == 2
    result = actiondiff("store", "import", "f.h5", "--store", "again.zarr", "--json")
    assert (result.exit_code, json.loads(result.stdout)["done"]) == (0, 4), result.stderr
    assert contents_of(FeatureStore(tmp_path / "again.zarr")) == contents_of(FeatureStore(path))
    assert contents_told([draw_video("c")]).items() <= contents_of(FeatureStore(path)).items()
    (tmp_path / "npy" / "layer_9").mkdir(parents=True)
    (tmp_path / "npy" / "layer_9" / "x_mean.npy").write_bytes(b"")
    assert actiondiff("store", "import", "npy", "--store", "new.zarr", "--t", "20").exit_code == 1


def test_a_store_that_does_not_take_a_video_is_not_the_videos_failure(
    published: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, calls = StoreWriter.commit, 0

    def full_once(self: StoreWriter) -> None:
        nonlocal calls
        calls += 1
        if calls == 1:
            raise StoreNotWritable("the disk is full")
        real(self)

    monkeypatch.setattr(StoreWriter, "commit", full_once)
    monkeypatch.setattr("actiondiff.store.importing.StoreWriter", partial(StoreWriter, part_bytes=1))
    with pytest.raises(StoreNotWritable, match="disk is full"):
        take_in(published, tmp_path / "s.zarr", 20)
    assert FeatureStore(tmp_path / "s.zarr").failures == {}
    again = take_in(published, tmp_path / "s.zarr", 20)
    assert (again.failed, len(FeatureStore(tmp_path / "s.zarr"))) == ([], 2)
