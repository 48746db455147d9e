"""Transfers and sweeps as the report shows them: heat maps that are tables."""

import csv
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from actiondiff import InputError
from actiondiff.heads.metrics import METRIC_NAMES
from actiondiff.heads.tables import number

VAL = "val"
"""The part of a sweep that chooses."""

Swept = dict[tuple[int, int], list[float]]
"""Values of all seeds by layer and timestep."""


@dataclass(frozen=True)
class Cell:
    """A cell of a heat map.

    Attributes:
        text: what stands in it.
        share: how strong its colour is, 0 to 1; None for no value.
        strong: whether it is marked, as the best of its column.
    """

    text: str
    share: float | None
    strong: bool = False


@dataclass(frozen=True)
class HeatMap:
    """A table whose cells are coloured.

    Attributes:
        rows_are: what the rows stand for.
        columns_are: likewise.
        rows: their names.
        columns: likewise.
        cells: row by row.
        title: above it.
    """

    rows_are: str
    columns_are: str
    rows: tuple[str, ...]
    columns: tuple[str, ...]
    cells: tuple[tuple[Cell, ...], ...]
    title: str = ""


@dataclass(frozen=True)
class TransferView:
    """One transfer.

    Attributes:
        name: its folder.
        caption: what the numbers are.
        matrices: of heads.
        baselines: naive Bayes and those that look at no feature.
        labels: the label correlation; None where it is not defined.
        relations: features, head, cells, count, Pearson, Spearman, as text.
        notes: what the reader should know.
    """

    name: str
    caption: str
    matrices: tuple[HeatMap, ...]
    baselines: tuple[HeatMap, ...]
    labels: HeatMap | None
    relations: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class SweepView:
    """One sweep.

    Attributes:
        name: its folder.
        caption: what the numbers are.
        maps: layer down, timestep across, one for each head and part; the last row has the marked cells' values.
    """

    name: str
    caption: str
    maps: tuple[HeatMap, ...]


def view_transfer(folder: Path) -> TransferView:
    """Read a transfer's ``transfer.json``.

    Raises:
        InputError: it is damaged, or of an earlier version.
    """
    try:
        values = json.loads((folder / "transfer.json").read_text(encoding="utf-8"))
        return _view_transfer(str(folder), values)
    except (ValueError, KeyError, TypeError, IndexError) as error:
        raise InputError(f"The transfer in {folder} cannot be read ({error!r}). Make it again.") from error


def _view_transfer(name: str, values: dict[str, Any]) -> TransferView:
    domains, rows = tuple(values["domains"]), values["rows"]
    matrices, naive, relations = [], {}, []
    for part in values["matrices"]:
        title = f"{part['head']} head, {part['features']}"
        matrices.append(_matrix(title, domains, part["mean"], part["half_width"]))
        naive[part["features"]] = _matrix(f"naive Bayes, {part['features']}", domains, part["naive_bayes"])
        relations += [
            (part["features"], part["head"], r["cells"], str(r["count"]), number(r["pearson"]), number(r["spearman"]))
            for r in part["relations"]
        ]
    frequent = _matrix("most frequent label in training", domains, _means(rows, "most_frequent", domains))
    baselines = [*naive.values(), frequent]
    if any(row["prior_guess"] is not None for row in rows):
        guess = _means(rows, "prior_guess", domains)
        baselines.append(_matrix("label drawn by its share in training", domains, guess))
    labels = values["label_correlation"]
    defined = any(value is not None for row in labels for value in row)
    seeds = values["seeds"]
    spread = f"mean ± half of the 95 % interval over {seeds} seeds" if seeds > 1 else "one seed"
    chance = np.mean([row["chance"] for row in rows])
    return TransferView(
        name=name,
        caption=f"{METRIC_NAMES[values['metric']]}, {spread}; {values['how']}; chance {chance:.3f}",
        matrices=tuple(matrices),
        baselines=tuple(baselines),
        labels=_matrix("correlation of label frequencies", domains, labels, low=-1.0) if defined else None,
        relations=tuple(relations),
        notes=tuple(values["notes"]),
    )


