import csv
import os
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from actiondiff.manifests import (
    Manifest,
    Video,
)


def three_videos() -> Manifest:
    return Manifest(
        (
            Video("lawn/a", "a.mp4", ("push", "hug"), split="train", domain="lawn", extra={"note": "rain, wind"}),
            Video("lawn/b", "b.mp4", ("push",), split="test", domain="lawn"),
            Video("park/c", "c.mp4", (), split="test", domain="car park"),
        ),
        Path("data"),
    )


any_text = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=8)
line_text = st.text(st.characters(exclude_categories=["Cc", "Cs", "Zl", "Zp"]), max_size=8)
plain = line_text.map(str.strip)
label = line_text.map(lambda text: text.replace(";", "").strip()).filter(bool)
part = line_text.map(lambda text: text.translate(dict.fromkeys(map(ord, "/\\:"), None)).strip()).filter(
    lambda text: text not in ("", ".", "..")
)
extra_name = plain.filter(bool).map(lambda name: f"x {name}")


@st.composite
def cells_of_a_video(draw: st.DrawFn) -> dict[str, Any]:
    start = draw(st.none() | st.floats(0, 1e6))
    length = draw(st.none() | st.floats(1, 1e6))
    return {
        "video_id": "/".join(draw(st.lists(part, min_size=1, max_size=3))),
        "path": draw(line_text.filter(bool)),
        "labels": tuple(draw(st.lists(label, max_size=3, unique=True))),
        "split": draw(plain),
        "domain": draw(plain),
        "group": draw(plain),
        "start_seconds": start,
        "end_seconds": None if length is None else (start or 0.0) + length,
        "extra": draw(st.dictionaries(extra_name, any_text, max_size=3)),
    }


@settings(max_examples=60, deadline=None)
@given(st.lists(cells_of_a_video(), min_size=1, max_size=4, unique_by=lambda cells: cells["video_id"]))
def test_whatever_is_written_is_read_back_the_same(rows: list[dict[str, Any]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        manifest = Manifest(tuple(Video(**cells) for cells in rows), Path(folder))
        manifest.write(Path(folder) / "manifest.csv")
        assert Manifest.read(Path(folder) / "manifest.csv", check_files=False) == manifest


def test_only_columns_in_use_are_written_and_the_contracts_come_first(tmp_path: Path) -> None:
    rows = (Video("a", "a.mp4", extra={"weather": "rain"}), Video("b", "b.mp4", group="g", domain="lawn"))
    Manifest(rows, tmp_path).write(tmp_path / "m.csv")
    assert (tmp_path / "m.csv").read_text().splitlines() == [
        "video_id,path,label,domain,group,weather",
        "a,a.mp4,,,,rain",
        "b,b.mp4,,lawn,g,",
    ]


def test_paths_follow_when_a_manifest_is_written_elsewhere(tmp_path: Path) -> None:
    (tmp_path / "clips").mkdir()
    (tmp_path / "clips/a.mp4").touch()
    (tmp_path / "b.mp4").touch()
    absolute = str(tmp_path / "b.mp4")
    rows = (Video("a", "a.mp4"), Video("b", "../b.mp4"), Video("c", absolute))
    manifest = Manifest(rows, tmp_path / "clips")
    for target, first in (("m.csv", "clips/a.mp4"), ("deep/er/m.csv", "../../clips/a.mp4"), ("clips/m.csv", "a.mp4")):
        manifest.write(tmp_path / target)
        moved = Manifest.read(tmp_path / target)
        assert moved.videos[0].path == first
        assert moved.videos[2].path == absolute
        assert [moved.source(video).resolve() for video in moved] == [
            manifest.source(video).resolve() for video in manifest
        ]


def test_paths_are_right_behind_a_linked_folder(tmp_path: Path) -> None:
    (tmp_path / "disk/deep/clips").mkdir(parents=True)
    (tmp_path / "disk/deep/clips/a.mp4").touch()
    (tmp_path / "disk/deep/b.mp4").touch()
    (tmp_path / "clips").symlink_to(tmp_path / "disk/deep/clips")
    Manifest((Video("a", "a.mp4"), Video("b", "../b.mp4")), tmp_path / "clips").write(tmp_path / "m.csv")
    assert len(Manifest.read(tmp_path / "m.csv")) == 2


def test_a_write_that_fails_leaves_the_old_manifest_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "manifest.csv"
    path.write_text("old")

    def full_disk(_: int) -> None:
        raise OSError("No space left on device")

    monkeypatch.setattr(os, "fsync", full_disk)
    with pytest.raises(OSError, match="No space"):
        three_videos().write(path)
    assert path.read_text() == "old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["manifest.csv"]


def test_an_ordinary_csv_reader_understands_what_is_written(tmp_path: Path) -> None:
    three_videos().write(tmp_path / "m.csv")
    with (tmp_path / "m.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["label"] for row in rows] == ["push;hug", "push", ""]
    assert rows[0]["note"] == "rain, wind"
