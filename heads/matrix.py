"""What a transfer found: tidy rows, matrices over them beside their baselines, a table for the terminal."""

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float64

from actiondiff.heads.correlations import Relation, relations
from actiondiff.heads.metrics import METRIC_NAMES
from actiondiff.heads.tables import aligned, number

Matrix = Float64[np.ndarray, "train test"]
LEVEL = 0.95
DOMAINS_SHOWN = 8
"""Domains up to which the terminal shows whole matrices."""

BASELINES = {
    "most_frequent": "most frequent label",
    "prior_guess": "label drawn by its share in training",
    "naive_bayes": "naive Bayes",
}
"""Columns of a row that hold a baseline, and their names for people. Only naive Bayes looks at features."""


@dataclass(frozen=True)
class TransferRow:
    """One cell of one matrix for one seed.

    Attributes:
        head: kind of head.
        features: name of the source.
        seed: of the training.
        train: domain trained on.
        test: domain tested on.
        videos: how many were scored.
        accuracy: None where videos can have several labels.
        map_macro: mean over classes of average precision.
        map_micro: average precision over all (video, class) pairs.
        chance: 1 / classes; for several labels the ``map_macro`` of a random order.
        most_frequent: what scoring by label frequency in training gets: accuracy, or ``map_macro`` for several labels.
        prior_guess: expected accuracy of drawing labels by their share in training; None for several labels.
        naive_bayes: what Gaussian naive Bayes on mean features gets: accuracy, or ``map_macro`` for several labels.
    """

    head: str
    features: str
    seed: int
    train: str
    test: str
    videos: int
    accuracy: float | None
    map_macro: float | None
    map_micro: float | None
    chance: float
    most_frequent: float
    prior_guess: float | None
    naive_bayes: float


