"""BORIS projects and tables of the structure that BORIS writes, drawn here."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from actiondiff.manifests import Built, Manifest, ManifestError, boris

BEHAVIORS = {"0": {"type": "State event", "code": "groom"}, "1": {"type": "Point event", "code": "call"}}


def observation(events: Sequence[Sequence[Any]], **cells: Any) -> dict[str, Any]:
    media_info = {"length": {"C:\\data\\one.mp4": 10.0, "/home/x/two.mp4": 20.0}}
    files = {"1": ["C:\\data\\one.mp4", "/home/x/two.mp4"], "2": []}
    return {"type": "MEDIA", "file": files, "time offset": 0.0, "media_info": media_info, "events": events} | cells


def write_project(folder: Path, observations: dict[str, Any], name: str = "birds.boris") -> Path:
    path = folder / name
    path.write_text(json.dumps({"behaviors_conf": BEHAVIORS, "observations": observations}))
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "videos").mkdir()
    for name in ("one", "two"):
        (tmp_path / "videos" / f"{name}.mp4").touch()
    return tmp_path


def rows(built: Built) -> list[tuple[Any, ...]]:
    return [(v.video_id, v.path, v.labels[0], v.start_seconds, v.end_seconds, v.group) for v in built.manifest]


def test_states_are_paired_by_subject_and_modifier_and_times_run_on_through_the_files(folder: Path) -> None:
    events = [
        [1.0, "Ada", "groom", "", ""],
        [2.0, "Bo", "groom", "wing", "", 50],
        [3.5, "Ada", "groom", "", ""],
        [9.0, "Bo", "groom", "tail", ""],
        [12.0, "Bo", "groom", "wing", ""],
        [15.0, "Bo", "groom", "tail", ""],
        [20.5, "", "call", "", ""],
    ]
    path = write_project(folder, {"day 1/a": observation(events)})
    assert rows(boris([path], folder / "videos")) == [
        ("birds/day 1_a/000", "one.mp4", "groom", 1.0, 3.5, "Ada"),
        ("birds/day 1_a/001", "one.mp4", "groom", 2.0, 10.0, "Bo"),
        ("birds/day 1_a/002", "two.mp4", "groom", 0.0, 2.0, "Bo"),
        ("birds/day 1_a/003", "one.mp4", "groom", 9.0, 10.0, "Bo"),
        ("birds/day 1_a/004", "two.mp4", "groom", 0.0, 5.0, "Bo"),
        ("birds/day 1_a/005", "two.mp4", "call", 9.5, 11.5, "day 1/a"),
    ]
    extra = boris([path], folder / "videos").manifest.videos[1].extra
    assert dict(extra) == {"observation": "day 1/a", "subject": "Bo", "modifiers": "wing", "event": "state"}


def test_the_offset_is_taken_off_and_points_can_be_left_out(folder: Path) -> None:
    events = [[101.0, "", "groom", "", ""], [102.0, "", "groom", "None", ""], [100.2, "", "call", "", ""]]
    events += [[103.0, "", "groom", "", ""], [104.0, "", "groom", "None", ""]]
    path = write_project(folder, {"a": observation(events, **{"time offset": 100.0})})
    built = boris([path], folder / "videos", point_seconds=1.0)
    assert [row[2:5] for row in rows(built)] == [("call", 0.0, 0.7), ("groom", 1.0, 3.0), ("groom", 2.0, 4.0)]
    built = boris([path], folder / "videos", point_seconds=0.0)
    assert len(built.manifest) == 2
    assert "1 point events are left out." in built.notes


def test_what_cannot_be_used_is_told(folder: Path) -> None:
    events = [
        [1.0, "", "groom", "", ""],
        [2.0, "", "groom", "", ""],
        [3.0, "", "groom", "", ""],
        [99, "", "call", "", ""],
    ]
    two = {"1": ["one.mp4"], "2": ["two.mp4"]}
    path = write_project(
        folder,
        {
            "a": observation(events),
            "live": observation(events[:2], type="LIVE", file=[]),
            "b": observation(events[:2], file=two, media_info={}),
        },
    )
    built = boris([path], folder / "videos")
    assert [row[0] for row in rows(built)] == ["birds/a/000", "birds/b/000"]
    notes = "\n".join(built.notes)
    assert "1 state events have a start and no stop, and are left out: a: groom at 3 s" in notes
    assert "without media, and are left out: live" in notes
    assert "no duration inside their media, and are left out: a at 99 s" in notes
    assert "1 observations have further players" in notes


SOURCE = "a\tplayer #1:one.mp4;two.mp4|player #2:x.mp4\t0\t10.000;20.000|5.000"
AGGREGATED = (
    "Observation id\tSource\tTime offset (s)\tMedia duration (s)\tSubject\tBehavior\tModifier #1\tBehavior type"
    "\tStart (s)\tStop (s)\tMedia file name\n"
    f"{SOURCE}\tAda\tgroom\twing\tSTATE\t12\t14\ttwo.mp4\n"
    f"{SOURCE}\tNo focal subject\tcall\t\tPOINT\t3\t3\tone.mp4\n"
)
OLD_EVENTS = (
    "Observation id,b,,,\n,,,,\nTime offset (s),1.0,,,\n,,,,\nTime,Media file path,Subject,Behavior,Status\n"
    "2.0,x/one.mp4,Ada,groom,START\n3.0,x/one.mp4,Ada,call,POINT\n4.0,x/one.mp4,Ada,groom,STOP\n"
)


def test_exported_tables_give_the_same_as_projects(folder: Path) -> None:
    (folder / "new.tsv").write_text(AGGREGATED)
    (folder / "old.csv").write_text(OLD_EVENTS)
    assert rows(boris([folder / "new.tsv", folder / "old.csv"], folder / "videos")) == [
        ("new/a/000", "two.mp4", "groom", 2.0, 4.0, "Ada"),
        ("new/a/001", "one.mp4", "call", 2.0, 4.0, "a"),
        ("old/b/000", "one.mp4", "call", 1.0, 3.0, "Ada"),
        ("old/b/001", "one.mp4", "groom", 1.0, 3.0, "Ada"),
    ]


def test_a_workbook_is_read_like_the_text(folder: Path) -> None:
    import openpyxl

    workbook = openpyxl.Workbook()
    for line in AGGREGATED.splitlines():
        workbook.active.append(line.split("\t"))
    workbook.save(folder / "new.xlsx")
    (folder / "new.tsv").write_text(AGGREGATED)
    assert rows(boris([folder / "new.xlsx"], folder / "videos")) == rows(boris([folder / "new.tsv"], folder / "videos"))


def test_everything_wrong_is_told_in_one_message(folder: Path) -> None:
    (folder / "broken.boris").write_text("{")
    (folder / "other.boris").write_text('{"observations": 3}')
    (folder / "other.csv").write_text("a,b\n1,2\n")
    (folder / "latin.csv").write_bytes("caf\u00e9".encode("latin-1"))
    old = "Observation id,Media file,Subject,Behavior,Behavior type,Start (s),Stop (s)\n"
    (folder / "two.csv").write_text(old + "a,one.mp4,,groom,STATE,1,2\na,two.mp4,,groom,STATE,11,12\n")
    (folder / "times.csv").write_text(old + "a,one.mp4,,groom,STATE,1,soon\n")
    events = [[1.0, "", "groom", "", ""], [2.0, "", "groom", "", ""], [2.0, "", "sing", "", ""]]
    good = write_project(folder, {"a": observation(events, file={"1": ["gone.mp4"]}, media_info={})})
    names = ("broken.boris", "other.boris", "other.csv", "latin.csv", "two.csv", "times.csv", "gone.xlsx")
    with pytest.raises(ManifestError) as caught:
        boris([good, *(folder / name for name in names)], folder / "videos")
    said = str(caught.value)
    for words in (
        "broken.boris, line 1: is no BORIS project, the JSON is broken",
        "other.boris: is no BORIS project as",
        "other.csv: has no header with Behavior, Subject and Time or Start (s)",
        "latin.csv, line 1: byte 0xe9",
        "two.csv, line 2: observation 'a' has several media files and not the length of each",
        "times.csv, line 2: the row's times are no numbers",
        "gone.xlsx: cannot be read",
        "birds.boris: observation 'a': the project has no behaviour 'sing'",
        "clips are missing: gone",
    ):
        assert words in said


def test_the_command_finds_media_beside_the_project(folder: Path, actiondiff) -> None:
    write_project(folder, {"a": observation([[1.0, "", "groom", "", ""], [2.0, "", "groom", "", ""]])})
    result = actiondiff("manifest", "boris", "birds.boris", "--json", cwd=folder)
    assert result.exit_code == 0, result.stderr
    assert json.loads(result.stdout)["clips"] == 1
    assert Manifest.read(folder / "manifest.csv").videos[0].path == "videos/one.mp4"
