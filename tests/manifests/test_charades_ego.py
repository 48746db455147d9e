"""Charades-Ego from files of the published structure, drawn here, and from the real ones where they are at hand."""

import csv
import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from actiondiff.manifests import Built, Manifest, ManifestError, charades_ego

REAL = Path(__file__).parents[3] / "shared" / "annotations" / "charades_ego"
HEADER = ("id", "subject", "scene", "script", "actions", "length", "egocentric", "charades_video")
TRAIN = (
    ("AAA01EGO", "S1", "Attic", "A person, alone.", "c000 0.00 4.50;c002 3.10 9.80;c000 6.00 9.00", "9.50", "Yes", ""),
    ("AAA01", "S1", "Attic", "A person, alone.", "c001 1.00 2.00;c001 1.00 2.00", "8.00", "No", "XYZ"),
    ("AAA02EGO", "S2", "Barn", "Somebody sits.", "", "5.00", "Yes", ""),
)
TEST = (("BBB01EGO", "S3", "Cellar", "Nobody.", "c002 5.00 4.00;c001 7.00 8.00;c002 0.00 1.00", "6.00", "Yes", ""),)
CLASSES = "c000 Holding a kite\nc001 Opening a jar/tin\nc002 Looking out\n"


def write_rows(path: Path, rows: Sequence[Sequence[str]], header: Sequence[str] = HEADER) -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([header, *rows])
    return path


@pytest.fixture
def data(tmp_path: Path) -> Path:
    write_rows(tmp_path / "train.csv", TRAIN)
    write_rows(tmp_path / "test.csv", TEST)
    (tmp_path / "classes.txt").write_text(CLASSES)
    (tmp_path / "videos").mkdir()
    for row in (*TRAIN, *TEST):
        (tmp_path / "videos" / f"{row[0]}.mp4").touch()
    return tmp_path


def build(data: Path, **choices: object) -> Built:
    files = ([data / "train.csv"], [data / "test.csv"], data / "classes.txt", data / "videos")
    return charades_ego(*files, **choices)


def test_whole_videos_have_each_label_once_their_view_and_their_pair(data: Path) -> None:
    built = build(data)
    rows = [(v.video_id, v.labels, v.split, v.domain, v.group, v.extra["subject"]) for v in built.manifest]
    assert rows == [
        ("AAA01EGO", ("Holding a kite", "Looking out"), "train", "1st", "AAA01", "S1"),
        ("AAA01", ("Opening a jar/tin",), "train", "3rd", "AAA01", "S1"),
        ("AAA02EGO", (), "train", "1st", "AAA02", "S2"),
        ("BBB01EGO", ("Looking out", "Opening a jar/tin"), "test", "1st", "BBB01", "S3"),
    ]
    assert built.notes == ("1 videos have no action, so have no label: AAA02EGO.",)


def test_one_view_is_taken_and_the_other_videos_are_told_as_left_over(data: Path) -> None:
    assert [v.video_id for v in build(data, view="1st").manifest] == ["AAA01EGO", "AAA02EGO", "BBB01EGO"]
    built = build(data, view="3rd")
    assert [v.video_id for v in built.manifest] == ["AAA01"]
    assert "3 clips in" in built.notes[-1]


def test_clips_are_the_intervals_that_have_a_duration_inside_the_video(data: Path) -> None:
    built = build(data, clips=True)
    rows = [(v.video_id, v.path, v.labels, v.start_seconds, v.end_seconds) for v in built.manifest]
    assert rows == [
        ("AAA01EGO/00", "AAA01EGO.mp4", ("Holding a kite",), 0.0, 4.5),
        ("AAA01EGO/01", "AAA01EGO.mp4", ("Looking out",), 3.1, 9.5),
        ("AAA01EGO/02", "AAA01EGO.mp4", ("Holding a kite",), 6.0, 9.0),
        ("AAA01/00", "AAA01.mp4", ("Opening a jar/tin",), 1.0, 2.0),
        ("BBB01EGO/00", "BBB01EGO.mp4", ("Looking out",), 0.0, 1.0),
    ]
    notes = "\n".join(built.notes)
    assert "1 intervals do not end after their beginning and are left out" in notes
    assert "1 intervals begin after the video's end" in notes
    assert "1 intervals outlast their video and are cut" in notes
    assert "give no clip: AAA02EGO" in notes


