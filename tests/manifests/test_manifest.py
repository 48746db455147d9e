from pathlib import Path

import pytest

from actiondiff import InputError
from actiondiff.manifests import (
    Manifest,
    ManifestError,
    SelectionError,
    UnknownVideo,
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


@pytest.mark.parametrize(
    ("where", "ids"),
    [
        ("domain=lawn", ["lawn/a", "lawn/b"]),
        ("domain=lawn,split=test", ["lawn/b"]),
        (" split = test , domain = car park ", ["park/c"]),
        ("label=push", ["lawn/a", "lawn/b"]),
        ("label=push;hug", ["lawn/a"]),
        ("label=push,label=hug", ["lawn/a"]),
        ("label=", ["park/c"]),
        ("note=rain, wind", ["lawn/a"]),
        ("video_id=park/c", ["park/c"]),
    ],
)
def test_where_takes_the_videos_for_which_all_conditions_hold(where: str, ids: list[str]) -> None:
    assert [video.video_id for video in three_videos().where(where)] == ids


@pytest.mark.parametrize(
    ("where", "words"),
    [
        ("domian=lawn", "no column 'domian'; it has: video_id, path, label, split, domain, note"),
        ("split=test,domian=lawn", "no column 'domian'"),
        ("split=val", "No video has split=val. In this manifest, split is one of: test, train"),
        ("split=train,domain=car park", "split is one of: test, train; domain is one of: car park, lawn"),
        ("label=jump", "label is one of: hug, push"),
        ("lawn", "column=value"),
        ("", "column=value"),
        ("=lawn", "column=value"),
    ],
)
def test_where_that_selects_nothing_says_what_there_is(where: str, words: str) -> None:
    with pytest.raises(SelectionError) as caught:
        three_videos().where(where)
    assert words in str(caught.value)
    assert isinstance(caught.value, InputError)


def test_values_are_unique_sorted_and_never_empty() -> None:
    manifest = three_videos()
    assert manifest.values("domain") == ("car park", "lawn")
    assert manifest.values("note") == ("rain, wind",)
    assert manifest.classes == ("hug", "push")
    with pytest.raises(SelectionError, match="'weather'"):
        manifest.values("weather")


def test_several_labels_on_one_video_make_a_manifest_multilabel() -> None:
    assert three_videos().is_multilabel
    assert not three_videos().where("split=test").is_multilabel


def test_a_subset_comes_in_the_order_asked_for() -> None:
    assert [video.video_id for video in three_videos().subset(["park/c", "lawn/a"])] == ["park/c", "lawn/a"]
    assert len(three_videos().subset([])) == 0
    with pytest.raises(UnknownVideo, match="does not hold: x") as caught:
        three_videos().subset(["lawn/a", "x"])
    assert isinstance(caught.value, KeyError)


def test_a_manifest_with_one_id_twice_cannot_be_made() -> None:
    with pytest.raises(ManifestError, match="'a' is there more than once"):
        Manifest((Video("a", "a.mp4"), Video("a", "b.mp4")), Path())
