import dataclasses
import json
import pickle
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from jaxtyping import TypeCheckError
from store_helpers import GRID, KEY, RECIPE, contents_of, contents_told, draw_failure, draw_video, files_of, parts_of

from actiondiff import ActionDiffError, InputError
from actiondiff.store import (
    Failure,
    FeatureKey,
    FeatureStore,
    FeatureValueError,
    RecipeMismatch,
    Source,
    StoreError,
    StoreNotFound,
    StoreWriter,
    VideoFeatures,
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "features.zarr"


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_videos_are_read_back_bit_for_bit_before_and_after_the_writer_is_left(path: Path, dtype: str) -> None:
    videos = [draw_video(f"domain/v{i}", GRID, dtype=dtype) for i in range(5)]
    with StoreWriter(path, RECIPE, dtype) as writer:
        for video in videos[:3]:
            writer.add(video)
        writer.commit()
        assert contents_of(FeatureStore(path)) == contents_told(videos[:3], dtype)
        for video in videos[3:]:
            writer.add(video)
    store = FeatureStore(path)
    assert contents_of(store) == contents_told(videos, dtype)
    assert store.read("domain/v0", layer=1, timestep=5).dtype == dtype
    assert len(parts_of(path)) == 2


def test_values_are_rounded_to_the_stores_dtype(path: Path) -> None:
    video = draw_video("a", dtype="float32")
    values = np.linspace(-60000, 60000, video.features[KEY].size, dtype=np.float32).reshape(video.features[KEY].shape)
    with StoreWriter(path, RECIPE, "float16") as writer:
        writer.add(VideoFeatures("a", video.source, video.frame_index, video.pts_seconds, {KEY: values}))
        values[:] = 0  # the writer has its own by now
    read = FeatureStore(path).read("a", layer=9, timestep=20)
    assert read.dtype == np.float16
    np.testing.assert_allclose(read.ravel(), np.linspace(-60000, 60000, read.size), rtol=5e-4)


def test_an_error_in_the_block_still_keeps_the_whole_videos(path: Path) -> None:
    def add_and_stop() -> None:
        with StoreWriter(path, RECIPE) as writer:
            writer.add(draw_video("a"))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        add_and_stop()
    assert FeatureStore(path).video_ids == ("a",)


def test_a_writer_that_was_given_nothing_leaves_an_empty_store(path: Path) -> None:
    with StoreWriter(path, RECIPE):
        pass
    store = FeatureStore(path)
    assert (len(store), store.keys(), store.failures, parts_of(path)) == (0, (), {}, [])


def test_a_part_is_written_when_it_is_full(path: Path) -> None:
    with StoreWriter(path, RECIPE, part_bytes=10 * 3 * 2) as writer:
        writer.add(draw_video("a", frames=9))
        assert parts_of(path) == []
        writer.add(draw_video("b", frames=1))
        assert len(parts_of(path)) == 1


def test_a_part_is_written_when_its_first_video_is_old(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    with StoreWriter(path, RECIPE, part_seconds=60.0) as writer:
        now += 100  # the clock starts with the first video
        writer.add(draw_video("a"))
        now += 59
        writer.add(draw_video("b"))
        assert parts_of(path) == []
        now += 1
        writer.fail(draw_failure("c"))
        assert len(parts_of(path)) == 1


@pytest.mark.parametrize(
    "other",
    [draw_video("b", GRID), draw_video("b", (*GRID, KEY)), draw_video("b", channels=4)],
    ids=["keys", "more", "channels"],
)
def test_a_video_with_other_keys_or_channels_closes_the_part(path: Path, other: VideoFeatures) -> None:
    videos = [draw_video("a"), other, draw_video("c")]
    with StoreWriter(path, RECIPE) as writer:
        for video in videos:
            writer.add(video)
    assert len(parts_of(path)) == 3
    assert contents_of(FeatureStore(path)) == contents_told(videos)


def test_keys_that_are_added_later_stand_in_further_parts_beside_the_first(path: Path) -> None:
    with StoreWriter(path, RECIPE) as writer:
        writer.add(draw_video("a"))
    first = files_of(path)
    with StoreWriter(path, RECIPE) as writer:
        writer.add(draw_video("a", GRID))
    store = FeatureStore(path)
    assert store.keys("a") == (*GRID, KEY)
    assert store.missing("a", [KEY, FeatureKey(4, 20), *GRID]) == (FeatureKey(4, 20),)
    assert contents_of(store) == contents_told([draw_video("a", (*GRID, KEY))])
    assert first.items() <= files_of(path).items()


@pytest.mark.parametrize(
    ("bad", "code", "message"),
    [
        (np.nan, "not_finite", "'bad' has NaN or infinity at layer 9, t 20"),
        (-np.inf, "not_finite", "'bad' has NaN or infinity"),
        (70000.0, "overflow", "float16 holds values up to 65504; 'bad' reaches 70000 at layer 9, t 20"),
        (-70000.0, "overflow", "--store-dtype float32"),
    ],
)
def test_values_that_cannot_be_stored_are_refused_before_anything_is_written_and_the_videos_before_stay(
    path: Path, bad: float, code: str, message: str
) -> None:
    video = draw_video("bad", frames=9, dtype="float32")
    values = np.zeros((9, 3), np.float32)
    values[7, 1] = bad
    with StoreWriter(path, RECIPE) as writer:
        writer.add(draw_video("a"))
        before = files_of(path)
        with pytest.raises(FeatureValueError, match=message) as caught:
            writer.add(VideoFeatures("bad", video.source, video.frame_index, video.pts_seconds, {KEY: values}))
        assert caught.value.code == code
        assert isinstance(caught.value, (ActionDiffError, ValueError))
        assert files_of(path) == before
        writer.add(draw_video("b"))
    assert contents_of(FeatureStore(path)) == contents_told([draw_video("a"), draw_video("b")])
    assert len(parts_of(path)) == 1


def test_a_value_error_comes_whole_out_of_another_process() -> None:
    error = pickle.loads(pickle.dumps(FeatureValueError("overflow", "Too large.")))  # noqa: S301
    assert (error.code, str(error)) == ("overflow", "Too large.")


def test_float32_stores_what_float16_cannot(path: Path) -> None:
    video = draw_video("a", dtype="float32")
    with StoreWriter(path, RECIPE, "float32") as writer:
        writer.add(video)
    assert contents_of(FeatureStore(path)) == contents_told([video], "float32")


def test_the_last_outcome_of_a_video_counts(path: Path) -> None:
    with StoreWriter(path, RECIPE) as writer:
        writer.fail(draw_failure("mended in one part"))
        writer.add(draw_video("mended in one part"))
        writer.add(draw_video("then failed in one part"))
        writer.fail(draw_failure("then failed in one part"))
        writer.fail(draw_failure("mended later"))
        writer.fail(draw_failure("told twice", "first"))
        writer.fail(draw_failure("told twice", "second"))
        writer.commit()
        writer.add(draw_video("mended later"))
    assert {name: failure.message for name, failure in FeatureStore(path).failures.items()} == {
        "then failed in one part": "There is no frame in it.",
        "told twice": "second",
    }


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        (RECIPE | {"stride": 8}, "made with stride 4 (asked for: 8)."),
        (RECIPE | {"stride": 4.0}, "made with stride 4 (asked for: 4.0)."),
        (RECIPE | {"noise": None}, "made with noise not given (asked for: null)."),
        (
            {name: value for name, value in RECIPE.items() if name != "stride"} | {"backbone": "svd"},
            'made with backbone "svd-tiny" (asked for: "svd"), stride 4 (asked for: not given).',
        ),
    ],
)
def test_another_recipe_is_refused_naming_the_fields_that_differ_and_the_store_stays(
    path: Path, asked: dict[str, object], message: str
) -> None:
    with StoreWriter(path, RECIPE) as writer:
        writer.add(draw_video("a"))
    before = files_of(path)
    with pytest.raises(RecipeMismatch) as caught:
        StoreWriter(path, asked)
    assert message in str(caught.value)
    assert str(path) in str(caught.value)
    assert isinstance(caught.value, InputError)
    assert files_of(path) == before


