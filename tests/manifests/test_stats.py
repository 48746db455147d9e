import json
from pathlib import Path

import pytest
from fakes import draw_frames

from actiondiff.manifests import Manifest, Video, manifest_stats, write_video


@pytest.fixture
def manifest(tmp_path: Path) -> Manifest:
    for name, content in (("a", b"same bytes"), ("b", b"same bytes"), ("c", b"others it.")):
        (tmp_path / f"{name}.mp4").write_bytes(content)
    (tmp_path / "frames").mkdir()
    rows = (
        Video("a", "a.mp4", ("peck", "sing"), "train", "lawn", "bird 1", 1.0, 3.5),
        Video("a2", "a.mp4", ("sing",), "train", "lawn", "bird 1", None, 2.0),
        Video("b", "b.mp4", ("peck",), "test", "lawn", "bird 1"),
        Video("c", "c.mp4", ("peck",), "test", "park", "bird 2"),
        Video("d", "frames", (), "test", "park"),
        Video("e", "gone.mp4", ("peck",), "train", "park"),
    )
    return Manifest(rows, tmp_path)


def test_clips_seconds_and_labels_are_counted_by_domain_and_split(manifest: Manifest) -> None:
    stats = manifest_stats(manifest)
    assert stats.clips == {("lawn", "train"): 2, ("lawn", "test"): 1, ("park", "test"): 2, ("park", "train"): 1}
    assert (stats.seconds, stats.timed, stats.untimed, stats.unlabelled) == (4.5, 2, 4, 1)
    assert stats.text().startswith("6 clips (4.5 s, without 4 clips of unknown length)")
    assert stats.labels["sing"] == {("lawn", "train"): 2}
    assert sum(stats.labels["peck"].values()) == 4


def test_what_would_spoil_a_result_is_warned_of(manifest: Manifest) -> None:
    stats = manifest_stats(manifest)
    assert stats.absent == {"train": (), "test": ("sing",)}
    assert stats.leaking == ("bird 1",)
    assert (stats.same.sets, stats.same.across) == ((("a", "b"),), 1)
    assert stats.same.missing == ("gone.mp4",)
    assert list(stats.unreadable) == ["a", "b", "c", "d"]
    assert len(stats.warnings) == 5
    unopened = manifest_stats(manifest, compare_files=False)
    assert not unopened.same.sets
    assert not unopened.unreadable


def test_a_clean_manifest_has_no_warnings(tmp_path: Path) -> None:
    rows = tuple(Video(split, f"{split}.mp4", ("peck",), split, group=split) for split in ("train", "test"))
    for row in rows:
        write_video(tmp_path / row.path, draw_frames(8, seed=len(row.split)), 25)
    assert manifest_stats(Manifest(rows, tmp_path), near=True).warnings == []


def test_splits_that_are_spelt_otherwise_are_warned_of() -> None:
    splits = ("Train", "Train", "train", "validation", "test", "fold 2", "")
    stats = manifest_stats(
        Manifest(tuple(Video(str(n), "x", ("peck",), split=split) for n, split in enumerate(splits)), Path()),
        compare_files=False,
    )
    assert stats.misspelt == "'Train' (2 rows) for train, 'validation' (1 rows) for val"
    assert any(stats.misspelt in warning for warning in stats.warnings)


def test_many_domains_are_summed_in_the_text_only() -> None:
    rows = tuple(
        Video(str(n), "x", ("peck",), split=("train", "test")[n % 2], domain=f"d{n}" if n else "") for n in range(12)
    )
    lines = manifest_stats(Manifest(rows, Path()), compare_files=False).text().splitlines()
    assert lines[1].split() == ["label", "test", "train"]
    assert lines[3].split() == ["peck", "6", "6"]


def test_the_command_prints_a_table_and_draws_a_picture(manifest: Manifest, tmp_path: Path, actiondiff) -> None:
    manifest.write(tmp_path / "manifest.csv")
    result = actiondiff("manifest", "stats", "--picture", "stats.png", "--json", cwd=tmp_path)
    assert result.exit_code == 0, result.stderr
    assert "warning: 1 groups stand in several splits: bird 1." in result.stderr
    assert json.loads(result.stdout)["duplicates"] == [["a", "b"]]
    assert (tmp_path / "stats.png").stat().st_size > 5_000
