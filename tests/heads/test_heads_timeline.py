"""Timelines: windows, smoothing and bouts, by hand, against slow and obvious versions, and on a planted long clip."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from actiondiff import InputError
from actiondiff.heads.bouts import NONE, settled
from actiondiff.heads.fitting import fit
from actiondiff.heads.presets import FitConfig
from actiondiff.heads.runs import Run, RunError
from actiondiff.heads.timeline import (
    Bout,
    Timeline,
    TimelineSettings,
    _steps,
    _window_starts,
    predict_over_time,
    predict_timelines,
    smoothed,
)
from actiondiff.heads.timeline_files import file_names, timelines_text, write_timelines


@given(frames=st.integers(1, 60), window=st.integers(1, 20), data=st.data())
@settings(max_examples=200, deadline=None)
def test_windows_cover_every_frame_and_end_with_the_clip(frames: int, window: int, data) -> None:
    hop = data.draw(st.integers(1, window))
    starts = _window_starts(frames, window, hop)
    covered = {frame for start in starts for frame in range(start, min(start + window, frames))}
    assert covered == set(range(frames))
    assert starts[-1] == max(0, frames - window), "the last is as long as the others"
    assert (np.diff(starts) <= hop).all()


@given(frames=st.integers(1, 40), window=st.integers(1, 15), data=st.data())
@settings(max_examples=150, deadline=None)
def test_a_step_has_the_mean_of_the_windows_that_hold_it(frames: int, window: int, data) -> None:
    starts = _window_starts(frames, window, data.draw(st.integers(1, window)))
    scores = np.random.default_rng(0).random((len(starts), 2))
    edges, steps = _steps(scores, starts, window, frames)
    assert (edges[0], edges[-1]) == (0, frames)
    for first, last, found in zip(edges[:-1], edges[1:], steps, strict=True):
        for frame in range(first, last):
            holding = [
                s for start, s in zip(starts, scores, strict=True) if start <= frame < min(start + window, frames)
            ]
            np.testing.assert_allclose(found, np.mean(holding, axis=0))


def test_smoothing_is_the_mean_over_the_time_around() -> None:
    bounds, scores = np.array([0.0, 1.0, 2.0, 4.0, 5.0]), np.array([[0.0], [1.0], [0.5], [0.0]])
    at = np.arange(0, 5, 0.001) + 0.0005
    dense = scores[np.searchsorted(bounds, at, side="right") - 1, 0]
    for seconds in (0.5, 1.0, 3.0, 100.0):
        for middle, [found] in zip((0.5, 1.5, 3.0, 4.5), smoothed(scores, bounds, seconds), strict=True):
            assert found == pytest.approx(dense[np.abs(at - middle) < seconds / 2].mean(), abs=0.002)
    np.testing.assert_array_equal(smoothed(scores, bounds, 0.0), scores)


def runs(text: str, min_seconds: float) -> str:
    """Steps of one second, one letter each, a dash for no label."""
    labels = np.array([NONE if letter == "-" else ord(letter) for letter in text])
    found = ["-"] * len(text)
    for label, first, last in settled(labels, np.arange(len(text) + 1.0), float(min_seconds)):
        found[first:last] = [chr(label)] * (last - first)
    return "".join(found)


@pytest.mark.parametrize(
    ("before", "min_seconds", "after"),
    [
        ("aaaabaaaa", 2, "aaaaaaaaa"),  # a flicker inside a bout is closed
        ("aaaa-aaaa", 2, "aaaaaaaaa"),  # so is a gap
        ("aaaa--aaa", 2, "aaaa--aaa"),  # unless it lasts
        ("aaaabcccc", 2, "aaaa-cccc"),  # a stray bout between two others is dropped
        ("aaaabbcccc", 3, "aaaa--cccc"),
        ("baaaa", 2, "-aaaa"),  # at an end as well
        ("aaaab", 2, "aaaa-"),
        ("-a-a-a-a-", 2, "-aaaaaaa-"),  # a bout with many short gaps is one
        ("ab", 0, "ab"),
        ("ab", 5, "--"),
        ("---", 5, "---"),
        ("a", 1, "a"),
    ],
)
def test_runs_that_are_too_short_are_settled(before: str, min_seconds: float, after: str) -> None:
    assert runs(before, min_seconds) == after


@given(text=st.text("ab-", min_size=1, max_size=40), min_seconds=st.integers(0, 5))
@settings(max_examples=300, deadline=None)
def test_nothing_short_is_left_and_settling_again_changes_nothing(text: str, min_seconds: int) -> None:
    found = runs(text, min_seconds)
    assert runs(found, min_seconds) == found
    for letter in "ab":
        assert all(len(part) >= min_seconds for part in "".join(c if c == letter else " " for c in found).split())


@pytest.fixture
def planted(bench) -> tuple[Run, np.ndarray, np.ndarray]:
    """A head of clips of 8 to 12 frames, and a long clip: 100 frames of a, 60 of b, 90 of a, at 5 frames a second."""
    manifest = bench.manifest(bench.rows(40, ("a", "b", "c")))
    config = FitConfig(head="linear", epochs=15, lr=1e-2, warmup_epochs=1)
    run = fit(bench.of(manifest), manifest, config).run
    parts = []
    for label, frames in (("a", 100), ("b", 60), ("a", 90)):
        mean = np.zeros(8)
        mean["abc".index(label)] = 3.0
        parts.append(50 + mean + bench.rng.normal(size=(frames, 8)))
    return run, np.concatenate(parts).astype(np.float32), np.arange(250) / 5


def test_bouts_of_a_planted_clip_are_found_where_they_are(planted) -> None:
    run, features, pts = planted
    timeline = predict_over_time(run, features, pts, "long", TimelineSettings(window=8, min_seconds=2.0))
    assert [bout.label for bout in timeline.bouts] == ["a", "b", "a"]
    expected = [(0, 20), (20, 32), (32, 50)]
    for bout, (start, end) in zip(timeline.bouts, expected, strict=True):
        assert bout.start_seconds == pytest.approx(start, abs=1.0)
        assert bout.end_seconds == pytest.approx(end, abs=1.0)
        assert 0.4 < bout.score <= 1
    for one, next_one in zip(timeline.bouts, timeline.bouts[1:], strict=False):
        assert one.end_seconds == next_one.start_seconds, "one label at a time, without a gap"
    assert timeline.seconds == pytest.approx(50)


def test_windows_are_those_of_the_recipe_or_of_the_head_and_never_longer_than_it(planted) -> None:
    run, _, _ = planted
    longest = run.head.config.max_length
    assert TimelineSettings().frames(run) == (longest, longest // 2)
    assert TimelineSettings(window=4, hop=1).frames(run) == (4, 1)
    with pytest.raises(InputError, match=f"takes {longest} frames at most"):
        TimelineSettings(window=longest + 1).frames(run)


@pytest.mark.parametrize(
    "wrong",
    [{"window": 0}, {"window": 4, "hop": 5}, {"smooth_seconds": -1.0}, {"threshold": 2.0}, {"min_seconds": -1.0}],
)
def test_settings_that_cannot_be(wrong: dict[str, float]) -> None:
    with pytest.raises(InputError):
        TimelineSettings(**wrong)  # type: ignore[arg-type]


def test_a_threshold_leaves_times_without_a_label(planted) -> None:
    run, features, pts = planted
    assert predict_over_time(run, features, pts, "x", TimelineSettings(window=8, threshold=1.0)).bouts == ()


def test_several_labels_can_hold_at_once(bench) -> None:
    combinations = (("a",), ("a", "b"), ("c",), ("b", "c"))
    rows = [{**row, "labels": combinations[i % 4]} for i, row in enumerate(bench.rows(40))]
    manifest = bench.manifest(rows)
    run = fit(bench.of(manifest), manifest, FitConfig(head="linear", epochs=30, lr=1e-2)).run
    parts = []
    for labels, frames in ((("a",), 60), (("a", "b"), 60)):
        mean = np.zeros(8)
        mean[["abc".index(label) for label in labels]] = 3.0
        parts.append(50 + mean + bench.rng.normal(size=(frames, 8)))
    features = np.concatenate(parts).astype(np.float32)
    timeline = predict_over_time(run, features, np.arange(120) / 4, "x", TimelineSettings(window=6, min_seconds=3.0))
    found = {bout.label: (bout.start_seconds, bout.end_seconds) for bout in timeline.bouts}
    assert found["a"] == pytest.approx((0, 30), abs=1)
    start, end = found["b"]
    assert end == pytest.approx(30, abs=1)
    assert 5 < start < 17, "b begins at 15 s, sooner with a head that is not sure"


@pytest.mark.parametrize("frames", [1, 2, 7])
def test_clips_shorter_than_a_window(planted, frames: int) -> None:
    run, features, pts = planted
    timeline = predict_over_time(run, features[:frames], pts[:frames], "short", TimelineSettings(min_seconds=0.0))
    assert len(timeline.scores_SK) == 1
    assert [bout.label for bout in timeline.bouts] == ["a"]


def test_frames_without_times_are_refused(planted) -> None:
    run, features, _ = planted
    with pytest.raises(InputError, match="a folder of images has no clock"):
        predict_over_time(run, features, np.full(250, np.nan), "x")


def test_clips_of_a_store(planted, bench) -> None:
    run, features, _ = planted
    store = bench.store({"deep/long": features, "short": features[:9]}, "long.zarr")
    found = predict_timelines(run, store, settings=TimelineSettings(window=8))
    assert {timeline.video_id for timeline in found} == {"deep/long", "short"}
    other = bench.store({"x": features}, "other.zarr", recipe={"backbone": "other"})
    with pytest.raises(RunError):
        predict_timelines(run, other)


def test_the_files_of_timelines(planted, tmp_path: Path) -> None:
    run, features, pts = planted
    timeline = predict_over_time(run, features, pts, "deep/long", TimelineSettings(window=8))
    write_timelines([timeline], tmp_path / "out")
    names = {"deep_long.bouts.csv", "deep_long.scores.csv", "deep_long.png"}
    assert {path.name for path in (tmp_path / "out").iterdir()} == names
    rows = list(csv.DictReader((tmp_path / "out" / "deep_long.bouts.csv").open()))
    assert list(rows[0]) == ["start_seconds", "end_seconds", "label", "score"]
    assert [row["label"] for row in rows] == [bout.label for bout in timeline.bouts]
    assert float(rows[-1]["end_seconds"]) == pytest.approx(50)
    scores = list(csv.DictReader((tmp_path / "out" / "deep_long.scores.csv").open()))
    assert len(scores) == len(timeline.scores_SK)
    assert list(scores[0]) == ["start_seconds", "end_seconds", "a", "b", "c"]
    with Image.open(tmp_path / "out" / "deep_long.png") as picture:
        assert picture.size[0] == 1500
    assert json.loads(json.dumps(timeline.to_dict(), allow_nan=False))["bouts"][0]["label"] == "a"
    assert "start_seconds  end_seconds" in timelines_text([timeline])


def test_many_classes_are_drawn_by_the_most_likely(tmp_path: Path) -> None:
    names = tuple(f"class {index} with a rather long name indeed" for index in range(140))
    scores = np.random.default_rng(0).random((50, 140)) * 0.5
    bouts = (Bout(0.0, 10.0, names[139], 0.5),)
    write_timelines([Timeline("x", names, np.arange(51.0), scores, bouts, 2.0)], tmp_path / "out")
    with Image.open(tmp_path / "out" / "x.png") as picture:
        assert picture.size[1] < 2000


def test_names_of_files_are_never_the_same() -> None:
    assert file_names(["a/b", "a_b", "c"]) == ["a_b", "a_b-2", "c"]
