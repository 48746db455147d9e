"""Pictures of results: matrices as heat maps, readable in grey and to colour-blind eyes."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from textwrap import fill

import numpy as np
from jaxtyping import Float64
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

COLOURS = "cividis"
PANELS_PER_ROW = 3
DARK_BELOW = 0.55
LONG_NAME = 8


@dataclass(frozen=True, eq=False)
class Panel:
    """One heat map: its title, the values, and their deviations (NaN: not shown)."""

    title: str
    mean: Float64[np.ndarray, "train test"]
    deviation: Float64[np.ndarray, "train test"]


def draw_matrices(path: Path, panels: Sequence[Panel], domains: Sequence[str], title: str, footnote: str) -> None:
    """Draw heat maps side by side on one colour scale from 0 to 1, with every value written out.

    Args:
        path: the picture, PNG.
        panels: the heat maps.
        domains: names of rows (train) and columns (test).
        title: over all of them.
        footnote: below all of them.
    """
    columns = min(PANELS_PER_ROW, len(panels))
    rows = math.ceil(len(panels) / columns)
    side = max(2.4, 0.8 * len(domains) + 0.8)
    figure = Figure(figsize=(max(4.8, columns * side + 2.2), rows * (side + 0.6) + 1.2), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(rows, columns, squeeze=False, sharey=True)
    for place, panel in zip(axes.flat, panels, strict=False):
        _draw_panel(place, panel, domains)
    for place in axes.flat[len(panels) :]:
        place.set_axis_off()
    for place in axes[:, 0]:
        place.set_ylabel("trained on", fontsize=9)
    figure.colorbar(axes.flat[0].images[0], ax=axes, shrink=0.8, aspect=30)
    figure.suptitle(title, fontsize=11)
    figure.supxlabel(fill(footnote, int(figure.get_figwidth() * 15)), fontsize=8)
    figure.savefig(path, dpi=150)


def _draw_panel(axes: Axes, panel: Panel, domains: Sequence[str]) -> None:
    axes.imshow(panel.mean, vmin=0, vmax=1, cmap=COLOURS)
    axes.set_title(panel.title, fontsize=10)
    slanted = max(map(len, domains)) > LONG_NAME
    axes.set_xticks(range(len(domains)), domains, rotation=30 if slanted else 0, ha="right" if slanted else "center")
    axes.set_yticks(range(len(domains)), domains)
    axes.tick_params(length=0, labelsize=8)
    axes.set_xlabel("tested on", fontsize=9)
    for (row, column), value in np.ndenumerate(panel.mean):
        spread = panel.deviation[row, column]
        text = f"{value:.2f}" if np.isnan(spread) else f"{value:.2f}\n± {spread:.2f}"
        colour = "white" if value < DARK_BELOW else "black"
        axes.text(column, row, text, ha="center", va="center", fontsize=10, color=colour)
