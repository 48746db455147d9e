"""Splits videos so that a group never straddles two parts and every part looks alike by label.

Both functions give whole groups out greedily, the largest first. Finding the best split is a packing problem; the
greedy one is exact where every video is a group of its own and close to it where groups are many.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Int

from actiondiff import InputError
from actiondiff.manifests.video import LABEL_SEPARATOR

MIN_PARTS = 2


def grouped_folds(groups: Sequence[str], labels: Sequence[str], folds: int, seed: int) -> list[Int[np.ndarray, " _"]]:
    """Split videos into folds, stratified by label, with every group inside one fold.

    Args:
        groups: group of each video; an empty one makes the video its own group.
        labels: label of each video; several joined by `;` count one by one.
        folds: how many parts, 2 or more.
        seed: decides among equals; the same seed gives the same folds.

    Returns:
        Sorted indices of each fold; together they hold every video once, and no fold is empty.

    Raises:
        InputError: fewer groups than folds, or lengths that differ.
    """
    members, counts = _counted_groups(groups, labels)
    if not MIN_PARTS <= folds <= len(members):
        raise InputError(
            f"{folds} folds cannot be made of {len(members)} groups ({len(groups)} videos): there must be 2 folds or "
            "more, and a group for each. Ask for fewer folds, or give the videos finer groups."
        )
    rng = np.random.default_rng(seed)
    total, per_fold = counts.sum(axis=0), np.zeros((folds, counts.shape[1]), dtype=np.int64)
    # Without a drawn order among equal folds, the first fold would always get the odd video.
    rank = rng.permutation(folds)
    chosen: list[list[int]] = [[] for _ in range(folds)]
    for group in _largest_first(counts, rng):
        fold = _emptiest_fold(per_fold, counts[group], total, rank)
        per_fold[fold] += counts[group]
        chosen[fold].extend(members[group])
    return [np.sort(np.array(indices, dtype=np.int64)) for indices in chosen]


def grouped_holdout(
    groups: Sequence[str], labels: Sequence[str], fraction: float, seed: int
) -> Int[np.ndarray, " held_out"]:
    """Hold whole groups out, about the same fraction of every label.

    A label is never held out entirely, so that what remains can be learned from, unless every group is the only one of
    some label; then the one group is held out that empties the fewest.

    Args:
        groups: group of each video; an empty one makes the video its own group.
        labels: label of each video; several joined by `;` count one by one.
        fraction: the part to hold out, between 0 and 1.
        seed: decides among equals; the same seed gives the same part.

    Returns:
        Sorted indices of the held-out videos: at least one group, never all of them.

    Raises:
        InputError: fewer than two groups, a fraction outside (0, 1), or lengths that differ.
    """
    if not 0 < fraction < 1:
        raise InputError(f"The held-out fraction must lie between 0 and 1; {fraction} came. Take 0.2, for example.")
    members, counts = _counted_groups(groups, labels)
    if len(members) < MIN_PARTS:
        raise InputError(
            f"Holding out takes at least two groups; there are {len(members)} ({len(groups)} videos). "
            "Give the videos finer groups, or name a split of your own."
        )
    order = _largest_first(counts, np.random.default_rng(seed))
    held = _greedily_held(counts, order, fraction) or [_least_harmful(counts, order, fraction)]
    return np.sort(np.array([index for group in held for index in members[group]], dtype=np.int64))


def _counted_groups(
    groups: Sequence[str], labels: Sequence[str]
) -> tuple[list[list[int]], Int[np.ndarray, "groups labels_and_all"]]:
    """Members of each group, and how often it holds each label, with its size in the last column."""
    if len(groups) != len(labels):
        raise InputError(f"Every video needs a group and a label; {len(groups)} groups and {len(labels)} labels came.")
    by_name: dict[str | int, list[int]] = {}
    for index, group in enumerate(groups):
        by_name.setdefault(group or index, []).append(index)
    members = list(by_name.values())
    names = [label.split(LABEL_SEPARATOR) for label in labels]
    column = {name: place for place, name in enumerate(sorted({name for row in names for name in row}))}
    counts = np.zeros((len(members), len(column) + 1), dtype=np.int64)
    for place, indices in enumerate(members):
        np.add.at(counts[place], [column[name] for index in indices for name in names[index]], 1)
        counts[place, -1] = len(indices)
    return members, counts


def _largest_first(counts: Int[np.ndarray, "groups labels_and_all"], rng: np.random.Generator) -> list[int]:
    shuffled = rng.permutation(len(counts))
    by_size: list[int] = shuffled[np.argsort(-counts[shuffled, -1], kind="stable")].tolist()
    return by_size


def _emptiest_fold(
    per_fold: Int[np.ndarray, "folds labels_and_all"],
    group: Int[np.ndarray, " labels_and_all"],
    total: Int[np.ndarray, " labels_and_all"],
    rank: Int[np.ndarray, " folds"],
) -> int:
    """The fold that has least of the group's labels, as shares of all there are; then the smallest, then the drawn."""
    present = np.flatnonzero(group[:-1])
    share = group[present] / total[present]
    # Rounded, so that the last bit of a sum does not decide what the seed should.
    cost = (per_fold[:, present] * share).sum(axis=1).round(9)
    return int(np.lexsort((rank, per_fold[:, -1], cost))[0])


def _greedily_held(counts: Int[np.ndarray, "groups labels_and_all"], order: list[int], fraction: float) -> list[int]:
    total, taken = counts.sum(axis=0), np.zeros(counts.shape[1], dtype=np.int64)
    held: dict[int, None] = {}
    # First every label for itself; then, where labels are too rare to give any, the size of the whole counts as well.
    for columns in (slice(None, -1), slice(None)):
        for group in [group for group in order if group not in held]:
            counted = (counts[group][columns], taken[columns], total[columns])
            if not _emptied(counts[group], total - taken) and _worsening(*counted, fraction) < 0:
                taken += counts[group]
                held[group] = None
    return list(held)


def _least_harmful(counts: Int[np.ndarray, "groups labels_and_all"], order: list[int], fraction: float) -> int:
    total = counts.sum(axis=0)
    none = np.zeros_like(total)
    return min(order, key=lambda g: (_emptied(counts[g], total), _worsening(counts[g], none, total, fraction)))


def _emptied(group: Int[np.ndarray, " labels_and_all"], remaining: Int[np.ndarray, " labels_and_all"]) -> int:
    return int(((group > 0) & (group == remaining)).sum())


def _worsening(
    group: Int[np.ndarray, " counted"],
    taken: Int[np.ndarray, " counted"],
    total: Int[np.ndarray, " counted"],
    fraction: float,
) -> float:
    """Growth of the squared distance from the wanted counts, each label weighed by how rare it is."""
    growth = group * (2 * (taken - fraction * total) + group)
    return float((growth / total).sum().round(9))
