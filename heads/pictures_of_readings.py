"""Pictures of one result: average precision by class, confusion, calibration."""

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from actiondiff.heads.calibration import Calibration
from actiondiff.heads.classwise import ClassResult, Confusion, best_first
from actiondiff.heads.pictures import COLOURS, DARK_BELOW, shortened

BAR = "#2f6690"
POINT = "#b3541e"
COUNTED_UP_TO = 24
"""Labels up to which a confusion matrix has its numbers written out."""


def draw_classes(path: Path, classes: Sequence[ClassResult]) -> None:
    """Draw a bar a class, best first, with its support; classes without a video stand last and have no bar."""
    ordered = best_first(classes)
    figure = Figure(figsize=(7.5, 1.2 + 0.24 * max(3, len(ordered))), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    places = list(range(len(ordered)))
    axes.barh(places, [result.average_precision or 0 for result in ordered], color=BAR, height=0.7)
    axes.set_yticks(places, [shortened(result.name) for result in ordered], fontsize=8)
    axes.set_ylim(len(ordered) - 0.4, -0.6)
    axes.set_xlim(0, 1.16)
    axes.set_xticks(np.linspace(0, 1, 6))
    for place, result in zip(places, ordered, strict=True):
        value = result.average_precision
        text = "no video" if value is None else f"{value:.2f}  ({result.support})"
        axes.text(0.01 if value is None else value + 0.01, place, text, va="center", fontsize=7.5)
    axes.set_xlabel("average precision, the class against all others (number of videos)", fontsize=9)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(axis="y", length=0)
    figure.savefig(path, dpi=150)


def draw_confusion(path: Path, confusion: Confusion) -> None:
    """Draw labels down, best classes across, each row as shares of its videos; numbers only where there is room."""
    rows, columns = confusion.counts_LK.shape
    totals = confusion.counts_LK.sum(axis=1, keepdims=True)
    shares = np.divide(confusion.counts_LK, totals, out=np.full((rows, columns), np.nan), where=totals > 0)
    cell = 0.42 if rows <= COUNTED_UP_TO else 0.12
    figure = Figure(figsize=(3.2 + cell * columns, 2.4 + cell * rows), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    axes.set_facecolor("#dddddd")
    image = axes.imshow(shares, vmin=0, vmax=1, cmap=COLOURS)
    size = 8 if rows <= COUNTED_UP_TO else 5
    axes.set_xticks(range(columns), [shortened(name) for name in confusion.classes], rotation=90, fontsize=size)
    axes.set_yticks(range(rows), [shortened(name) for name in confusion.labels], fontsize=size)
    axes.tick_params(length=0)
    axes.set_xlabel("best class", fontsize=9)
    axes.set_ylabel("label", fontsize=9)
    if rows <= COUNTED_UP_TO:
        for (row, column), count in np.ndenumerate(confusion.counts_LK):
            if count:
                colour = "white" if shares[row, column] < DARK_BELOW else "black"
                axes.text(column, row, str(count), ha="center", va="center", fontsize=8, color=colour)
    bar = figure.colorbar(image, ax=axes, shrink=min(1.0, 3 / (cell * rows + 0.1)), aspect=18)
    bar.set_label("share of the label's videos", fontsize=8)
    bar.ax.tick_params(labelsize=7)
    figure.savefig(path, dpi=150)


def draw_calibration(path: Path, calibration: Calibration) -> None:
    """Draw how often scores are right against the scores, with the diagonal on which they would be probabilities."""
    filled = [part for part in calibration.bins if part.count]
    figure = Figure(figsize=(4.6, 5.2), layout="constrained")
    FigureCanvasAgg(figure)
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=[3, 1])
    upper.plot([0, 1], [0, 1], color="0.55", linestyle="--", linewidth=1, label="scores as probabilities")
    upper.plot(
        [part.confidence or 0 for part in filled], [part.accuracy or 0 for part in filled],
        color=POINT, marker="o", markersize=4, linewidth=1.3, clip_on=False, label="this head",
    )  # fmt: skip
    upper.set(xlim=(0, 1), ylim=(0, 1))
    upper.set_ylabel("share that is right", fontsize=9)
    upper.set_title(f"expected calibration error {calibration.error:.3f}", fontsize=10)
    upper.legend(fontsize=8, frameon=False, loc="lower right")
    counts = [part.count for part in calibration.bins]
    width = 1 / len(calibration.bins)
    lower.bar([part.low + width / 2 for part in calibration.bins], counts, width=width * 0.9, color=BAR)
    if max(counts) > 50 * max(1, math.ceil(float(np.median(counts)))):
        lower.set_yscale("symlog")
    lower.set_ylabel("count", fontsize=9)
    lower.set_xlabel(f"score ({calibration.of})", fontsize=9)
    for axes in (upper, lower):
        axes.spines[["top", "right"]].set_visible(False)
        axes.tick_params(labelsize=8)
    figure.savefig(path, dpi=150)
