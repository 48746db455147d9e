import logging
from pathlib import Path

import pytest

from actiondiff.manifests import Manifest, ManifestError, ManifestNotFound, scan


def touch(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return folder


def test_label_folders_give_labels_in_natural_order(tmp_path: Path) -> None:
    manifest = scan(touch(tmp_path, "push/clip10.mp4", "push/clip2.MP4", "hug/a.avi"))
    assert [(v.video_id, v.path, v.labels, v.domain) for v in manifest] == [
        ("hug/a", "hug/a.avi", ("hug",), ""),
        ("push/clip2", "push/clip2.MP4", ("push",), ""),
        ("push/clip10", "push/clip10.mp4", ("push",), ""),
    ]
    assert manifest.root == tmp_path


def test_domain_folders_give_domains(tmp_path: Path) -> None:
    manifest = scan(touch(tmp_path, "lawn/push/1.mp4", "park/push/1.mp4"))
    assert [(v.video_id, v.labels, v.domain) for v in manifest] == [
        ("lawn/push/1", ("push",), "lawn"),
        ("park/push/1", ("push",), "park"),
    ]


def test_a_folder_of_frames_is_one_clip(tmp_path: Path) -> None:
    manifest = scan(touch(tmp_path, "push/v1.0/0001.png", "push/v1.0/0002.png", "push/b/1.JPG", "push/c.mp4"))
    assert [(v.video_id, v.path) for v in manifest] == [
        ("push/b", "push/b"),
        ("push/c", "push/c.mp4"),
        ("push/v1.0", "push/v1.0"),
    ]


def test_a_thumbnail_beside_clips_is_no_clip(tmp_path: Path) -> None:
    assert [v.video_id for v in scan(touch(tmp_path, "push/cover.jpg", "push/a.mp4", "poster.png"))] == ["push/a"]


def test_suffixes_stay_where_ids_would_collide(tmp_path: Path) -> None:
    names = ("x/a.avi", "x/a.mp4", "x/b.mp4", "x/c/1.png", "x/c.mp4", "x/a.mp4.avi")
    assert sorted(v.video_id for v in scan(touch(tmp_path, *names))) == [
        "x/a.avi",
        "x/a.mp4",
        "x/a.mp4.avi",
        "x/b",
        "x/c",
        "x/c.mp4",
    ]


def test_other_files_are_left_out_and_counted_and_hidden_ones_pass_unseen(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    touch(tmp_path, "push/a.mp4", "push/notes.txt", "readme.md", ".cache/push/b.mp4", "push/._a.mp4")
    with caplog.at_level(logging.WARNING, logger="actiondiff.manifests"):
        assert [v.video_id for v in scan(tmp_path)] == ["push/a"]
    assert "2 files" in caplog.text


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (("a.mp4",), "directly in DIR: a.mp4"),
        (("push/1.png",), "directly in DIR: push/ (frames)"),
        (("a/b/c/d.mp4",), "4 levels deep: a/b/c/d.mp4"),
        (("push/a.mp4", "lawn/push/b.mp4"), "as label/clip: push/a.mp4"),
        (("push/a.mp4", "lawn/push/b.mp4"), "as domain/label/clip: lawn/push/b.mp4"),
        (("push/a.mp4", "b.mp4"), "directly in DIR: b.mp4"),
        (("push/notes.txt",), "holds no clips"),
        ((), "holds no clips"),
        (("push;pull/a.mp4",), "holds a ';'"),
        ((" push/a.mp4",), "blank"),
        (("push/a\\b.mp4",), "backslash"),
        (("push/a\udcff.mp4",), "control character"),
    ],
)
def test_a_folder_that_is_laid_out_otherwise_is_refused_with_examples(
    tmp_path: Path, names: tuple[str, ...], words: str
) -> None:
    with pytest.raises(ManifestError) as caught:
        scan(touch(tmp_path, *names))
    assert words in str(caught.value)


def test_the_rule_is_told_with_the_refusal(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match="DIR/label/clip or DIR/domain/label/clip"):
        scan(touch(tmp_path, "a.mp4"))


def test_a_folder_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(ManifestNotFound, match="no folder"):
        scan(tmp_path / "gone")
    with pytest.raises(ManifestError, match="is a file"):
        scan(touch(tmp_path, "a.mp4") / "a.mp4")


def test_linked_folders_are_followed_but_not_in_circles(tmp_path: Path) -> None:
    touch(tmp_path / "disk", "a.mp4")
    data = touch(tmp_path / "data", "hug/b.mp4")
    (data / "push").symlink_to(tmp_path / "disk")
    (data / "hug/again").symlink_to(data)
    assert [v.video_id for v in scan(data)] == ["hug/b", "push/a"]


def test_a_scan_can_be_written_and_read(tmp_path: Path) -> None:
    found = scan(touch(tmp_path / "clips", "lawn/push/1.mp4", "park/hug/2.mp4"))
    found.write(tmp_path / "manifest.csv")
    again = Manifest.read(tmp_path / "manifest.csv")
    assert [v.path for v in again] == ["clips/lawn/push/1.mp4", "clips/park/hug/2.mp4"]
    assert [v.video_id for v in again] == [v.video_id for v in found]