def test_a_recipe_may_be_given_with_tuples_and_in_any_order(path: Path) -> None:
    StoreWriter(path, RECIPE)
    StoreWriter(path, dict(reversed((RECIPE | {"size_hw": (128, 192)}).items())))
    assert FeatureStore(path).recipe == RECIPE


def test_a_store_of_a_newer_format_is_refused_by_reader_and_writer_and_stays(path: Path) -> None:
    StoreWriter(path, RECIPE)
    document = json.loads((path / "zarr.json").read_bytes())
    document["attributes"]["actiondiff"] = {"format_version": 3, "anything": "else"}
    (path / "zarr.json").write_text(json.dumps(document))
    before = files_of(path)
    with pytest.raises(StoreError, match="has format 3; this version of actiondiff reads format 1 and 2"):
        FeatureStore(path)
    with pytest.raises(StoreError, match="Update actiondiff"):
        StoreWriter(path, RECIPE)
    assert files_of(path) == before


def make_folder_of_clips(path: Path) -> None:
    (path / "push").mkdir(parents=True)
    (path / "push" / "clip.mp4").write_bytes(b"x")


def make_folder_with_parts(path: Path) -> None:
    (path / "parts").mkdir(parents=True)
    (path / "parts" / "gearbox.step").touch()


def make_headless_store(path: Path) -> None:
    with StoreWriter(path, RECIPE) as writer:
        writer.add(draw_video("a"))
    (path / "zarr.json").unlink()


