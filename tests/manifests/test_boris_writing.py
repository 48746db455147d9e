"""A BORIS project that this package writes: read back exactly, and of the form that BORIS asks for."""

import json
from pathlib import Path

import pytest
from fakes import draw_frames
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from actiondiff import InputError
from actiondiff.manifests import CodedBout, boris, write_boris, write_video
from actiondiff.manifests.boris_writing import media_info


@pytest.fixture(scope="module")
def videos(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("videos")
    for name, frames in (("one", 100), ("two", 50)):
        write_video(folder / f"{name}.mp4", draw_frames(frames, seed=len(name)), 10)
    return folder


def read_back(path: Path, videos: Path) -> list[tuple[str, str, float | None, float | None]]:
    return [
        (v.path.split("/")[-1], v.labels[0], v.start_seconds, v.end_seconds) for v in boris([path], videos).manifest
    ]


def test_bouts_are_read_back_exactly(videos: Path, tmp_path: Path) -> None:
    bouts = {
        videos / "one.mp4": [
            CodedBout(0.0, 2.5, "groom", "score 0.912"),
            CodedBout(2.5, 4.125, "feed"),
            CodedBout(4.125, 9.999, "groom"),
        ],
        videos / "two.mp4": [CodedBout(0.2, 4.6, "fly, high")],
    }
    write_boris(tmp_path / "day.boris", bouts, behaviors=["never seen"])
    assert read_back(tmp_path / "day.boris", videos) == [
        ("one.mp4", "groom", 0.0, 2.5),
        ("one.mp4", "feed", 2.5, 4.125),
        ("one.mp4", "groom", 4.125, 9.999),
        ("two.mp4", "fly, high", 0.2, 4.6),
    ]
    assert not boris([tmp_path / "day.boris"], videos).notes


@given(
    cuts=st.lists(st.integers(0, 9999), min_size=2, max_size=20, unique=True),
    labels=st.lists(st.sampled_from(["a", "b"]), min_size=20, max_size=20),
)
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_bouts_of_thousandths_are_read_back_exactly(videos: Path, tmp_path: Path, cuts, labels) -> None:
    path = tmp_path / "any.boris"
    path.unlink(missing_ok=True)
    times = [cut / 1000 for cut in sorted(cuts)]
    bouts = [CodedBout(*pair, label) for *pair, label in zip(times[::2], times[1::2], labels, strict=False)]
    write_boris(path, {videos / "one.mp4": bouts})
    found = sorted(read_back(path, videos), key=lambda row: row[2] or 0.0)
    assert found == [("one.mp4", bout.behavior, bout.start_seconds, bout.end_seconds) for bout in bouts]


def test_the_form_is_what_boris_asks_for(videos: Path, tmp_path: Path) -> None:
    bouts = {videos / "one.mp4": [CodedBout(1.0, 3.0, "groom", "score 0.9"), CodedBout(0.5, 2.0, "feed")]}
    write_boris(tmp_path / "day.boris", bouts)
    project = json.loads((tmp_path / "day.boris").read_text())
    assert project["project_format_version"] == "7.0"
    assert {entry["type"] for entry in project["behaviors_conf"].values()} == {"State event"}
    [observation] = project["observations"].values()
    media = str(videos / "one.mp4")
    assert observation["file"]["1"] == [media]
    assert observation["type"] == "MEDIA"
    assert observation["media_info"]["length"][media] == pytest.approx(10, abs=0.15)
    assert observation["media_info"]["fps"][media] == pytest.approx(10)
    events = observation["events"]
    assert [event[0] for event in events] == sorted(event[0] for event in events)
    assert events[1] == [1.0, "", "groom", "", "score 0.9", 10]
    for code in ("groom", "feed"):
        assert sum(event[2] == code for event in events) % 2 == 0, "every start has a stop"


def test_a_bout_ends_inside_its_media(videos: Path, tmp_path: Path) -> None:
    write_boris(tmp_path / "day.boris", {videos / "one.mp4": [CodedBout(8.0, 10.5, "groom")]})
    [(_, _, start, end)] = read_back(tmp_path / "day.boris", videos)
    assert (start, end) == (8.0, pytest.approx(media_info(videos / "one.mp4").seconds, abs=0.001))


def test_what_boris_would_not_take_is_refused(videos: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"does not allow '\|'"):
        write_boris(tmp_path / "x.boris", {videos / "one.mp4": [CodedBout(0.0, 1.0, "a|b")]})
    (tmp_path / "text.mp4").write_text("no video")
    with pytest.raises(InputError, match="cannot be opened as a video"):
        write_boris(tmp_path / "x.boris", {tmp_path / "text.mp4": []})
    assert not (tmp_path / "x.boris").exists()
    (tmp_path / "there.boris").write_text("corrected")
    with pytest.raises(InputError, match="is not overwritten"):
        write_boris(tmp_path / "there.boris", {})


def test_two_media_of_one_name_are_two_observations(videos: Path, tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    other = tmp_path / "b" / "one.mp4"
    other.write_bytes((videos / "one.mp4").read_bytes())
    write_boris(tmp_path / "x.boris", {videos / "one.mp4": [], other: []})
    assert list(json.loads((tmp_path / "x.boris").read_text())["observations"]) == ["one", "one 2"]
