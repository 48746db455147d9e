"""Bootstrap: how far a metric would move on other videos of the same kind, and whether two heads differ.

Axes: D draws, N videos, K classes, P positives.
"""

# ruff: noqa: N803, N806 - letters in names say the axes

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Bool, Float32, Float64

from actiondiff import InputError
from actiondiff.heads.metrics import Interval, Metrics, Predictions, measure, multi_hot

DRAWS = 1000
LEVEL = 0.95
SMALLEST_UNITS = 2
_CELLS_AT_ONCE = 1 << 24


@dataclass(frozen=True)
class Difference:
    """One metric of two heads on the same videos.

    Attributes:
        metric: its name.
        ours: of the first head.
        theirs: of the second.
        interval: 95 % interval of ours - theirs.
        p_value: two-sided, of no difference.
    """

    metric: str
    ours: float
    theirs: float
    interval: Interval
    p_value: float

    def to_dict(self) -> dict[str, Any]:
        """As JSON values."""
        return {
            "metric": self.metric,
            "ours": self.ours,
            "theirs": self.theirs,
            "difference": self.ours - self.theirs,
            "interval": self.interval.to_dict(),
            "p_value": self.p_value,
        }


def measure_with_intervals(
    predictions: Predictions, groups: Sequence[str] = (), *, draws: int = DRAWS, seed: int = 0
) -> Metrics:
    """Metrics of labelled predictions, with :func:`intervals`."""
    return replace(measure(predictions), intervals=intervals(predictions, groups, draws=draws, seed=seed))


def intervals(
    predictions: Predictions, groups: Sequence[str] = (), *, draws: int = DRAWS, seed: int = 0
) -> dict[str, Interval]:
    """95 % intervals of the headline metrics: what other videos of the same kind and number would give.

    Videos are drawn with replacement, whole groups at a time where there are groups, because videos of one animal or
    recording are not independent (Efron and Tibshirani 1993, chapters 8 and 13). A class that has no positive in a draw
    is left out of that draw's macro mean, as it is left out of the metric. The bounds are the draws' percentiles less
    the draws' bias: a positive that is drawn twice helps itself, which lifts the average precision of rare classes
    (measured: see the room's README).

    Args:
        predictions: labelled scores.
        groups: of each video; empty names, or no groups at all, make a video its own group.
        draws: how many samples.
        seed: the same seed gives the same interval.

    Returns:
        by metric; empty where there are fewer than two groups to draw from.
    """
    counts_DN = drawn_counts(len(predictions), groups, draws, seed)
    if counts_DN is None:
        return {}
    seen = _observed(predictions)
    drawn = resampled(predictions, counts_DN)
    found = {name: _interval(_unbiased(values_D, seen[name])) for name, values_D in drawn.items()}
    return {name: Interval(max(0.0, part.low), min(1.0, part.high)) for name, part in found.items()}


def differences(
    ours: Predictions, theirs: Predictions, groups: Sequence[str] = (), *, draws: int = DRAWS, seed: int = 0
) -> tuple[Difference, ...]:
    """Test two heads on the same videos with a paired bootstrap.

    Both heads are measured on the same drawn videos, so that what makes videos easy or hard for both falls out. A
    permutation test, which swaps the two heads' scores of a video, would ask for scores on one scale: mean average
    precision ranks videos against each other, and two heads' scores are not comparable. The p-value is twice the
    smaller share of draws on one side of 0, with the observed sample counted as one draw more; it cannot be below
    2 / (draws + 1).

    Args:
        ours: labelled scores of one head.
        theirs: of the other, of the same videos in the same order, over the same classes.
        groups: as for :func:`intervals`.
        draws: likewise.
        seed: likewise.

    Raises:
        InputError: other videos, labels or classes.
    """
    _check_same(ours, theirs)
    counts_DN = drawn_counts(len(ours), groups, draws, seed)
    if counts_DN is None:
        return ()
    seen = _observed(ours), _observed(theirs)
    drawn = resampled(ours, counts_DN), resampled(theirs, counts_DN)
    found = []
    for name in drawn[0]:
        one, other = seen[0][name], seen[1][name]
        apart_D = _unbiased(drawn[0][name] - drawn[1][name], one - other)
        found.append(Difference(name, one, other, _interval(apart_D), _p_value(apart_D)))
    return tuple(found)


def holm(p_values: Sequence[float]) -> tuple[float, ...]:
    """P-values corrected for their number (Holm 1979)."""
    corrected, highest = [0.0] * len(p_values), 0.0
    for rank, place in enumerate(sorted(range(len(p_values)), key=lambda index: p_values[index])):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[place]))
        corrected[place] = highest
    return tuple(corrected)


def drawn_counts(
    videos: int, groups: Sequence[str], draws: int, seed: int
) -> Float32[np.ndarray, "draws videos"] | None:
    """How often each video is in each draw; None for fewer than two groups."""
    named = groups or [""] * videos
    names = [name or f"\0{place}" for place, name in enumerate(named)]
    units, unit_N = np.unique(names, return_inverse=True)
    if len(units) < SMALLEST_UNITS:
        return None
    rng = np.random.default_rng(seed)
    counts_DU = rng.multinomial(len(units), np.full(len(units), 1 / len(units)), size=draws)
    return counts_DU.astype(np.float32)[:, unit_N]


