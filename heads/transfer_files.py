"""A transfer as files: tidy tables, matrices, pictures."""

import csv
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np

from actiondiff.heads.folders import new_folder, write_json
from actiondiff.heads.matrix import BASELINES, Matrix, TransferResult
from actiondiff.heads.metrics import METRIC_NAMES
from actiondiff.heads.pictures import CORRELATIONS, Panel, draw_matrices
from actiondiff.heads.pictures_of_transfers import draw_relation
from actiondiff.heads.reading import write_rows


def write_transfer(result: TransferResult, out: str | Path) -> Path:
    """Write a transfer into a new folder.

    ``transfer.csv`` has a row for each cell and seed; ``matrices.csv`` one for each cell, with the mean and 95 %
    interval over seeds and the baselines; ``label_correlation.csv`` the matrix of label frequencies;
    ``correlations.csv`` how the heads' matrices go with it. ``transfer.png``, ``baselines.png``,
    ``label_correlation.png`` and, where that is defined, ``correlation.png`` show them. ``transfer.json`` has
    everything with settings and recipes.

    Raises:
        InputError: ``out`` is taken.
    """
    with new_folder(out) as folder:
        write_rows(folder / "transfer.csv", (asdict(row) for row in result.rows))
        write_rows(folder / "matrices.csv", _cell_rows(result))
        write_rows(folder / "correlations.csv", _relation_rows(result))
        _write_matrix(folder / "label_correlation.csv", result.label_correlation, result.domains)
        write_json(folder / "transfer.json", result.to_dict())
        _draw(folder, result)
    return Path(out)


def _draw(folder: Path, result: TransferResult) -> None:
    metric = METRIC_NAMES[result.metric]
    title = f"Trained on one {result.by}, tested on another: {metric}"
    panels = [
        Panel(f"{head} head\n{features}", result.mean(features, head), result.half_width(features, head))
        for features, head in result.pairs
    ]
    footnote = "   ·   ".join([f"chance {_range(result.chance)}", result.caption(), *result.notes])
    draw_matrices(folder / "transfer.png", panels, result.domains, title, footnote)
    baselines = _baseline_panels(result)
    draw_matrices(folder / "baselines.png", baselines, result.domains, f"Baselines: {metric}", _of_baselines(result))
    draw_matrices(
        folder / "label_correlation.png",
        [Panel("label frequencies", result.label_correlation, np.full_like(result.label_correlation, np.nan))],
        result.domains,
        f"How alike labels of one {result.by} and another are",
        "Pearson correlation over labels of their frequencies; '-': a domain has every label equally often.",
        CORRELATIONS,
    )
    if not np.isnan(result.label_correlation).all():
        draw_relation(folder / "correlation.png", result)


def _baseline_panels(result: TransferResult) -> list[Panel]:
    empty = np.full_like(result.label_correlation, np.nan)
    panels = [
        Panel(f"{BASELINES['naive_bayes']}\n{source}", result.baseline("naive_bayes", source), empty)
        for source in result.sources
    ]
    panels.append(Panel("most frequent\nlabel in training", result.most_frequent, empty))
    if result.metric == "accuracy":
        panels.append(Panel("label drawn by its\nshare in training", result.baseline("prior_guess"), empty))
    return panels


def _of_baselines(result: TransferResult) -> str:
    return (
        f"chance {_range(result.chance)}. Naive Bayes: Gaussian, on each video's mean feature over time, with the "
        "label shares of the training domain as prior. The others look at no feature."
    )


def _cell_rows(result: TransferResult) -> list[dict[str, object]]:
    rows: list[dict[str, object]] = []
    for features, head in result.pairs:
        matrices = {
            "mean": result.mean(features, head),
            "deviation": result.deviation(features, head),
            "half_width": result.half_width(features, head),
            "chance": result.chance,
            **{name: result.baseline(name, features) for name in BASELINES},
            "label_correlation": result.label_correlation,
        }
        for row, train in enumerate(result.domains):
            for column, test in enumerate(result.domains):
                cell = {name: _cell(matrix[row, column]) for name, matrix in matrices.items()}
                start = {"features": features, "head": head, "metric": result.metric, "seeds": result.seeds}
                rows.append({**start, "train": train, "test": test, **cell})
    return rows


def _relation_rows(result: TransferResult) -> list[dict[str, object]]:
    return [
        {"features": features, "head": head, "metric": result.metric, **relation.to_dict()}
        for features, head in result.pairs
        for relation in result.relations(features, head)
    ]


def _write_matrix(path: Path, matrix: Matrix, domains: Sequence[str]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["train", *domains])
        writer.writerows([name, *map(_cell, row)] for name, row in zip(domains, matrix, strict=True))


def _cell(value: float) -> float | None:
    return None if np.isnan(value) else float(value)


def _range(matrix: Matrix) -> str:
    low, high = f"{np.nanmin(matrix):.3f}", f"{np.nanmax(matrix):.3f}"
    return low if low == high else f"{low} to {high}"
