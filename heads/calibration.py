"""Calibration: whether scores can be read as probabilities.

Axes: N videos, K classes.
"""

# ruff: noqa: N806 - letters in names say the axes

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from actiondiff.heads.metrics import Predictions, multi_hot

BINS = 15


@dataclass(frozen=True)
class Bin:
    """Scores between two bounds.

    Attributes:
        low: bound that is not in the bin (but 0 is in the first).
        high: bound that is.
        count: scores in the bin.
        confidence: their mean; None for an empty bin.
        accuracy: share of them that are right; None likewise.
    """

    low: float
    high: float
    count: int
    confidence: float | None
    accuracy: float | None


@dataclass(frozen=True)
class Calibration:
    """Scores against how often they are right.

    Attributes:
        bins: of equal width.
        error: expected calibration error: mean distance of confidence and accuracy, bins weighted by their counts.
        of: in words, what is counted.
    """

    bins: tuple[Bin, ...]
    error: float
    of: str

    def to_dict(self) -> dict[str, Any]:
        """As JSON values."""
        return {"expected_calibration_error": self.error, "of": self.of, "bins": [asdict(part) for part in self.bins]}


def calibration(predictions: Predictions, bins: int = BINS) -> Calibration:
    """Measure calibration as Guo et al. (2017) do.

    With one label a video the score of its best class is compared with whether that is the label; with several, every
    score of every class with whether the video has it.
    """
    truth_NK, scores_NK = multi_hot(predictions.labels, predictions.classes), predictions.scores_NK
    if predictions.multilabel:
        scores, right, of = scores_NK.ravel(), truth_NK.ravel(), "every score of every class"
    else:
        best_N = scores_NK.argmax(axis=1)
        rows = np.arange(len(best_N))
        scores, right, of = scores_NK[rows, best_N], truth_NK[rows, best_N], "the best class's score of each video"
    bounds = np.linspace(0, 1, bins + 1)
    place = np.clip(np.searchsorted(bounds, scores, side="left") - 1, 0, bins - 1)
    counts = np.bincount(place, minlength=bins)
    sums = np.bincount(place, scores, bins), np.bincount(place, right.astype(np.float64), bins)
    confidence, accuracy = (np.divide(part, counts, out=np.zeros(bins), where=counts > 0) for part in sums)
    error = float((counts * np.abs(confidence - accuracy)).sum() / max(1, counts.sum()))
    made = tuple(
        Bin(
            float(bounds[b]),
            float(bounds[b + 1]),
            int(counts[b]),
            float(confidence[b]) if counts[b] else None,
            float(accuracy[b]) if counts[b] else None,
        )
        for b in range(bins)
    )
    return Calibration(made, error, of)
