import pickle
from pathlib import Path

import numpy as np
import pytest
import tensorstore
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from store_helpers import GRID, KEY, RECIPE, contents_of, contents_told, draw_failure, draw_video, parts_of

from actiondiff import ActionDiffError, InputError
from actiondiff.store import (
    FeatureKey,
    FeatureStore,
    KeyNotFound,
    StoreError,
    StoreNotFound,
    StoreWriter,
    VideoFeatures,
    VideoNotFound,
    describe,
    spell_keys,
)

keys = st.sets(st.builds(FeatureKey, st.integers(1, 13), st.integers(0, 29)), min_size=1, max_size=5)


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.tuples(keys, st.lists(st.integers(1, 80), min_size=1, max_size=4)), min_size=1, max_size=3),
    st.integers(1, 4),
    st.sampled_from(["float16", "float32"]),
)
def test_layers_timesteps_parts_and_lengths_at_random_are_read_back_bit_for_bit(
    tmp_path_factory: pytest.TempPathFactory, drawn: list[tuple[set[FeatureKey], list[int]]], channels: int, dtype: str
) -> None:
    path = tmp_path_factory.mktemp("store") / "features.zarr"
    videos = [
        draw_video(f"{part}/{position}", keys, frames, channels, dtype)
        for part, (keys, lengths) in enumerate(drawn)
        for position, frames in enumerate(lengths)
    ]
    with StoreWriter(path, RECIPE, dtype) as writer:
        for video in videos:
            writer.add(video)
            if video.video_id.endswith("/1"):
                writer.commit()
    store = FeatureStore(path)
    for video in videos:
        assert store.source(video.video_id) == video.source
        assert store.frame_index(video.video_id).tobytes() == video.frame_index.tobytes()
        assert store.pts_seconds(video.video_id).tobytes() == video.pts_seconds.tobytes()
        for key, array in video.features.items():
            read = store.read(video.video_id, layer=key.layer, timestep=key.timestep)
            assert (read.dtype, read.shape, read.tobytes()) == (array.dtype, array.shape, array.tobytes())


@pytest.fixture
def videos() -> list[VideoFeatures]:
    return [draw_video(f"v{index}", GRID) for index in range(4)]


@pytest.fixture
def path(tmp_path: Path, videos: list[VideoFeatures]) -> Path:
    path = tmp_path / "features.zarr"
    with StoreWriter(path, RECIPE) as writer:
        for video in videos:
            writer.add(video)
        writer.fail(draw_failure("broken"))
    return path


def test_plain_zarr_python_reads_a_video_in_three_lines(path: Path, videos: list[VideoFeatures]) -> None:
    part = next(iter(zarr.open_group(path, mode="r")["parts"].groups()))[1]
    start, stop = part.attrs["row_offsets"][2:4]
    features = part["layer_03"][list(part["layer_03"].attrs["timesteps"]).index(20), start:stop]

    assert part.attrs["video_ids"][2] == "v2"
    assert features.tobytes() == videos[2].features[FeatureKey(3, 20)].tobytes()


def test_tensorstore_reads_the_same_values(path: Path, videos: list[VideoFeatures]) -> None:
    (part,) = parts_of(path)
    spec = {"driver": "zarr3", "kvstore": {"driver": "file", "path": f"{part}/layer_02/"}}
    array = tensorstore.open(spec, read=True).result()
    assert array.domain.labels == ("timestep", "row", "channel")
    expected = np.concatenate([video.features[FeatureKey(2, 5)] for video in videos])
    assert np.asarray(array[0].read().result()).tobytes() == expected.tobytes()


