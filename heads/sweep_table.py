"""The table of a sweep: a row for each head, layer, timestep, seed and part, and what can be read from it."""

import csv
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float64

from actiondiff.store import FeatureKey

VAL = "val"


@dataclass(frozen=True)
class SweepRow:
    """How one head on one layer and timestep does on one part.

    Attributes:
        head: its kind.
        layer: of its features.
        timestep: likewise.
        seed: of its training.
        part: ``val``, or a test part by its WHERE.
        videos: how many were scored.
        accuracy: None where videos can have several labels.
        map_macro: None where no class of the part has a positive.
        map_micro: likewise.
        best_epoch: counted from 1.
    """

    head: str
    layer: int
    timestep: int
    seed: int
    part: str
    videos: int
    accuracy: float | None
    map_macro: float | None
    map_micro: float | None
    best_epoch: int

    @property
    def key(self) -> FeatureKey:
        """Layer and timestep."""
        return FeatureKey(self.layer, self.timestep)


@dataclass(frozen=True)
class Best:
    """The layer and timestep that validation chooses for a head, and how it does on every part; means over seeds."""

    head: str
    key: FeatureKey
    values: dict[str, float]

    def to_dict(self) -> dict[str, Any]:
        """As JSON values."""
        return {"head": self.head, "layer": self.key.layer, "timestep": self.key.timestep, **self.values}


@dataclass(frozen=True, eq=False)
class SweepTable:
    """Rows of a sweep, in any order."""

    rows: tuple[SweepRow, ...]

    @property
    def metric(self) -> str:
        """The name of the metric that chooses: ``accuracy``, or ``map_macro`` where videos have several labels."""
        return "map_macro" if any(row.accuracy is None for row in self.rows) else "accuracy"

    @property
    def layers(self) -> tuple[int, ...]:
        """Layers that there are, from the input."""
        return tuple(sorted({row.layer for row in self.rows}))

    @property
    def timesteps(self) -> tuple[int, ...]:
        """Timesteps that there are, in the direction of generation."""
        return tuple(sorted({row.timestep for row in self.rows}))

    @property
    def heads(self) -> tuple[str, ...]:
        """Heads in order of appearance."""
        return tuple(dict.fromkeys(row.head for row in self.rows))

    @property
    def parts(self) -> tuple[str, ...]:
        """Parts in order of appearance, validation first."""
        names = dict.fromkeys(row.part for row in self.rows)
        return tuple(sorted(names, key=lambda name: name != VAL))

    @property
    def seeds(self) -> int:
        """How many."""
        return len({row.seed for row in self.rows})

    def grid(self, head: str, part: str) -> Float64[np.ndarray, "layers timesteps"]:
        """The metric of a part, mean over seeds; NaN where it is not defined or the pair is not there."""
        values: dict[FeatureKey, list[float]] = {}
        for row in self.rows:
            if (row.head, row.part) == (head, part):
                value = getattr(row, self.metric)
                values.setdefault(row.key, []).append(np.nan if value is None else value)
        return np.array(
            [
                [float(np.mean(values.get(FeatureKey(layer, timestep), [np.nan]))) for timestep in self.timesteps]
                for layer in self.layers
            ]
        )

    def best(self, head: str) -> Best | None:
        """What validation chooses, the first of equals; None without a validation part: a test part chooses nothing."""
        if VAL not in self.parts:
            return None
        row, column = highest(self.grid(head, VAL))
        values = {part: float(self.grid(head, part)[row, column]) for part in self.parts}
        return Best(head, FeatureKey(self.layers[row], self.timesteps[column]), values)

    def best_per_timestep(self, head: str, part: str) -> Float64[np.ndarray, " timesteps"]:
        """For each timestep the part's value at the layer that validation chooses there.

        Without a validation part the highest value, which flatters.
        """
        chooses = self.grid(head, VAL if VAL in self.parts else part)
        grid = self.grid(head, part)
        return np.array([grid[highest(chooses[:, [column]])[0], column] for column in range(grid.shape[1])])

    def write(self, path: Path) -> None:
        """Write a CSV in one atomic step."""
        partial = path.with_name(f".{path.name}.partial")
        with partial.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, [each.name for each in fields(SweepRow)], lineterminator="\n")
            writer.writeheader()
            writer.writerows(asdict(row) for row in self.rows)
        partial.replace(path)


def read_rows(path: Path) -> tuple[SweepRow, ...]:
    """The rows of a CSV that :meth:`SweepTable.write` has written; none where there is no file."""
    if not path.exists():
        return ()
    with path.open(newline="", encoding="utf-8") as file:
        return tuple(_row(cells) for cells in csv.DictReader(file))


def highest(grid: Float64[np.ndarray, "layers timesteps"]) -> tuple[int, int]:
    """Place of the highest value, the first of equals, NaN being the lowest."""
    row, column = np.unravel_index(np.argmax(np.where(np.isnan(grid), -np.inf, grid)), grid.shape)
    return int(row), int(column)


def _row(cells: dict[str, str]) -> SweepRow:
    number: dict[str, Any] = {name: int(cells[name]) for name in ("layer", "timestep", "seed", "videos", "best_epoch")}
    number |= {name: float(cells[name]) if cells[name] else None for name in ("accuracy", "map_macro", "map_micro")}
    return SweepRow(head=cells["head"], part=cells["part"], **number)


def lines_of(table: SweepTable, heads: Sequence[str]) -> list[str]:
    """For the terminal: what validation chooses, and where a test part is highest, which chooses nothing."""
    lines = []
    for head in heads:
        best = table.best(head)
        if best is None:
            lines.append(f"{head}: no validation part, so no layer and timestep is chosen")
        else:
            shown = ", ".join(f"{part} {value:.3f}" for part, value in best.values.items())
            lines.append(f"{head}: validation chooses {best.key}: {shown}")
        for part in table.parts:
            if part != VAL:
                grid = table.grid(head, part)
                row, column = highest(grid)
                at = FeatureKey(table.layers[row], table.timesteps[column])
                lines.append(
                    f"  {part}: highest {grid[row, column]:.3f} at {at} (to look at; a test part chooses nothing)"
                )
    return lines
