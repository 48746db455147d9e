"""Does a head transfer better between domains whose labels are alike? Label frequencies against the matrix."""

import warnings
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from jaxtyping import Float64

from actiondiff.heads.domains import Domains
from actiondiff.manifests import Manifest

FEWEST_CELLS = 3


@dataclass(frozen=True)
class Relation:
    """How a matrix goes with the label correlation of its domains.

    Attributes:
        cells: ``all``, or ``off the diagonal``, where train and test domain differ.
        count: cells with both values.
        pearson: correlation of the values; None for fewer than three cells, or where all are equal.
        spearman: correlation of their ranks; likewise.
    """

    cells: str
    count: int
    pearson: float | None
    spearman: float | None

    def to_dict(self) -> dict[str, Any]:
        """As JSON values."""
        return asdict(self)


def label_correlations(domains: Domains) -> Float64[np.ndarray, "train test"]:
    """Pearson correlation over labels: how often each comes in a domain's training rows and in another's test rows.

    Where folds take turns both are all rows of the domain, and the diagonal is 1. NaN where a domain has every label
    equally often, as then no correlation is defined.
    """
    labels = sorted({label for rows in domains.rows.values() for label in rows.classes})
    train = [_frequencies(domains.training(name), labels) for name in domains.names]
    test = [_frequencies(domains.testing(name), labels) for name in domains.names]
    return np.array([[_pearson(one, other) for other in test] for one in train])


def relations(
    matrix: Float64[np.ndarray, "train test"], labels: Float64[np.ndarray, "train test"]
) -> tuple[Relation, Relation]:
    """A matrix against the label correlations, over all cells and off the diagonal.

    Without p-values: cells of a row share their head and cells of a column their videos, so they are not independent.
    """
    off = ~np.eye(len(matrix), dtype=bool)
    return _relation("all", matrix.ravel(), labels.ravel()), _relation("off the diagonal", matrix[off], labels[off])


def _relation(cells: str, values: Float64[np.ndarray, " _"], labels: Float64[np.ndarray, " _"]) -> Relation:
    from scipy.stats import spearmanr

    defined = ~(np.isnan(values) | np.isnan(labels))
    one, other = values[defined], labels[defined]
    if len(one) < FEWEST_CELLS:
        return Relation(cells, len(one), None, None)
    pearson = _pearson(one, other)
    if np.isnan(pearson):
        return Relation(cells, len(one), None, None)
    return Relation(cells, len(one), pearson, float(spearmanr(one, other).statistic))


def _frequencies(rows: Manifest, labels: Sequence[str]) -> Float64[np.ndarray, " labels"]:
    counts = dict.fromkeys(labels, 0)
    for video in rows:
        for label in video.labels:
            counts[label] += 1
    return np.array([counts[label] for label in labels], dtype=np.float64) / max(1, len(rows))


def _pearson(one: Float64[np.ndarray, " _"], other: Float64[np.ndarray, " _"]) -> float:
    if len(one) < 2 or np.ptp(one) < 1e-12 or np.ptp(other) < 1e-12:
        return float("nan")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        return float(np.clip(np.corrcoef(one, other)[0, 1], -1, 1))