def test_every_group_and_array_of_a_store_opens_in_zarr_python_without_a_warning(
    path: Path, recwarn: pytest.WarningsRecorder
) -> None:
    members = dict(zarr.open_group(path, mode="r").members(max_depth=None))
    (part,) = parts_of(path)
    names = {name.removeprefix(f"parts/{part.name}/"): member for name, member in members.items()}
    shapes = {name: member[...].shape for name, member in names.items() if isinstance(member, zarr.Array)}
    rows = sum(1 + draw_video(f"v{i}").frame_index[-1] // 4 for i in range(4))
    assert shapes == {
        **{f"layer_{layer:02d}": (2, rows, 3) for layer in (1, 2, 3)},
        "frame_index": (rows,),
        "pts_seconds": (rows,),
        "source_sha256": (4, 32),
        "source_stat": (4, 2),
        "source_interval_seconds": (4, 2),
    }
    assert [str(warning.message) for warning in recwarn] == []


def test_many_are_read_in_the_order_asked_for_and_as_often(path: Path, videos: list[VideoFeatures]) -> None:
    read = FeatureStore(path).read_many(["v3", "v0", "v3"], layer=1, timestep=20)
    expected = [videos[index].features[FeatureKey(1, 20)] for index in (3, 0, 3)]
    assert [array.tobytes() for array in read] == [array.tobytes() for array in expected]


def test_what_is_read_may_be_changed_without_changing_the_store(path: Path) -> None:
    store = FeatureStore(path)
    before = contents_of(store)
    store.read("v0", layer=1, timestep=5)[:] = 0
    store.frame_index("v0")[:] = -1
    store.pts_seconds("v0")[:] = -1
    assert contents_of(store) == before
    assert store.frame_index("v0").min() >= 0
    assert store.pts_seconds("v0").min() >= 0


def test_the_index_tells_ids_keys_and_failures_in_order(path: Path) -> None:
    with StoreWriter(path, RECIPE) as writer:
        writer.add(draw_video("A"))
        writer.fail(draw_failure("a"))
    store = FeatureStore(str(path))
    assert store.video_ids == ("A", "v0", "v1", "v2", "v3")
    assert store.keys() == (*GRID, KEY)
    assert store.keys("v1") == GRID
    assert list(store.failures) == ["a", "broken"]
    assert (len(store), "v0" in store, "broken" in store, 7 in store) == (5, True, False, False)
    assert store.missing("nobody", [KEY]) == (KEY,)
    assert store.recipe == RECIPE


def test_a_store_that_is_not_there_is_told_with_the_remedy(tmp_path: Path) -> None:
    path = tmp_path / "none.zarr"
    with pytest.raises(StoreNotFound) as caught:
        FeatureStore(path)
    assert str(caught.value) == f"There is no store at {path}. Make one with: actiondiff extract --store {path}"
    assert isinstance(caught.value, FileNotFoundError)
    assert isinstance(caught.value, InputError)


@pytest.mark.parametrize("call", ["read", "read_many", "keys", "source", "frame_index", "pts_seconds"])
def test_a_video_that_is_not_there_is_told_and_is_a_key_error(path: Path, call: str) -> None:
    store = FeatureStore(path)
    options = {"layer": 9, "timestep": 20} if call.startswith("read") else {}
    with pytest.raises(VideoNotFound) as caught:
        getattr(store, call)(["v9"] if call == "read_many" else "v9", **options)
    assert str(caught.value) == f"{path} has no features of 'v9'; it has 4 videos."
    assert isinstance(caught.value, KeyError)
    assert isinstance(caught.value, ActionDiffError)
    assert not isinstance(caught.value, KeyNotFound)


def test_a_video_that_failed_is_told_with_why(path: Path) -> None:
    with pytest.raises(VideoNotFound, match=r"'broken' \(its extraction failed: There is no frame in it\.\)"):
        FeatureStore(path).read("broken", layer=9, timestep=20)


def test_a_key_that_is_not_there_is_told_with_what_is_and_the_remedy(path: Path) -> None:
    with pytest.raises(KeyNotFound) as caught:
        FeatureStore(path).read("v1", layer=9, timestep=20)
    assert str(caught.value) == (
        f"{path} has 'v1', but not at layer 9, t 20; it has layer 1-3, t 5,20. "
        "Add it with: actiondiff extract --layer 9 --t 20 "
        f"--store {path} --backbone svd-tiny"
    )
    assert isinstance(caught.value, (VideoNotFound, KeyError))


def test_errors_come_whole_out_of_another_process(path: Path) -> None:
    for call in (lambda: FeatureStore(path).source("v9"), lambda: FeatureStore(path.parent / "none")):
        with pytest.raises(ActionDiffError) as caught:
            call()
        assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)  # noqa: S301


