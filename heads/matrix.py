"""What a transfer found: tidy rows, matrices over them, a table for the terminal, a CSV and a picture."""

import csv
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float64

from actiondiff.heads.folders import new_folder, write_json
from actiondiff.heads.pictures import Panel, draw_matrices

Matrix = Float64[np.ndarray, "train test"]


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


@dataclass(frozen=True)
class TransferResult:
    """All cells of all heads, sources and seeds.

    Attributes:
        rows: one a cell and seed.
        domains: names, in the order of the matrices' rows and columns.
        by: the manifest's column.
        how: in words, how training and test rows were told apart.
        notes: what the user should know, in sentences.
        details: settings of the heads and recipes of the sources, as JSON values.
    """

    rows: tuple[TransferRow, ...]
    domains: tuple[str, ...]
    by: str
    how: str
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
    def seeds(self) -> int:
        """How many seeds each cell has."""
        return len({row.seed for row in self.rows})

    @property
    def chance(self) -> Matrix:
        """What guessing gets in each cell."""
        return self._mean("chance", *self.pairs[0])

    @property
    def most_frequent(self) -> Matrix:
        """What always saying the most frequent training label gets in each cell."""
        return self._mean("most_frequent", *self.pairs[0])

    def mean(self, features: str, head: str, metric: str | None = None) -> Matrix:
        """Mean over seeds, a row for each training domain, a column for each test domain."""
        return self._mean(metric or self.metric, features, head)

    def deviation(self, features: str, head: str, metric: str | None = None) -> Matrix:
        """Standard deviation over seeds (of a sample: n - 1); NaN for one seed."""
        cells = self._cells(metric or self.metric, features, head)
        return cells.std(axis=0, ddof=1) if len(cells) > 1 else np.full(cells.shape[1:], np.nan)

    def table(self) -> str:
        """For the terminal: rows train, columns test, the baselines below."""
        lines = [["features", "head", f"train {self.by}", *(f"test {name}" for name in self.domains)]]
        for features, head in self.pairs:
            mean, deviation = self.mean(features, head), self.deviation(features, head)
            lines += self._lines(features, head, mean, deviation)
        lines += self._lines("(none)", "most frequent label", self.most_frequent)
        lines.append(["(none)", "chance", "(any)", *(_shown(value) for value in self.chance.mean(axis=0))])
        widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
        text = [
            "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines
        ]
        return "\n".join([self.caption(), *self.notes, "", *text])

    def caption(self) -> str:
        """What the numbers are."""
        spread = f", mean ± deviation over {self.seeds} seeds" if self.seeds > 1 else ", one seed"
        return f"{self.metric.replace('_', ' ')}{spread}; {self.how}"

    def write(self, out: str | Path) -> Path:
        """Write ``transfer.csv``, ``transfer.png`` and ``transfer.json`` (settings and recipes) into a new folder.

        Raises:
            InputError: ``out`` is taken.
        """
        with new_folder(out) as folder:
            self._write_csv(folder / "transfer.csv")
            write_json(folder / "transfer.json", self.to_dict())
            draw_matrices(folder / "transfer.png", self.panels(), self.domains, self._title(), self._footnote())
        return Path(out)

    def to_dict(self) -> dict[str, Any]:
        """Settings, recipes, notes and rows as JSON values."""
        return {**self.details, "notes": list(self.notes), "rows": [asdict(row) for row in self.rows]}

    def panels(self) -> list[Panel]:
        """A heat map for each head and source."""
        return [
            Panel(f"{head} head\n{features}", self.mean(features, head), self.deviation(features, head))
            for features, head in self.pairs
        ]

    def _title(self) -> str:
        return f"Trained on one {self.by}, tested on another: {self.metric.replace('_', ' ')}"

    def _footnote(self) -> str:
        chance, frequent = (_range(matrix) for matrix in (self.chance, self.most_frequent))
        return "   ·   ".join(
            [f"chance {chance}", f"most frequent training label {frequent}", self.caption(), *self.notes]
        )

    def _lines(self, features: str, head: str, mean: Matrix, deviation: Matrix | None = None) -> list[list[str]]:
        spread = np.full(mean.shape, np.nan) if deviation is None else deviation
        return [
            [features, head, name, *(_shown(*cell) for cell in zip(mean[row], spread[row], strict=True))]
            for row, name in enumerate(self.domains)
        ]

    def _write_csv(self, path: Path) -> None:
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, [field.name for field in fields(TransferRow)], lineterminator="\n")
            writer.writeheader()
            writer.writerows(asdict(row) for row in self.rows)

    def _mean(self, name: str, features: str, head: str) -> Matrix:
        return self._cells(name, features, head).mean(axis=0)

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


def _shown(value: float, deviation: float = float("nan")) -> str:
    return f"{value:.3f}" if np.isnan(deviation) else f"{value:.3f} ± {deviation:.3f}"


def _range(matrix: Matrix) -> str:
    low, high = f"{np.nanmin(matrix):.3f}", f"{np.nanmax(matrix):.3f}"
    return low if low == high else f"{low} to {high}"