def _matrix(
    title: str,
    domains: Sequence[str],
    values: Sequence[Sequence[float | None]],
    spread: Sequence[Sequence[float | None]] | None = None,
    low: float = 0.0,
) -> HeatMap:
    cells = tuple(
        tuple(
            Cell(
                number(value) + (f" ± {spread[row][column]:.3f}" if spread and spread[row][column] is not None else ""),
                None if value is None else (value - low) / (1 - low),
            )
            for column, value in enumerate(line)
        )
        for row, line in enumerate(values)
    )
    return HeatMap("trained on", "tested on", tuple(domains), tuple(domains), cells, title)


def _means(rows: Iterable[dict[str, Any]], name: str, domains: Sequence[str]) -> list[list[float | None]]:
    found: dict[tuple[str, str], list[float]] = {}
    for row in rows:
        if row[name] is not None:
            found.setdefault((row["train"], row["test"]), []).append(row[name])
    return [[float(np.mean(found[a, b])) if (a, b) in found else None for b in domains] for a in domains]


def view_sweep(folder: Path) -> SweepView:
    """Read a sweep's tidy ``sweep.csv``: layer, timestep, a metric; head, part and seed where there are several.

    Raises:
        InputError: columns are missing, or values are no numbers.
    """
    path = folder / "sweep.csv"
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    columns = set(rows[0]) if rows else set()
    metric = next((name for name in ("accuracy", "map_macro") if any(row.get(name) for row in rows)), None)
    if not {"layer", "timestep"} <= columns or metric is None:
        raise InputError(
            f"A sweep's table has layer, timestep and accuracy or map_macro; {path} has {', '.join(sorted(columns))}."
        )
    grids: dict[tuple[str, str], Swept] = {}
    try:
        for row in rows:
            if row[metric]:
                cells = grids.setdefault((row.get("head", ""), row.get("part", "")), {})
                cells.setdefault((int(row["layer"]), int(row["timestep"])), []).append(float(row[metric]))
    except ValueError as error:
        raise InputError(f"The sweep in {folder} cannot be read ({error}).") from error
    maps = tuple(_sweep_map(head, part, cells, grids.get((head, VAL))) for (head, part), cells in grids.items())
    seeds = max(len(values) for cells in grids.values() for values in cells.values())
    spread = f"mean over {seeds} seeds" if seeds > 1 else "one seed"
    marked = (
        "in bold and in the last row: the layer that validation chooses at each timestep"
        if any(part == VAL for _, part in grids)
        else "in bold and in the last row: the highest of each timestep, which chooses nothing"
    )
    return SweepView(str(folder), f"{METRIC_NAMES[metric]}, {spread}; {marked}", maps)


def _sweep_map(head: str, part: str, cells: Swept, chooser: Swept | None) -> HeatMap:
    layers, timesteps = (sorted({key[place] for key in cells}) for place in (0, 1))
    means = {key: float(np.mean(values)) for key, values in cells.items()}
    by = means if chooser is None else {key: float(np.mean(values)) for key, values in chooser.items()}
    marked: dict[int, int] = {}
    for timestep in timesteps:
        known = [layer for layer in layers if (layer, timestep) in means and (layer, timestep) in by]
        if known:
            marked[timestep] = max(known, key=lambda layer: by[layer, timestep])
    rows = [
        tuple(_swept(means.get((layer, timestep)), marked.get(timestep) == layer) for timestep in timesteps)
        for layer in layers
    ]
    rows.append(tuple(_swept(means.get((marked.get(timestep, -1), timestep)), True) for timestep in timesteps))
    names = (*map(str, layers), "highest" if chooser is None else "chosen")
    title = ", ".join([*([f"{head} head"] if head else []), *([part] if part else [])])
    return HeatMap("layer", "timestep", names, tuple(f"t {timestep}" for timestep in timesteps), tuple(rows), title)


def _swept(value: float | None, marked: bool) -> Cell:
    return Cell(number(value), value, marked)
