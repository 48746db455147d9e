"""Timelines as files: bouts and scores as CSV, and a picture."""

import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from actiondiff.heads.folders import new_folder
from actiondiff.heads.pictures import COLOURS, shortened
from actiondiff.heads.tables import aligned, number
from actiondiff.heads.timeline import Timeline

BOUT_COLUMNS = ("start_seconds", "end_seconds", "label", "score")
BOUT_COLOUR = "#b3541e"
CLASSES_DRAWN = 30
LINES_SHOWN = 20


def write_timelines(timelines: Sequence[Timeline], out: str | Path) -> Path:
    """Write ``NAME.bouts.csv``, ``NAME.scores.csv`` and ``NAME.png`` of each clip into a new folder.

    Bouts have the columns start_seconds, end_seconds, label and score; scores the beginning and end of each step and
    a column a class. Slashes in a clip's name become underlines.

    Raises:
        InputError: ``out`` is taken.
    """
    with new_folder(out) as folder:
        for timeline, name in zip(timelines, file_names([part.video_id for part in timelines]), strict=True):
            write_bouts(folder / f"{name}.bouts.csv", timeline)
            _write_scores(folder / f"{name}.scores.csv", timeline)
            draw_timeline(folder / f"{name}.png", timeline)
    return Path(out)


def write_bouts(path: Path, timeline: Timeline) -> None:
    """Write a clip's bouts as a CSV, seconds in thousandths."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(BOUT_COLUMNS)
        for bout in timeline.bouts:
            times = (f"{bout.start_seconds:.3f}", f"{bout.end_seconds:.3f}")
            writer.writerow([*times, bout.label, f"{bout.score:.6g}"])


def timelines_text(timelines: Sequence[Timeline]) -> str:
    """For the terminal: a table of bouts for each clip."""
    return "\n\n".join(map(_text, timelines))


def draw_timeline(path: Path, timeline: Timeline) -> None:
    """Draw scores as a strip a class over time, with bars for the bouts; many classes are cut to the most likely."""
    shown = _classes_to_draw(timeline)
    height = 1.3 + 0.32 * len(shown)
    figure = Figure(figsize=(10, height), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    rows = np.arange(len(shown) + 1) - 0.5
    mesh = axes.pcolormesh(timeline.bounds_seconds, rows, timeline.scores_SK[:, shown].T, vmin=0, vmax=1, cmap=COLOURS)
    places = {timeline.classes[k]: row for row, k in enumerate(shown)}
    for bout in timeline.bouts:
        if bout.label in places:
            axes.broken_barh(
                [(bout.start_seconds, bout.end_seconds - bout.start_seconds)], (places[bout.label] + 0.14, 0.28),
                facecolor=BOUT_COLOUR, edgecolor="white", linewidth=0.6,
            )  # fmt: skip
    axes.set_yticks(range(len(shown)), [shortened(timeline.classes[k]) for k in shown], fontsize=8)
    axes.set_ylim(len(shown) - 0.5, -0.5)
    axes.set_xlim(timeline.bounds_seconds[0], timeline.seconds)
    axes.set_xlabel("seconds", fontsize=9)
    axes.tick_params(labelsize=8)
    axes.tick_params(axis="y", length=0)
    left_out = len(timeline.classes) - len(shown)
    more = f"; {left_out} classes that score lower are not drawn" if left_out else ""
    axes.set_title(
        f"{shortened(timeline.video_id)}: colour is the score, bars are bouts{more}", fontsize=10, loc="left"
    )
    bar = figure.colorbar(mesh, ax=axes, aspect=12, pad=0.01)
    bar.ax.tick_params(labelsize=7)
    figure.savefig(path, dpi=150)


def file_names(video_ids: Sequence[str]) -> list[str]:
    """A file name for each clip, numbered where two would be the same."""
    names: list[str] = []
    for video_id in video_ids:
        plain = video_id.replace("/", "_")
        name, number_ = plain, 2
        while name in names:
            name, number_ = f"{plain}-{number_}", number_ + 1
        names.append(name)
    return names


def _classes_to_draw(timeline: Timeline) -> list[int]:
    if len(timeline.classes) <= CLASSES_DRAWN:
        return list(range(len(timeline.classes)))
    seen = {bout.label for bout in timeline.bouts}
    highest = timeline.scores_SK.max(axis=0, initial=0.0)
    order = sorted(range(len(timeline.classes)), key=lambda k: (timeline.classes[k] not in seen, -highest[k]))
    return sorted(order[:CLASSES_DRAWN])


def _write_scores(path: Path, timeline: Timeline) -> None:
    bounds = [f"{second:.3f}" for second in timeline.bounds_seconds]
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["start_seconds", "end_seconds", *timeline.classes])
        for start, end, scores in zip(bounds[:-1], bounds[1:], timeline.scores_SK, strict=True):
            writer.writerow([start, end, *(f"{score:.6g}" for score in scores)])


def _text(timeline: Timeline) -> str:
    rows = [list(BOUT_COLUMNS)]
    for bout in timeline.bouts[:LINES_SHOWN]:
        rows.append([f"{bout.start_seconds:.3f}", f"{bout.end_seconds:.3f}", bout.label, number(bout.score)])
    head = (
        f"{timeline.video_id}: {len(timeline.bouts)} bouts in {timeline.seconds:.1f} s, windows of "
        f"{timeline.window_seconds:.2f} s"
    )
    left_out = len(timeline.bouts) - LINES_SHOWN
    more = [f"({left_out} more in --json and --out)"] if left_out > 0 else []
    return "\n".join([head, *(aligned(rows, 0) if timeline.bouts else []), *more])
