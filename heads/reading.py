"""Reading a result: the headline metrics with their intervals, class by class, what is taken for what, calibration."""

import csv
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from actiondiff.heads.bootstrap import DRAWS, measure_with_intervals
from actiondiff.heads.calibration import Calibration, calibration
from actiondiff.heads.classwise import ClassResult, Confusion, best_first, class_results, confusion
from actiondiff.heads.metrics import METRIC_NAMES, Metrics, Predictions
from actiondiff.heads.tables import aligned, number

CLASSES_SHOWN = 24
MISTAKES_SHOWN = 5


@dataclass(frozen=True, eq=False)
class Reading:
    """What labelled predictions amount to.

    Attributes:
        metrics: the headline numbers, with 95 % bootstrap intervals where there is enough to draw from.
        drawn: in words, what the bootstrap drew.
        classes: one result a class.
        confusion: None where videos can have several labels.
        calibration: of the scores.
    """

    metrics: Metrics
    drawn: str
    classes: tuple[ClassResult, ...]
    confusion: Confusion | None
    calibration: Calibration

    def to_dict(self) -> dict[str, Any]:
        """Everything as JSON values."""
        return {
            "metrics": self.metrics.to_dict(),
            "intervals_of": self.drawn,
            "classes": [result.to_dict() for result in self.classes],
            "confusion": self.confusion.to_dict() if self.confusion else None,
            "calibration": self.calibration.to_dict(),
        }

    def text(self) -> str:
        """For the terminal: the headline numbers, a table of classes, the most frequent mistakes."""
        return "\n".join([*self._headlines(), "", *self._class_table(), *self._mistakes()])

    def write(self, folder: Path) -> None:
        """Write ``classes.csv``, ``calibration.csv``, for one label a video ``confusion.csv``, and their pictures."""
        from actiondiff.heads.pictures_of_readings import draw_calibration, draw_classes, draw_confusion

        write_rows(folder / "classes.csv", (result.to_dict() for result in self.classes))
        write_rows(folder / "calibration.csv", self.calibration.to_dict()["bins"])
        draw_classes(folder / "classes.png", self.classes)
        draw_calibration(folder / "calibration.png", self.calibration)
        if self.confusion:
            counts = zip(self.confusion.labels, self.confusion.counts_LK.tolist(), strict=True)
            table = [["label", *self.confusion.classes], *([label, *row] for label, row in counts)]
            with (folder / "confusion.csv").open("w", newline="", encoding="utf-8") as file:
                csv.writer(file, lineterminator="\n").writerows(table)
            draw_confusion(folder / "confusion.png", self.confusion)

    def _headlines(self) -> list[str]:
        metrics = self.metrics
        rows = [["metric", "value", "95 % interval"]]
        for name, value in metrics.headlines.items():
            interval = metrics.intervals.get(name)
            rows.append([METRIC_NAMES[name], number(value), interval.text() if interval else "-"])
        rows.append(["calibration error", number(self.calibration.error), "-"])
        lines = [f"{metrics.videos} videos, {len(self.classes)} classes; intervals: {self.drawn}", *aligned(rows)]
        if metrics.classes_without_positives:
            lines.append(f"left out of mAP macro for want of positives: {', '.join(metrics.classes_without_positives)}")
        if metrics.unseen_labels:
            lines.append(f"never trained on, counted as wrong: {', '.join(metrics.unseen_labels)}")
        return lines

    def _class_table(self) -> list[str]:
        with_support = [result for result in best_first(self.classes) if result.support]
        shown = with_support[:CLASSES_SHOWN]
        if len(with_support) > CLASSES_SHOWN:
            half = CLASSES_SHOWN // 2
            shown = with_support[:half] + with_support[-half:]
        one_label = self.confusion is not None
        rows = [["class", "videos", "AP", *(["recall", "precision"] if one_label else [])]]
        for result in shown:
            rest = [number(result.recall), number(result.precision)] if one_label else []
            rows.append([result.name, str(result.support), number(result.average_precision), *rest])
        left_out = len(with_support) - len(shown)
        return aligned(rows) + ([f"({left_out} classes between these are in --json and --out)"] if left_out else [])

    def _mistakes(self) -> list[str]:
        mistakes = self.confusion.mistakes(MISTAKES_SHOWN) if self.confusion else ()
        if not mistakes:
            return []
        rows = [["label", "taken for", "videos"], *([label, name, str(times)] for label, name, times in mistakes)]
        return ["", "most frequent mistakes:", *aligned(rows, text_columns=2)]


def read_result(predictions: Predictions, groups: Sequence[str] = (), *, draws: int = DRAWS, seed: int = 0) -> Reading:
    """Read labelled predictions.

    Args:
        predictions: scores with labels.
        groups: of each video, for the bootstrap; see :func:`actiondiff.heads.bootstrap.intervals`.
        draws: of the bootstrap.
        seed: likewise.
    """
    metrics = measure_with_intervals(predictions, groups, draws=draws, seed=seed)
    return Reading(
        metrics=metrics,
        drawn=_drawn(len(predictions), groups, draws if metrics.intervals else 0),
        classes=class_results(predictions),
        confusion=confusion(predictions),
        calibration=calibration(predictions),
    )


def write_rows(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    """Write dictionaries of the same keys as a CSV with a header; None becomes an empty cell."""
    listed = list(rows)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(listed[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(listed)


def _drawn(videos: int, groups: Sequence[str], draws: int) -> str:
    named = {name for name in groups if name}
    units = f"{len(named) + sum(not name for name in groups)} groups" if named else f"{videos} videos"
    if not draws:
        return f"none, as {units} are too few to draw from"
    return f"bootstrap of {units}, {draws} draws"