def test_everything_wrong_in_every_file_is_told_in_one_message(data: Path) -> None:
    broken = [
        ("AAA01EGO", "S1", "Attic", "", "c000 0.00;c009 1.00 2.00", "9.50", "Yes", ""),
        ("AAA03EGO", "S1", "Attic", "", "c000 0.00 x", "long", "Maybe", ""),
    ]
    write_rows(data / "train.csv", broken)
    (data / "test.csv").write_bytes("id,subject\ncaf\u00e9,1\n".encode("latin-1"))
    write_rows(data / "more.csv", [], [*HEADER[:4], "action", *HEADER[5:]])
    (data / "classes.txt").write_text(CLASSES + "Running\n")
    (data / "videos" / "AAA02EGO.mp4").rename(data / "videos" / "other.mp4")
    with pytest.raises(ManifestError) as caught:
        charades_ego(
            [data / "train.csv", data / "more.csv"],
            [data / "test.csv", data / "gone.csv"],
            data / "classes.txt",
            data / "videos",
        )
    said = str(caught.value)
    for words in (
        "train.csv, line 2: 'c000 0.00' is no interval",
        "line 2: 'c009 1.00 2.00' is of a class that",
        "train.csv, line 3: 'c000 0.00 x' is no interval",
        "length 'long'",
        "egocentric is 'Maybe'",
        "more.csv, line 1: the header lacks actions; found: id, ",
        "test.csv, line 2: byte 0xe9 is not UTF-8",
        "gone.csv: cannot be read",
        "classes.txt, line 4: 'Running' is no class",
    ):
        assert words in said


def test_missing_and_extra_videos_are_told_and_missing_ones_may_stay(data: Path) -> None:
    (data / "videos" / "AAA02EGO.mp4").rename(data / "videos" / "other.mp4")
    with pytest.raises(ManifestError) as caught:
        build(data)
    assert "1 of 4 clips are missing: AAA02EGO" in str(caught.value)
    assert "other.mp4" in str(caught.value)
    built = build(data, allow_missing=True)
    assert (len(built.manifest), built.missing, built.extra) == (4, ("AAA02EGO",), ("other.mp4",))


def test_a_video_annotated_twice_is_refused(data: Path) -> None:
    write_rows(data / "test.csv", TRAIN[:1])
    with pytest.raises(ManifestError, match=r"test.csv, line 2: clip 'AAA01EGO' stands in line 2 of train.csv too"):
        build(data)


def test_the_command_takes_several_files(data: Path, actiondiff) -> None:
    result = actiondiff(
        "manifest", "charades-ego", "--train", "train.csv", "--test", "test.csv", "--classes", "classes.txt",
        "--videos", "videos", "--view", "1st", "--clips", "--json", cwd=data,
    )  # fmt: skip
    assert result.exit_code == 0, result.stderr
    answer = json.loads(result.stdout)
    assert (answer["clips"], answer["classes"], answer["by_domain_and_split"]) == (
        4,
        3,
        {"1st": {"train": 3, "test": 1}},
    )
    assert Manifest.read(data / "manifest.csv").videos[0].path == "videos/AAA01EGO.mp4"


@pytest.mark.skipif(not REAL.exists(), reason="the real annotations of Charades-Ego are not here")
def test_the_real_files_give_the_published_counts(tmp_path: Path) -> None:
    train, test = (REAL / f"CharadesEgo_v1_{split}_only1st.csv" for split in ("train", "test"))
    for clips, rows in ((False, {"train": 3_084, "test": 846}), (True, {"train": 33_147, "test": 9_158})):
        built = charades_ego(
            [train], [test], REAL / "Charades_v1_classes.txt", tmp_path, clips=clips, allow_missing=True
        )
        assert built.counts() == {"1st": rows}
        assert (len(built.manifest.classes), built.details["classes"]) == (157, 157)
