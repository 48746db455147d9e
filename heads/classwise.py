"""A result class by class: average precision with support, and which label was taken for which.

Axes: N videos, K classes, L labels (classes, and labels that the head never saw).
"""

# ruff: noqa: N806, N815 - letters in names say the axes

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from jaxtyping import Int64

from actiondiff.heads.bootstrap import weighted_average_precision
from actiondiff.heads.metrics import Predictions, multi_hot


@dataclass(frozen=True)
class ClassResult:
    """How one class does.

    Attributes:
        name: the class.
        support: videos that have it.
        average_precision: the class against all others; None without a video that has it.
        predicted: how often it was the best class; None where videos can have several labels.
        recall: share of its videos whose best class it is; None likewise, or without support.
        precision: share of the videos it is best for that have it; None likewise, or where it is never best.
    """

    name: str
    support: int
    average_precision: float | None
    predicted: int | None = None
    recall: float | None = None
    precision: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """As JSON values."""
        return asdict(self)


@dataclass(frozen=True, eq=False)
class Confusion:
    """How often videos of a label (row) got a class (column) as their best.

    Attributes:
        labels: of the rows: the classes, behind them labels that the head never saw.
        classes: of the columns.
        counts_LK: numbers of videos.
    """

    labels: tuple[str, ...]
    classes: tuple[str, ...]
    counts_LK: Int64[np.ndarray, "labels classes"]

    def mistakes(self, count: int) -> tuple[tuple[str, str, int], ...]:
        """The most frequent mistakes: true label, class taken, times; most frequent first."""
        found = [
            (label, name, int(self.counts_LK[row, column]))
            for row, label in enumerate(self.labels)
            for column, name in enumerate(self.classes)
            if label != name and self.counts_LK[row, column]
        ]
        return tuple(sorted(found, key=lambda mistake: -mistake[2])[:count])

    def to_dict(self) -> dict[str, Any]:
        """As JSON values."""
        return {"labels": list(self.labels), "classes": list(self.classes), "counts": self.counts_LK.tolist()}


def class_results(predictions: Predictions) -> tuple[ClassResult, ...]:
    """One result a class, in the order of the classes."""
    truth_NK, scores_NK = multi_hot(predictions.labels, predictions.classes), predictions.scores_NK
    one = np.ones((1, len(predictions)), dtype=np.float32)
    best_N = scores_NK.argmax(axis=1)
    results = []
    for k, name in enumerate(predictions.classes):
        support = int(truth_NK[:, k].sum())
        precision = float(weighted_average_precision(scores_NK[:, k], truth_NK[:, k], one)[0]) if support else None
        if predictions.multilabel:
            results.append(ClassResult(name, support, precision))
            continue
        taken, hits = int((best_N == k).sum()), int(truth_NK[best_N == k, k].sum())
        results.append(ClassResult(name, support, precision, taken, _share(hits, support), _share(hits, taken)))
    return tuple(results)


def best_first(results: Iterable[ClassResult]) -> list[ClassResult]:
    """Classes in the order of their average precision; those without a video last."""
    return sorted(results, key=lambda result: (result.average_precision is None, -(result.average_precision or 0.0)))


def confusion(predictions: Predictions) -> Confusion | None:
    """Labels against best classes; None where videos can have several labels, as then no class is taken for another."""
    if predictions.multilabel:
        return None
    unseen = sorted({label for row in predictions.labels for label in row} - set(predictions.classes))
    labels = (*predictions.classes, *unseen)
    rows = {label: row for row, label in enumerate(labels)}
    counts_LK = np.zeros((len(labels), len(predictions.classes)), dtype=np.int64)
    for row, column in zip(predictions.labels, predictions.scores_NK.argmax(axis=1), strict=True):
        for label in row:
            counts_LK[rows[label], column] += 1
    return Confusion(labels, predictions.classes, counts_LK)


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None
