import json
from pathlib import Path

import pytest

from actiondiff import InputError
from actiondiff.manifests import Manifest, Video, merge_manifests, split_manifest

BIRDS = tuple(
    Video(f"{label}/{n}", f"{label}{n}.mp4", (label,), group=f"bird {n // 2}", split="train" if n < 6 else "test")
    for label in ("peck", "sing")
    for n in range(8)
)


def parts(manifest: Manifest) -> dict[str, set[str]]:
    """Groups of each split."""
    found: dict[str, set[str]] = {}
    for video in manifest:
        found.setdefault(video.split, set()).add(video.group)
    return found


def test_a_split_parts_no_group_and_is_alike_by_label() -> None:
    again = split_manifest(Manifest(BIRDS, Path()), test=0.25, val=0.25, seed=3)
    found = parts(again)
    assert sorted((split, len(groups)) for split, groups in found.items()) == [("test", 1), ("train", 2), ("val", 1)]
    assert len(set().union(*found.values())) == 4
    for split in found:
        labels = [v.labels[0] for v in again if v.split == split]
        assert labels.count("peck") == labels.count("sing")
    assert again == split_manifest(Manifest(BIRDS, Path()), test=0.25, val=0.25, seed=3)


def test_only_the_selection_is_split() -> None:
    again = split_manifest(Manifest(BIRDS, Path()), test=0.0, val=1 / 3, where="split=train")
    assert parts(again)["test"] == {"bird 3"}
    assert len(parts(again)["val"]) == 1
    assert len(parts(again)["train"]) == 2


def test_another_column_can_hold_the_groups() -> None:
    rows = tuple(Video(str(n), "a.mp4", ("x",), extra={"nest": f"n{n % 2}"}) for n in range(6))
    again = split_manifest(Manifest(rows, Path()), test=0.5, group="nest")
    assert [v.split for v in again] in (["test", "train"] * 3, ["train", "test"] * 3)
    with pytest.raises(InputError, match="no column 'den'"):
        split_manifest(Manifest(rows, Path()), group="den")


@pytest.mark.parametrize(("test", "val"), [(0.0, 0.0), (0.5, 0.5), (-0.1, 0.5), (1.0, 0.0)])
def test_fractions_that_leave_nothing_are_refused(test: float, val: float) -> None:
    with pytest.raises(InputError, match="leave something to train on"):
        split_manifest(Manifest(BIRDS, Path()), test=test, val=val)


def test_merged_manifests_keep_their_files_apart_by_id_and_group(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.mp4").touch()
    rows = (Video("a", "a.mp4", ("x",), group="g"), Video("b", "a.mp4", ("y",), domain="lawn"))
    merged = merge_manifests({name: Manifest(rows, tmp_path / name) for name in ("one", "two")})
    assert [(v.video_id, v.path, v.group, v.domain) for v in merged] == [
        ("one/a", "one/a.mp4", "one/g", ""),
        ("one/b", "one/a.mp4", "", "lawn"),
        ("two/a", "two/a.mp4", "two/g", ""),
        ("two/b", "two/a.mp4", "", "lawn"),
    ]
    merged.write(tmp_path / "deep" / "all.csv")
    assert len(Manifest.read(tmp_path / "deep" / "all.csv")) == 4
    with pytest.raises(InputError, match="two manifests or more"):
        merge_manifests({"one": Manifest(rows, tmp_path)})


def test_the_commands_split_and_merge(tmp_path: Path, actiondiff) -> None:
    Manifest(BIRDS, tmp_path).write(tmp_path / "a.csv")
    arguments = ("a.csv", "--test", "0.25", "--val", "0.25", "--seed", "1", "--out", "b.csv", "--json")
    result = actiondiff("manifest", "split", *arguments, cwd=tmp_path)
    assert result.exit_code == 0, result.stderr
    assert json.loads(result.stdout)["splits"] == {"train": 8, "test": 4, "val": 4}
    result = actiondiff("manifest", "merge", "a.csv", "b.csv", "--out", "c.csv", "--json")
    assert result.exit_code == 0, result.stderr
    assert json.loads(result.stdout)["clips"] == 32
    assert Manifest.read("c.csv", check_files=False).videos[0].video_id == "a/peck/0"
    result = actiondiff("manifest", "merge", "a.csv", "a.csv")
    assert result.exit_code == 2
    assert "--prefix" in result.stderr
    result = actiondiff("manifest", "merge", "a.csv", "a.csv", "--prefix", "x", "--prefix", "y", "--out", "d.csv")
    assert result.exit_code == 0, result.stderr
