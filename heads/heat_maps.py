"""Heat maps of a sweep: layer down, timestep across, parts side by side, the best of each timestep below."""

from collections.abc import Sequence
from pathlib import Path
from textwrap import fill

import numpy as np
from jaxtyping import Float64
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from actiondiff.heads.sweep_table import VAL, SweepTable, highest

COLOURS = "cividis"
CELL_INCHES = (0.52, 0.3)
CELLS_WITH_NUMBERS = 20
"""Grids of more timesteps than this show colours only."""


def draw_sweep(path: Path, table: SweepTable, caption: str, notes: Sequence[str]) -> None:
    """Draw a sweep on one colour scale: a row of maps for each head, a map for each part.

    Validation's choice of layer and timestep is outlined in every map of its head, a test part's own highest cell has a
    ring. Below each map stands, for each timestep, the value at the layer that validation chooses there.

    Args:
        path: the picture, PNG.
        table: the rows.
        caption: what the numbers are.
        notes: below the picture.
    """
    layers, timesteps, parts, heads = len(table.layers), len(table.timesteps), table.parts, table.heads
    width = len(parts) * (max(2.6, CELL_INCHES[0] * timesteps) + 0.7) + 1.0
    height = len(heads) * (CELL_INCHES[1] * (layers + 2) + 1.4) + 1.4
    figure = Figure(figsize=(max(5.5, width), height), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(
        2 * len(heads), len(parts), squeeze=False, gridspec_kw={"height_ratios": [max(layers, 2), 1] * len(heads)}
    )
    grids = [table.grid(head, part) for head in heads for part in parts]
    scale = _scale(grids)
    for row, head in enumerate(heads):
        for column, part in enumerate(parts):
            _draw_map(axes[2 * row, column], table, head, part, scale)
            _draw_best(axes[2 * row + 1, column], table, head, part, scale)
        axes[2 * row, 0].set_ylabel("layer", fontsize=9)
    figure.colorbar(axes[0, 0].images[0], ax=axes, shrink=0.8, aspect=30)
    figure.suptitle(fill(caption, int(figure.get_figwidth() * 11)), fontsize=11)
    marks = "outlined: chosen by validation; ring: a test part's highest, which chooses nothing"
    below = "   ·   ".join([marks if VAL in parts else "ring: a part's highest", *notes])
    figure.supxlabel(fill(below, int(figure.get_figwidth() * 15)), fontsize=8)
    figure.savefig(path, dpi=150)


def _scale(grids: Sequence[Float64[np.ndarray, "layers timesteps"]]) -> tuple[float, float]:
    """Tenths around all values."""
    values = np.concatenate([grid[~np.isnan(grid)] for grid in grids])
    if not len(values):
        return 0.0, 1.0
    low, high = np.floor(values.min() * 10) / 10, np.ceil(values.max() * 10) / 10
    return float(low), float(max(high, low + 0.1))


def _draw_map(axes: Axes, table: SweepTable, head: str, part: str, scale: tuple[float, float]) -> None:
    grid = table.grid(head, part)
    _draw_cells(axes, grid, scale)
    axes.set_title(f"{head} head\n{'validation' if part == VAL else part}", fontsize=10)
    axes.set_yticks(range(len(table.layers)), [str(layer) for layer in table.layers])
    axes.set_xticks(range(len(table.timesteps)), [])
    best = table.best(head)
    if best is not None:
        row, column = table.layers.index(best.key.layer), table.timesteps.index(best.key.timestep)
        axes.add_patch(_outline(row, column))
    if part != VAL:
        row, column = highest(grid)
        axes.plot(
            column, row, "o", markersize=17, markerfacecolor="none", markeredgecolor="crimson", markeredgewidth=1.5
        )


def _draw_best(axes: Axes, table: SweepTable, head: str, part: str, scale: tuple[float, float]) -> None:
    _draw_cells(axes, table.best_per_timestep(head, part)[None, :], scale)
    axes.set_yticks([0], ["best"])
    axes.set_xticks(range(len(table.timesteps)), [str(timestep) for timestep in table.timesteps])
    axes.set_xlabel("timestep", fontsize=9)


def _draw_cells(axes: Axes, grid: Float64[np.ndarray, "layers timesteps"], scale: tuple[float, float]) -> None:
    axes.imshow(grid, vmin=scale[0], vmax=scale[1], cmap=COLOURS, aspect="auto")
    axes.tick_params(length=0, labelsize=8)
    if grid.shape[1] > CELLS_WITH_NUMBERS:
        return
    middle = scale[0] + 0.55 * (scale[1] - scale[0])
    for (row, column), value in np.ndenumerate(grid):
        if not np.isnan(value):
            colour = "white" if value < middle else "black"
            axes.text(column, row, f"{value:.2f}", ha="center", va="center", fontsize=7, color=colour)


def _outline(row: int, column: int) -> Rectangle:
    return Rectangle((column - 0.5, row - 0.5), 1, 1, fill=False, edgecolor="crimson", linewidth=2, clip_on=False)
