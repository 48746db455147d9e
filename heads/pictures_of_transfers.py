"""The picture of a transfer against its label correlation: a point for each pair of domains."""

from pathlib import Path
from textwrap import fill

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from actiondiff.heads.matrix import Matrix, TransferResult
from actiondiff.heads.metrics import METRIC_NAMES
from actiondiff.heads.pictures import PANELS_PER_ROW
from actiondiff.heads.tables import number

OTHER, SAME = "#2f6690", "#b3541e"
NAMED_UP_TO = 16
"""Points up to which each is named."""


def draw_relation(path: Path, result: TransferResult) -> None:
    """Draw each head's cells against the label correlation of their domains."""
    count = len(result.pairs)
    columns = min(PANELS_PER_ROW, count)
    rows = -(-count // columns)
    figure = Figure(figsize=(max(5.0, 3.6 * columns), 3.4 * rows + 0.6), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True)
    for place, pair in zip(axes.flat, result.pairs, strict=False):
        _draw_cells(place, result, pair)
    for place in axes.flat[count:]:
        place.set_axis_off()
    for place in axes[:, 0]:
        place.set_ylabel(METRIC_NAMES[result.metric], fontsize=9)
    figure.supxlabel(fill(f"correlation of label frequencies between train and test {result.by}", 60), fontsize=9)
    figure.savefig(path, dpi=150)


def _draw_cells(axes: Axes, result: TransferResult, pair: tuple[str, str]) -> None:
    values, labels = result.mean(*pair), result.label_correlation
    same = np.eye(len(values), dtype=bool)
    for kind, colour, marker, name in ((~same, OTHER, "o", "another domain"), (same, SAME, "D", "the same domain")):
        axes.scatter(labels[kind], values[kind], c=colour, marker=marker, s=22, label=name, zorder=2)
    if values.size <= NAMED_UP_TO:
        _name_points(axes, result, values, labels)
    _, off = result.relations(*pair)
    head = f"{pair[1]} head, {pair[0]}"
    axes.set_title(
        f"{fill(head, 34)}\noff the diagonal: Pearson {number(off.pearson, 2)}, Spearman {number(off.spearman, 2)}",
        fontsize=9,
    )
    axes.set_ylim(0, 1.02)
    axes.margins(x=0.15)
    axes.legend(fontsize=7, frameon=False, loc="lower right")
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=8)


def _name_points(axes: Axes, result: TransferResult, values: Matrix, labels: Matrix) -> None:
    for (row, column), value in np.ndenumerate(values):
        if not np.isnan(value + labels[row, column]):
            text = f"{result.domains[row]} → {result.domains[column]}"
            spot = (labels[row, column], value)
            axes.annotate(text, spot, xytext=(0, 5), textcoords="offset points", fontsize=6.5, ha="center")
