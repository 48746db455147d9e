import pickle

import pytest

from actiondiff import ActionDiffError
from actiondiff.manifests import (
    Video,
    VideoError,
)


@pytest.mark.parametrize(
    ("video_id", "rule"),
    [
        ("", "is empty"),
        ("/clips/a", "absolute"),
        ("C:/clips/a", "absolute"),
        ("../a", "'..'"),
        ("a/../b", "'..'"),
        ("./a", "'.'"),
        ("a//b", "empty"),
        ("a/", "empty"),
        ("a\\b", "backslash"),
        ("a\nb", "line break"),
        ("a\0b", "control character"),
        (" a", "blank"),
        ("a ", "blank"),
        ("a\udcff", "control character"),
    ],
)
def test_an_id_that_could_point_out_of_the_store_cannot_be_made(video_id: str, rule: str) -> None:
    with pytest.raises(VideoError, match=rule):
        Video(video_id, "a.mp4")


def test_a_path_may_be_absolute_or_climb_because_clips_lie_on_other_disks() -> None:
    assert Video("a", "/disk/a.mp4").path == "/disk/a.mp4"
    assert Video("b", "../disk/b.mp4").path == "../disk/b.mp4"


@pytest.mark.parametrize(
    ("start", "end"), [(-1.0, None), (2.0, 2.0), (3.0, 2.0), (None, 0.0), (float("nan"), None), (0.0, float("inf"))]
)
def test_an_interval_without_duration_cannot_be_made(start: float | None, end: float | None) -> None:
    with pytest.raises(VideoError, match="_seconds"):
        Video("a", "a.mp4", start_seconds=start, end_seconds=end)


@pytest.mark.parametrize("labels", [("a;b",), ("",), (" a",), ("a", "a"), ("a\nb",)])
def test_a_label_that_the_csv_could_not_give_back_cannot_be_made(labels: tuple[str, ...]) -> None:
    with pytest.raises(VideoError, match="label"):
        Video("a", "a.mp4", labels)


def test_a_video_tells_all_its_broken_rules_at_once() -> None:
    with pytest.raises(VideoError) as caught:
        Video("../a", "", ("x;y",), split="test ", start_seconds=-1.0, extra={"label": "z"})
    assert len(caught.value.broken) == 6
    assert isinstance(caught.value, ActionDiffError)
    assert isinstance(caught.value, ValueError)


def test_a_video_survives_pickling_and_serves_as_a_key() -> None:
    video = Video("a", "a.mp4", ("push",), extra={"weather": "rain"})
    assert pickle.loads(pickle.dumps(video)) == video  # noqa: S301 - made in the line itself
    assert {video: 1}[Video("a", "a.mp4", ("push",), extra={"weather": "rain"})] == 1


def test_extra_columns_cannot_be_changed_from_outside() -> None:
    cells = {"weather": "rain"}
    video = Video("a", "a.mp4", extra=cells)
    cells["weather"] = "sun"
    assert video.extra["weather"] == "rain"
    with pytest.raises(TypeError):
        video.extra["weather"] = "sun"  # type: ignore[index]


def test_every_column_can_be_had_as_text() -> None:
    video = Video("a", "a.mp4", ("x", "y"), domain="lawn", start_seconds=12.0, end_seconds=12.5, extra={"note": "n"})
    columns = ("video_id", "path", "label", "split", "domain", "start_seconds", "end_seconds", "note", "weather")
    assert [video.column(name) for name in columns] == ["a", "a.mp4", "x;y", "", "lawn", "12", "12.5", "n", ""]
