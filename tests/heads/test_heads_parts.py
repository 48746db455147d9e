import pytest

from actiondiff import InputError
from actiondiff.heads.parts import choose_parts
from actiondiff.heads.presets import FitConfig
from actiondiff.manifests import Manifest


def ids(part: Manifest | None) -> set[str]:
    return {video.video_id for video in part or ()}


def test_splits_of_the_manifest_are_taken(bench) -> None:
    manifest = bench.manifest([row for split in ("train", "val", "test") for row in bench.rows(6, split=split)])
    parts = choose_parts(manifest, FitConfig())
    assert ids(parts.train) == ids(manifest.where("split=train"))
    assert ids(parts.val) == ids(manifest.where("split=val"))
    assert {name: ids(part) for name, part in parts.tests.items()} == {"test": ids(manifest.where("split=test"))}
    assert parts.selection(3, 9) == "epoch 3 of 9 chosen on 6 validation videos given by split=val"


def test_train_is_what_the_tests_leave(bench) -> None:
    manifest = bench.manifest(bench.rows(6, domain="x") + bench.rows(6, domain="y"))
    parts = choose_parts(manifest, FitConfig(), tests=["domain=y"])
    assert ids(parts.train) == ids(manifest.where("domain=x"))
    assert parts.selection(9, 9) == "last epoch taken: 6 training videos are too few to set some aside (100 needed)"


def test_the_only_honest_number_is_worth_a_part_of_few_videos(bench) -> None:
    parts = choose_parts(bench.manifest(bench.rows(12)), FitConfig())
    assert parts.val is not None
    alone = choose_parts(bench.manifest(bench.rows(6)), FitConfig())
    assert alone.how == "6 training videos are too few to set some aside (10 needed)"


@pytest.mark.parametrize("seed", range(12))
def test_a_group_of_the_test_part_never_chooses_the_epoch(bench, seed: int) -> None:
    """Not even where the set-aside part would have taken that group out of training."""
    train = [{**row, "group": f"g{index // 10}"} for index, row in enumerate(bench.rows(120, split="train"))]
    manifest = bench.manifest(train + [{**row, "group": "g3"} for row in bench.rows(6, split="test")])
    with pytest.raises(InputError, match="g3"):
        choose_parts(manifest, FitConfig(seed=seed))


def test_validation_and_test_share_no_group(bench) -> None:
    rows = [{**row, "group": "shared"} for split in ("val", "test") for row in bench.rows(4, split=split)]
    with pytest.raises(InputError, match="shared"):
        choose_parts(bench.manifest(bench.rows(6, split="train") + rows), FitConfig())


def test_whole_groups_are_set_aside_and_every_label_stays(bench) -> None:
    rows = [{**row, "group": f"g{index // 3}"} for index, row in enumerate(bench.rows(30))]
    manifest = bench.manifest(rows)
    parts = choose_parts(manifest, FitConfig())
    assert parts.val is not None
    assert {v.group for v in parts.train}.isdisjoint({v.group for v in parts.val})
    assert parts.train.classes == manifest.classes
    assert 3 <= len(parts.val) <= 9
    assert parts.selection(1, 2).endswith(f"chosen on {len(parts.val)} validation videos set aside from train by group")
    assert ids(choose_parts(manifest, FitConfig()).val) == ids(parts.val)
    assert any(ids(choose_parts(manifest, FitConfig(seed=seed)).val) != ids(parts.val) for seed in range(1, 5))


def test_an_explicit_train_part_gets_no_split_val(bench) -> None:
    manifest = bench.manifest(bench.rows(12, split="train") + bench.rows(6, split="val"))
    parts = choose_parts(manifest, FitConfig(), train="split=train")
    assert ids(parts.val) < ids(manifest.where("split=train"))


@pytest.mark.parametrize(
    ("groups", "fraction", "match"),
    [
        (["g"] * 12, 0.2, "all of one group"),
        (["a-only"] * 6 + ["b-only"] * 6, 0.2, "without losing a label"),
        ([""] * 12, 0.0, "no validation part was asked for"),
    ],
)
def test_why_nothing_is_set_aside(bench, groups: list[str], fraction: float, match: str) -> None:
    rows = [
        {**row, "group": group, "labels": ("a" if index < 6 else "b",)}
        for index, (row, group) in enumerate(zip(bench.rows(12), groups, strict=True))
    ]
    parts = choose_parts(bench.manifest(rows), FitConfig(val_fraction=fraction))
    assert parts.val is None
    assert match in parts.selection(8, 8)


def test_a_group_on_both_sides_is_refused(bench) -> None:
    rows = [{**row, "group": "bird7"} for row in bench.rows(3, split="train") + bench.rows(3, split="test")]
    with pytest.raises(InputError, match=r"A group stays on one side; bird7 would be in train and in test"):
        choose_parts(bench.manifest(rows), FitConfig())


def test_a_video_on_both_sides_is_refused(bench) -> None:
    manifest = bench.manifest(bench.rows(6, domain="x", split="train") + bench.rows(6, domain="y", split="train"))
    with pytest.raises(InputError, match="would be in train and in test"):
        choose_parts(manifest, FitConfig(), tests=["domain=y"])
    with pytest.raises(InputError, match="would be in train and in val"):
        choose_parts(manifest, FitConfig(), train="split=train", val="domain=x")


def test_a_test_part_cannot_choose_the_epoch(bench) -> None:
    manifest = bench.manifest(bench.rows(6, split="train") + bench.rows(6, split="test"))
    with pytest.raises(InputError, match="A test part chooses nothing"):
        choose_parts(manifest, FitConfig(), val="split=test")


def test_nothing_left_to_train_on(bench) -> None:
    with pytest.raises(InputError, match="Nothing is left to train on"):
        choose_parts(bench.manifest(bench.rows(6, domain="x")), FitConfig(), tests=["domain=x"])