@dataclass(frozen=True, eq=False)
class TransferResult:
    """All cells of all heads, sources and seeds.

    Attributes:
        rows: one a cell and seed.
        domains: names, in the order of the matrices' rows and columns.
        by: the manifest's column.
        how: in words, how training and test rows were told apart.
        label_correlation: of label frequencies, train domain down, test domain across; NaN where it is not defined.
        notes: what the user should know, in sentences.
        details: settings of the heads and recipes of the sources, as JSON values.
    """

    rows: tuple[TransferRow, ...]
    domains: tuple[str, ...]
    by: str
    how: str
    label_correlation: Matrix
    notes: tuple[str, ...] = ()
    details: dict[str, Any] = field(default_factory=dict)

    @property
    def metric(self) -> str:
        """The metric of matrices: ``accuracy`` for one label, ``map_macro`` for several."""
        return "map_macro" if any(row.accuracy is None for row in self.rows) else "accuracy"

    @property
    def pairs(self) -> tuple[tuple[str, str], ...]:
        """Every (features, head) there is a matrix of."""
        return tuple(dict.fromkeys((row.features, row.head) for row in self.rows))

    @property
    def sources(self) -> tuple[str, ...]:
        """Names of the features."""
        return tuple(dict.fromkeys(row.features for row in self.rows))

    @property
    def seeds(self) -> int:
        """How many seeds each cell has."""
        return len({row.seed for row in self.rows})

    @property
    def chance(self) -> Matrix:
        """What guessing gets in each cell."""
        return self.mean(*self.pairs[0], "chance")

    @property
    def most_frequent(self) -> Matrix:
        """What always saying the most frequent training label gets in each cell."""
        return self.mean(*self.pairs[0], "most_frequent")

    def baseline(self, name: str, features: str | None = None) -> Matrix:
        """A baseline of :data:`BASELINES` in each cell, mean over seeds; ``features`` matter to naive Bayes only."""
        pair = next(pair for pair in self.pairs if features in (None, pair[0]))
        return self.mean(*pair, name)

    def mean(self, features: str, head: str, metric: str | None = None) -> Matrix:
        """Mean over seeds, a row for each training domain, a column for each test domain; NaN where not defined."""
        return self._cells(metric or self.metric, features, head).mean(axis=0)

    def deviation(self, features: str, head: str, metric: str | None = None) -> Matrix:
        """Standard deviation over seeds (of a sample: n - 1); NaN for one seed."""
        cells = self._cells(metric or self.metric, features, head)
        return cells.std(axis=0, ddof=1) if len(cells) > 1 else np.full(cells.shape[1:], np.nan)

    def half_width(self, features: str, head: str, metric: str | None = None) -> Matrix:
        """Half of the 95 % interval of the mean over seeds, by Student's t; NaN for one seed.

        A seed draws weights, order and folds. The interval says how well the mean over seeds is known, not what other
        videos would give.
        """
        from scipy.stats import t

        seeds = len(self._cells("chance", features, head))
        if seeds < 2:
            return np.full((len(self.domains), len(self.domains)), np.nan)
        quantile = float(t.ppf((1 + LEVEL) / 2, seeds - 1))
        return quantile * self.deviation(features, head, metric) / np.sqrt(seeds)

    def relations(self, features: str, head: str) -> tuple[Relation, Relation]:
        """How a head's matrix goes with the label correlation."""
        return relations(self.mean(features, head), self.label_correlation)

    def table(self) -> str:
        """For the terminal: rows train, columns test, the baselines below, then the label correlation.

        Matrices that are too wide for a terminal are told by their means on and off the diagonal.
        """
        small = len(self.domains) <= DOMAINS_SHOWN
        columns = [f"test {name}" for name in self.domains] if small else ["same domain", "another domain"]
        lines = [["features", "head", f"train {self.by}", *columns]]
        add = self._lines if small else self._line_of_means
        for features, head in self.pairs:
            lines += add(features, head, self.mean(features, head), self.half_width(features, head))
        for source in self.sources:
            lines += add(source, BASELINES["naive_bayes"], self.baseline("naive_bayes", source))
        lines += add("(none)", BASELINES["most_frequent"], self.most_frequent)
        if self.metric == "accuracy":
            lines += add("(none)", BASELINES["prior_guess"], self.baseline("prior_guess"))
        lines += (
            self._line_of_means("(none)", "chance", self.chance)
            if not small
            else [["(none)", "chance", "(any)", *(number(value) for value in self.chance.mean(axis=0))]]
        )
        if small:
            lines.append(["(none)", "videos scored", "(any)", *self._videos_scored()])
        return "\n".join([self.caption(), *self.notes, "", *aligned(lines, 3), "", *self._label_lines(small)])

    def caption(self) -> str:
        """What the numbers are."""
        spread = f"mean ± half of the 95 % interval over {self.seeds} seeds" if self.seeds > 1 else "one seed"
        return f"{METRIC_NAMES[self.metric]}, {spread}; {self.how}"

    def write(self, out: str | Path) -> Path:
        """Write tables and pictures into a new folder: see :func:`actiondiff.heads.transfer_files.write_transfer`.

        Raises:
            InputError: ``out`` is taken.
        """
        from actiondiff.heads.transfer_files import write_transfer

        return write_transfer(self, out)

    def to_dict(self) -> dict[str, Any]:
        """Settings, recipes, notes, matrices and rows as JSON values."""
        return {
            **self.details,
            "metric": self.metric,
            "domains": list(self.domains),
            "notes": list(self.notes),
            "label_correlation": as_json(self.label_correlation),
            "matrices": [
                {
                    "features": features,
                    "head": head,
                    "mean": as_json(self.mean(features, head)),
                    "half_width": as_json(self.half_width(features, head)),
                    "naive_bayes": as_json(self.baseline("naive_bayes", features)),
                    "relations": [relation.to_dict() for relation in self.relations(features, head)],
                }
                for features, head in self.pairs
            ],
            "rows": [asdict(row) for row in self.rows],
        }

    def _lines(self, features: str, head: str, mean: Matrix, half_width: Matrix | None = None) -> list[list[str]]:
        spread = np.full(mean.shape, np.nan) if half_width is None else half_width
        return [
            [features, head, name, *(_shown(*cell) for cell in zip(mean[row], spread[row], strict=True))]
            for row, name in enumerate(self.domains)
        ]

    def _videos_scored(self) -> list[str]:
        """Of each test domain; from the fewest to the most where training domains differ, as by folds they may."""
        cells = self._cells("videos", *self.pairs[0]).reshape(-1, len(self.domains))
        fewest, most = cells.min(axis=0).astype(int), cells.max(axis=0).astype(int)
        return [str(low) if low == high else f"{low}-{high}" for low, high in zip(fewest, most, strict=True)]

    def _line_of_means(
        self, features: str, head: str, mean: Matrix, half_width: Matrix | None = None
    ) -> list[list[str]]:
        same = np.eye(len(mean), dtype=bool)
        return [[features, head, "(mean)", number(np.nanmean(mean[same])), number(np.nanmean(mean[~same]))]]

    def _label_lines(self, small: bool) -> list[str]:
        if np.isnan(self.label_correlation).all():
            return ["labels are equally frequent in training or in test rows: no correlation with them is defined"]
        rows = [["label correlation", *(f"test {name}" for name in self.domains)]]
        rows += [
            [f"train {name}", *map(number, row)] for name, row in zip(self.domains, self.label_correlation, strict=True)
        ]
        related = [["features", "head", "cells", "count", "Pearson", "Spearman"]]
        for features, head in self.pairs:
            related += [
                [features, head, part.cells, str(part.count), number(part.pearson), number(part.spearman)]
                for part in self.relations(features, head)
            ]
        told = f"{METRIC_NAMES[self.metric]} against label correlation:"
        return [*([*aligned(rows), ""] if small else []), told, *aligned(related, 3)]

    def _cells(self, name: str, features: str, head: str) -> Float64[np.ndarray, "seeds train test"]:
        """One matrix a seed; a metric that is not defined is NaN."""
        rows = [row for row in self.rows if (row.features, row.head) == (features, head)]
        seeds = sorted({row.seed for row in rows})
        cells = np.full((len(seeds), len(self.domains), len(self.domains)), np.nan)
        for row in rows:
            place = seeds.index(row.seed), self.domains.index(row.train), self.domains.index(row.test)
            value = getattr(row, name)
            cells[place] = np.nan if value is None else value
        return cells


def as_json(matrix: Matrix) -> list[list[float | None]]:
    """A matrix as lists, None for NaN."""
    return [[None if np.isnan(value) else float(value) for value in row] for row in matrix]


def _shown(value: float, half_width: float) -> str:
    return number(value) if np.isnan(half_width) else f"{number(value)} ± {half_width:.3f}"