def resampled(
    predictions: Predictions, counts_DN: Float32[np.ndarray, "draws videos"]
) -> dict[str, Float64[np.ndarray, " draws"]]:
    """Each headline metric of each draw, NaN where a draw leaves it undefined; without metrics that are not defined."""
    truth_NK, scores_NK = multi_hot(predictions.labels, predictions.classes), predictions.scores_NK
    found: dict[str, Float64[np.ndarray, " draws"]] = {}
    if not predictions.multilabel:
        hits_N = truth_NK[np.arange(len(truth_NK)), scores_NK.argmax(axis=1)]
        found["accuracy"] = counts_DN @ hits_N.astype(np.float64) / counts_DN.sum(axis=1, dtype=np.float64)
    present = np.flatnonzero(truth_NK.any(axis=0))
    if len(present):
        each = [weighted_average_precision(scores_NK[:, k], truth_NK[:, k], counts_DN) for k in present]
        found["map_macro"] = _mean_of_defined(np.stack(each, axis=1))
        found["map_micro"] = weighted_average_precision(
            scores_NK.ravel(), truth_NK.ravel(), counts_DN, classes=truth_NK.shape[1]
        )
    return found


def weighted_average_precision(
    scores: Float64[np.ndarray, " items"],
    truth: Bool[np.ndarray, " items"],
    counts_DN: Float32[np.ndarray, "draws videos"],
    classes: int = 1,
) -> Float64[np.ndarray, " draws"]:
    """Average precision of one ranking in which every video counts as often as it was drawn; ties count as one step.

    Args:
        scores: of the items.
        truth: which of them are positive.
        counts_DN: how often each video is in each draw.
        classes: items a video has, one after another.

    Returns:
        NaN for draws without a positive.
    """
    order = np.argsort(-scores, kind="stable")
    ranked = scores[order]
    last_of_tie = np.searchsorted(-ranked, -ranked, side="right") - 1
    positives_P = np.flatnonzero(truth[order])
    at_P = last_of_tie[positives_P]
    hits_at_P = np.searchsorted(positives_P, at_P, side="right") - 1
    video_of = order // classes
    result = np.full(len(counts_DN), np.nan)
    step = max(1, _CELLS_AT_ONCE // len(scores))
    for start in range(0, len(counts_DN), step):
        part_DN = counts_DN[start : start + step]
        all_DP = np.cumsum(part_DN[:, video_of], axis=1)[:, at_P]
        own_DP = part_DN[:, video_of[positives_P]].astype(np.float64)
        hits_DP = np.cumsum(own_DP, axis=1)
        precision_DP = np.divide(hits_DP[:, hits_at_P], all_DP, out=np.zeros_like(own_DP), where=all_DP > 0)
        total_D = own_DP.sum(axis=1)
        summed_D = (own_DP * precision_DP).sum(axis=1)
        np.divide(summed_D, total_D, out=result[start : start + step], where=total_D > 0)
    return result


def _mean_of_defined(values_DK: Float64[np.ndarray, "draws classes"]) -> Float64[np.ndarray, " draws"]:
    defined = ~np.isnan(values_DK)
    total = np.where(defined, values_DK, 0.0).sum(axis=1)
    counts = defined.sum(axis=1)
    return np.divide(total, counts, out=np.full(len(total), np.nan), where=counts > 0)


def _observed(predictions: Predictions) -> dict[str, float]:
    once_1N = np.ones((1, len(predictions)), dtype=np.float32)
    return {name: float(values[0]) for name, values in resampled(predictions, once_1N).items()}


def _unbiased(values_D: Float64[np.ndarray, " draws"], observed: float) -> Float64[np.ndarray, " draws"]:
    return values_D - (np.nanmean(values_D) - observed)


def _interval(values_D: Float64[np.ndarray, " draws"]) -> Interval:
    tail = (1 - LEVEL) / 2
    low, high = np.nanquantile(values_D, [tail, 1 - tail])
    return Interval(float(low), float(high))


def _p_value(differences_D: Float64[np.ndarray, " draws"]) -> float:
    defined = differences_D[~np.isnan(differences_D)]
    smaller = min((defined <= 0).sum(), (defined >= 0).sum())
    return float(min(1.0, 2 * (1 + smaller) / (1 + len(defined))))


def _check_same(ours: Predictions, theirs: Predictions) -> None:
    for what, one, other in (
        ("videos", ours.video_ids, theirs.video_ids),
        ("labels", ours.labels, theirs.labels),
        ("classes", ours.classes, theirs.classes),
        ("kind (one label or several)", ours.multilabel, theirs.multilabel),
    ):
        if one != other:
            raise InputError(f"Two heads are compared on the same videos, labels and classes; their {what} differ.")
