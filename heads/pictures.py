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
LONGEST_NAME = 28
EMPTY = "#d9d9d9"
WRITTEN_UP_TO = 20
"""Domains up to which every value is written out."""


@dataclass(frozen=True, eq=False)
class Panel:
    """One heat map: its title, the values, and what stands behind ``±`` (NaN: nothing does)."""

    title: str
    mean: Float64[np.ndarray, "train test"]
    spread: Float64[np.ndarray, "train test"]


@dataclass(frozen=True)
class Scale:
    """What colours mean: the lowest and the highest value, and the map between them."""

    low: float = 0.0
    high: float = 1.0
    colours: str = COLOURS

    def ink(self, value: float) -> str:
        """Black or white, whichever can be read on a value's colour."""
        place = (value - self.low) / (self.high - self.low)
        if self.colours == COLOURS:
            return "white" if place < DARK_BELOW else "black"
        return "white" if abs(place - 0.5) > 0.3 else "black"  # diverging maps are light in the middle


SHARES = Scale()
CORRELATIONS = Scale(-1.0, 1.0, "PuOr")


def draw_matrices(
    path: Path, panels: Sequence[Panel], domains: Sequence[str], title: str, footnote: str, scale: Scale = SHARES
) -> None:
    """Draw heat maps side by side on one colour scale, with every value written out where there is room.

    Args:
        path: the picture, PNG.
        panels: the heat maps; a NaN is drawn as an empty cell.
        domains: names of rows (train) and columns (test).
        title: over all of them.
        footnote: below all of them.
        scale: of the colours.
    """
    columns = min(PANELS_PER_ROW, len(panels))
    rows = math.ceil(len(panels) / columns)
    cell = 0.8 if len(domains) <= WRITTEN_UP_TO else 0.25
    side = max(2.4, cell * len(domains) + 0.8)
    names = [shortened(name) for name in domains]
    room = 0.07 * max(map(len, names))
    width = max(4.8, columns * side + 2.2 + room)
    footer = fill(footnote, int(width * 15))
    height = rows * (side + 0.7 + room / 2) + 0.9 + 0.16 * (footer.count("\n") + 1)
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(rows, columns, squeeze=False, sharey=True)
    for place, panel in zip(axes.flat, panels, strict=False):
        draw_panel(place, panel, names, scale)
    for place in axes.flat[len(panels) :]:
        place.set_axis_off()
    for place in axes[:, 0]:
        place.set_ylabel("trained on", fontsize=9)
    bar = figure.colorbar(axes.flat[0].images[0], ax=axes, shrink=0.8, aspect=30)
    bar.ax.tick_params(labelsize=8)
    figure.suptitle(fill(title, int(width * 11)), fontsize=11)
    figure.supxlabel(footer, fontsize=8)
    figure.savefig(path, dpi=150)


def draw_panel(axes: Axes, panel: Panel, names: Sequence[str], scale: Scale = SHARES) -> None:
    """Draw one heat map into axes."""
    axes.set_facecolor(EMPTY)
    axes.imshow(panel.mean, vmin=scale.low, vmax=scale.high, cmap=scale.colours)
    axes.set_title(panel.title, fontsize=10)
    slanted, upright = max(map(len, names)) > LONG_NAME, len(names) > WRITTEN_UP_TO
    turned = 90 if upright else 35 if slanted else 0
    axes.set_xticks(range(len(names)), names, rotation=turned, ha="right" if turned == 35 else "center")
    axes.set_yticks(range(len(names)), names)
    axes.tick_params(length=0, labelsize=8, labelleft=True)
    axes.set_xlabel("tested on", fontsize=9)
    if len(names) > WRITTEN_UP_TO:
        return
    for (row, column), value in np.ndenumerate(panel.mean):
        spread = panel.spread[row, column]
        text = "-" if np.isnan(value) else f"{value:.2f}"
        text += "" if np.isnan(spread) else f"\n± {spread:.2f}"
        colour = "black" if np.isnan(value) else scale.ink(float(value))
        axes.text(column, row, text, ha="center", va="center", fontsize=9, color=colour)


def shortened(name: str) -> str:
    """A name that fits beside an axis."""
    return name if len(name) <= LONGEST_NAME else f"{name[: LONGEST_NAME - 1]}…"
