from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from actiondiff import InputError
from actiondiff.manifests import grouped_folds, grouped_holdout

names = st.sampled_from(["", "g1", "g2", "g3", "g4", "g5", "g6"])
label = st.sampled_from(["hug", "push", "punch", "hug;push", ""])
rows = st.lists(st.tuples(names, label), min_size=1, max_size=40)
seeds = st.integers(0, 2**32)


def own_groups(groups: list[str]) -> list[str]:
    return [group or f"video {index}" for index, group in enumerate(groups)]


def unzip(drawn: list[tuple[str, str]]) -> tuple[list[str], list[str]]:
    return [group for group, _ in drawn], [label for _, label in drawn]


@settings(max_examples=80, deadline=None)
@given(rows, st.integers(2, 5), seeds)
def test_folds_cover_every_video_once_and_never_part_a_group(
    drawn: list[tuple[str, str]], folds: int, seed: int
) -> None:
    groups, labels = unzip(drawn)
    owners = own_groups(groups)
    if len(set(owners)) < folds:
        with pytest.raises(InputError, match="groups"):
            grouped_folds(groups, labels, folds, seed)
        return
    parts = grouped_folds(groups, labels, folds, seed)
    assert len(parts) == folds
    assert sorted(np.concatenate(parts).tolist()) == list(range(len(groups)))
    assert all(len(part) for part in parts)
    homes = [{owners[index] for index in part} for part in parts]
    assert sum(len(home) for home in homes) == len(set(owners))
    again = grouped_folds(groups, labels, folds, seed)
    assert all(np.array_equal(one, other) for one, other in zip(parts, again, strict=True))


@settings(max_examples=60, deadline=None)
@given(st.lists(st.sampled_from(["hug", "push", "punch"]), min_size=5, max_size=60), st.integers(2, 5), seeds)
def test_without_groups_every_label_is_spread_evenly(labels: list[str], folds: int, seed: int) -> None:
    parts = grouped_folds([""] * len(labels), labels, folds, seed)
    for name in set(labels):
        counts = [sum(labels[index] == name for index in part) for part in parts]
        assert max(counts) - min(counts) <= 1


def test_groups_of_unlike_size_still_give_like_folds() -> None:
    rng = np.random.default_rng(0)
    groups = [f"g{index}" for index in range(40) for _ in range(rng.integers(1, 8))]
    labels = rng.choice(["hug", "push", "punch"], size=len(groups), p=[0.6, 0.3, 0.1]).tolist()
    parts = grouped_folds(groups, labels, 4, seed=1)
    total = Counter(labels)
    for part in parts:
        here = Counter(labels[index] for index in part)
        assert all(0.15 < here[name] / total[name] < 0.35 for name in total)


def test_another_seed_gives_other_folds() -> None:
    labels = ["hug", "push"] * 20
    first, second = (grouped_folds([""] * 40, labels, 4, seed)[0].tolist() for seed in (0, 1))
    assert first != second


@pytest.mark.parametrize("folds", [0, 1, 4])
def test_fewer_groups_than_folds_are_refused(folds: int) -> None:
    with pytest.raises(InputError, match="3 groups"):
        grouped_folds(["a", "b", "b", ""], ["x"] * 4, folds, 0)


@settings(max_examples=80, deadline=None)
@given(rows, st.floats(0.05, 0.95), seeds)
def test_a_holdout_never_parts_a_group_and_leaves_every_label_that_it_can(
    drawn: list[tuple[str, str]], fraction: float, seed: int
) -> None:
    groups, labels = unzip(drawn)
    owners = own_groups(groups)
    if len(set(owners)) < 2:
        with pytest.raises(InputError, match="at least two groups"):
            grouped_holdout(groups, labels, fraction, seed)
        return
    held = grouped_holdout(groups, labels, fraction, seed).tolist()
    kept = sorted(set(range(len(groups))) - set(held))
    assert held
    assert kept
    assert held == sorted(set(held))
    assert not {owners[index] for index in held} & {owners[index] for index in kept}
    assert held == grouped_holdout(groups, labels, fraction, seed).tolist()
    if any(spares(owners, labels, owner) for owner in owners):
        assert every_label(labels, kept) == every_label(labels, range(len(labels)))


def every_label(labels: list[str], indices: list[int] | range) -> set[str]:
    return {name for index in indices for name in labels[index].split(";")}


def spares(owners: list[str], labels: list[str], owner: str) -> bool:
    rest = [index for index, other in enumerate(owners) if other != owner]
    return every_label(labels, rest) == every_label(labels, range(len(labels)))


def test_a_holdout_is_about_the_fraction_of_every_label() -> None:
    labels = ["hug"] * 50 + ["push"] * 20 + ["punch"] * 10
    held = grouped_holdout([""] * 80, labels, 0.2, seed=3)
    assert Counter(labels[index] for index in held) == {"hug": 10, "push": 4, "punch": 2}


def test_a_holdout_keeps_its_size_where_every_label_is_rare() -> None:
    labels = [f"label {index // 2}" for index in range(20)]
    assert len(grouped_holdout([""] * 20, labels, 0.2, seed=0)) in (3, 4)


@pytest.mark.parametrize("fraction", [0.0, 1.0, -0.1, float("nan")])
def test_a_fraction_that_is_none_is_refused(fraction: float) -> None:
    with pytest.raises(InputError, match="between 0 and 1"):
        grouped_holdout(["", ""], ["x", "x"], fraction, 0)


def test_lengths_that_differ_are_refused() -> None:
    with pytest.raises(InputError, match="2 groups and 1 labels"):
        grouped_folds(["a", "b"], ["x"], 2, 0)