def make_other_zarr(path: Path) -> None:
    path.mkdir()
    (path / "zarr.json").write_text('{"zarr_format":3,"node_type":"group","attributes":{"other":1}}')


@pytest.mark.parametrize(
    "make",
    [
        lambda path: path.write_text("notes"),
        make_folder_of_clips,
        make_folder_with_parts,
        make_headless_store,
        make_other_zarr,
    ],
    ids=["file", "clips", "parts", "headless", "other zarr"],
)
def test_what_is_no_store_is_refused_by_reader_and_writer_and_untouched(
    path: Path, make: Callable[[Path], None]
) -> None:
    make(path)
    before = path.read_bytes() if path.is_file() else files_of(path)
    with pytest.raises((InputError, StoreNotFound)) as caught:
        StoreWriter(path, RECIPE)
    assert str(path) in str(caught.value)
    with pytest.raises(StoreNotFound, match="is not a feature store of actiondiff"):
        FeatureStore(path)
    assert (path.read_bytes() if path.is_file() else files_of(path)) == before


def test_a_place_below_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("notes")
    with pytest.raises(InputError, match="A store is a folder of its own"):
        StoreWriter(tmp_path / "notes.txt" / "features.zarr", RECIPE)


def test_an_empty_folder_and_one_where_a_creation_was_killed_become_stores(tmp_path: Path) -> None:
    for name, folders in (("empty", ()), ("begun", ("parts",)), ("staged", ("parts", ".writing/new-1.elsewhere.1"))):
        (tmp_path / name).mkdir()
        for folder in folders:
            (tmp_path / name / folder).mkdir(parents=True)
        with StoreWriter(tmp_path / name, RECIPE) as writer:
            writer.add(draw_video("a"))
        assert FeatureStore(tmp_path / name).video_ids == ("a",)