def test_refresh_takes_in_what_was_written_since_and_keeps_what_was_read(path: Path) -> None:
    store = FeatureStore(path)
    before = contents_of(store)
    with StoreWriter(path, RECIPE) as writer:
        writer.add(draw_video("broken"))
        writer.commit()
        assert contents_of(store) == before
        store.refresh()
        assert contents_of(store) == before | contents_told([draw_video("broken")])
        assert store.failures == {}


def test_refresh_puts_a_part_that_was_slow_to_come_where_it_belongs(path: Path) -> None:
    with StoreWriter(path, RECIPE) as writer:
        writer.fail(draw_failure("slow"))
    slow = parts_of(path)[-1]
    slow.rename(path / slow.name)
    with StoreWriter(path, RECIPE) as writer:
        writer.add(draw_video("slow"))
    store = FeatureStore(path)
    (path / slow.name).rename(slow)
    store.refresh()
    assert store.failures == FeatureStore(path).failures == {"broken": draw_failure("broken")}
    assert [part.folder.name for part in store.parts] == [part.name for part in parts_of(path)]


def test_a_reader_goes_to_another_process_without_its_features(tmp_path: Path) -> None:
    path = tmp_path / "long.zarr"
    with StoreWriter(path, RECIPE) as writer:
        writer.add(draw_video("long", frames=20_000))
    store = FeatureStore(path)
    store.read("long", layer=9, timestep=20)
    pickled = pickle.dumps(store)
    assert len(pickled) < 2000
    assert contents_of(pickle.loads(pickled)) == contents_of(store)  # noqa: S301


def test_a_reader_looks_neither_at_staging_nor_at_strange_names(path: Path) -> None:
    before = contents_of(FeatureStore(path))
    (path / ".writing" / "part-1.host.1").mkdir(parents=True)
    (path / "parts" / ".DS_Store").touch()
    (path / "parts" / "notes").mkdir()
    assert contents_of(FeatureStore(path)) == before


def test_a_store_whose_parts_are_gone_is_damaged_and_not_empty(path: Path) -> None:
    (path / "parts").rename(path / "elsewhere")
    with pytest.raises(StoreError, match="parts is missing: the store is damaged"):
        FeatureStore(path)


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe"])
def test_a_header_that_is_no_json_is_refused_with_the_files_name(path: Path, content: bytes) -> None:
    (path / "zarr.json").write_bytes(content)
    with pytest.raises(StoreError, match=r"features\.zarr/zarr\.json cannot be read as JSON"):
        FeatureStore(path)


def test_a_header_whose_recipe_was_changed_is_refused(path: Path) -> None:
    content = (path / "zarr.json").read_bytes()
    (path / "zarr.json").write_bytes(content.replace(b'"stride":4', b'"stride":5'))
    with pytest.raises(StoreError, match="fingerprint is not the one of its recipe"):
        FeatureStore(path)


def test_a_damaged_shard_is_told_when_it_is_read_and_other_layers_are_still_read(path: Path) -> None:
    (part,) = parts_of(path)
    shard = part / "layer_02/c/0/0/0"
    shard.write_bytes(shard.read_bytes()[:-1])
    store = FeatureStore(path)
    store.read("v0", layer=1, timestep=20)
    with pytest.raises(StoreError, match="layer_02/c/0/0/0 is damaged"):
        store.read("v0", layer=2, timestep=20)


def test_layers_and_timesteps_are_told_in_few_words(path: Path) -> None:
    assert spell_keys([]) == "nothing"
    assert spell_keys([FeatureKey(9, 20)]) == str(FeatureKey(9, 20))
    grid = [FeatureKey(layer, timestep) for layer in (1, 2, 3, 7) for timestep in (0, 20)]
    assert spell_keys([FeatureKey(9, 5), *grid]) == "layer 1-3,7, t 0,20; layer 9, t 5"
    assert "\n  layer 1-3, t 5,20: " in describe(path).text()