def test_a_store_can_be_made_where_there_are_no_hard_links(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def link(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr("os.link", link)
    with StoreWriter(path, RECIPE) as writer:
        writer.add(draw_video("a"))
    assert contents_of(FeatureStore(path)) == contents_told([draw_video("a")])


def test_a_dtype_that_no_store_has_is_refused_before_anything_is_made(path: Path) -> None:
    with pytest.raises(InputError, match="float16 or float32; got 'bfloat16'"):
        StoreWriter(path, RECIPE, "bfloat16")
    assert not path.exists()


@pytest.mark.parametrize("video_id", ["", "/a", "../a", "a/../../b", "a\\b", "a\nb", "a\0", "\udce9", "a\u2028b"])
def test_ids_that_no_file_name_could_carry_are_refused(video_id: str) -> None:
    for record in (draw_failure("a"), draw_video("a")):
        with pytest.raises(InputError, match="A video id is a relative name"):
            dataclasses.replace(record, video_id=video_id)


@pytest.mark.parametrize("video_id", ["a", "a/b/c.mp4", "..a", "日本語　空白", "👩‍🔬", "a b", "\xa0"])
def test_ids_in_any_script_are_kept_as_they_are(path: Path, video_id: str) -> None:
    with StoreWriter(path, RECIPE) as writer:
        writer.add(draw_video(video_id))
    assert FeatureStore(path).video_ids == (video_id,)


@pytest.mark.parametrize(
    ("frames", "pts", "features", "message"),
    [
        (np.arange(0), np.zeros(0), {KEY: np.zeros((0, 3))}, "at least one frame and one key"),
        (np.arange(2), np.zeros(2), {}, "at least one frame and one key"),
        (np.arange(2), np.zeros(3), {KEY: np.zeros((2, 3))}, "as many rows"),
        (np.arange(2), np.zeros(2), {KEY: np.zeros((3, 3))}, "as many rows"),
        (np.arange(2), np.zeros(2), {KEY: np.zeros((2, 3, 1))}, "as many rows"),
        (np.arange(2), np.zeros(2), {KEY: np.zeros((2, 0))}, "one number of channels, at least 1"),
        (np.arange(2), np.zeros(2), {KEY: np.zeros((2, 3)), FeatureKey(9, 5): np.zeros((2, 4))}, "number of channels"),
        (np.arange(2, dtype=np.int32), np.zeros(2), {KEY: np.zeros((2, 3))}, "int64 and times float64"),
    ],
)
def test_arrays_that_do_not_fit_together_cannot_be_made_a_video(
    frames: np.ndarray, pts: np.ndarray, features: dict[FeatureKey, np.ndarray], message: str
) -> None:
    with pytest.raises((InputError, TypeCheckError)) as caught:  # annotations are checked while testing only
        VideoFeatures("a", Source("0" * 64, 1, 2), frames, pts, features)
    if isinstance(caught.value, InputError):
        assert message in str(caught.value)


def test_keys_and_sources_that_cannot_be_are_refused() -> None:
    with pytest.raises(InputError, match="Layers count from 1"):
        FeatureKey(0, 20)
    with pytest.raises(InputError, match="64 lower-case hex digits"):
        Source("0" * 63 + "G", 1, 2)
    with pytest.raises(InputError, match="A video id"):
        Failure("../up", "code", "message")


def test_what_is_old_is_written_while_the_next_video_still_runs(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    with StoreWriter(path, RECIPE, part_seconds=60.0) as writer:
        now += 100
        writer.commit_if_due()  # there is nothing to write
        writer.add(draw_video("a"))
        now += 59
        writer.commit_if_due()
        assert parts_of(path) == []
        now += 1
        writer.commit_if_due()
        assert FeatureStore(path).video_ids == ("a",)
        writer.commit_if_due()
    assert len(parts_of(path)) == 1


def test_videos_that_threads_add_while_others_commit_are_written_once(path: Path) -> None:
    with StoreWriter(path, RECIPE, part_seconds=0.0005) as writer, ThreadPoolExecutor(4) as pool:
        adding = [
            pool.submit(lambda n=n: [writer.add(draw_video(f"{n}/{i}", frames=2)) for i in range(25)]) for n in range(2)
        ]
        committing = [pool.submit(lambda: [writer.commit_if_due() for _ in range(200)]) for _ in range(2)]
        for done in (*adding, *committing):
            done.result()
    store = FeatureStore(path)
    assert contents_of(store) == contents_told([draw_video(f"{n}/{i}", frames=2) for n in range(2) for i in range(25)])
    assert sum(len(part.video_ids) for part in store.parts) == 50
