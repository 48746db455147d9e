"""Scores against labels: accuracy and mean average precision, each under its name.

Axes: N videos, K classes.
"""

# ruff: noqa: N803, N806, N815 - letters in names say the axes

import csv
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float64
from torchmetrics.functional.classification import binary_average_precision

from actiondiff import InputError
from actiondiff.heads.tables import aligned

BEST_SHOWN = 3
METRIC_NAMES = {"accuracy": "accuracy", "map_macro": "mAP macro", "map_micro": "mAP micro"}


@dataclass(frozen=True, eq=False)
class Predictions:
    """A score from 0 to 1 for every class of every video, each video once.

    Attributes:
        video_ids: the videos, no id twice.
        labels: the true labels of each; empty where they are not known.
        classes: the classes that the head knows.
        scores_NK: softmax or sigmoid of the logits.
        multilabel: whether a video can have several labels.
    """

    video_ids: tuple[str, ...]
    labels: tuple[tuple[str, ...], ...]
    classes: tuple[str, ...]
    scores_NK: Float64[np.ndarray, "videos classes"]
    multilabel: bool

    def __post_init__(self) -> None:
        if len(set(self.video_ids)) != len(self.video_ids):
            raise InputError("A video is scored once; the same id came twice. Make the ids of the manifest unique.")
        if self.scores_NK.shape != (len(self.video_ids), len(self.classes)) or len(self.labels) != len(self.video_ids):
            raise InputError(
                f"Predictions have a row of scores and labels for each video; got {len(self.video_ids)} ids, "
                f"{len(self.labels)} rows of labels, scores of shape {self.scores_NK.shape}, "
                f"{len(self.classes)} classes."
            )

    def __len__(self) -> int:
        return len(self.video_ids)

    def to_dict(self) -> list[dict[str, Any]]:
        """Each video's best class and scores as JSON values."""
        return [
            {"video_id": video_id, "label": best, "scores": dict(zip(self.classes, row.tolist(), strict=True))}
            for video_id, best, row in zip(self.video_ids, self.best, self.scores_NK, strict=True)
        ]

    def with_best_labels(self) -> "Predictions":
        """The same scores with the best class as each video's label, where none is known."""
        return replace(self, labels=tuple((name,) for name in self.best))

    def text(self) -> str:
        """For the terminal: the three best classes of each video."""
        rows = [
            [video_id, *(cell for name, score in top for cell in (name, f"{score:.3f}"))]
            for video_id, top in zip(self.video_ids, self.top(BEST_SHOWN), strict=True)
        ]
        ranks = ("label", "second", "third")[: min(BEST_SHOWN, len(self.classes))]
        return "\n".join(aligned([["clip", *(cell for rank in ranks for cell in (rank, "score"))], *rows], 2))

    @property
    def best(self) -> tuple[str, ...]:
        """The class with the highest score of each video."""
        return tuple(self.classes[index] for index in self.scores_NK.argmax(axis=1))

    def top(self, count: int = 5) -> tuple[tuple[tuple[str, float], ...], ...]:
        """For each video the ``count`` best classes with their scores, best first."""
        order = np.argsort(-self.scores_NK, axis=1, kind="stable")[:, :count]
        return tuple(
            tuple((self.classes[column], float(row[column])) for column in columns)
            for row, columns in zip(self.scores_NK, order, strict=True)
        )


@dataclass(frozen=True)
class Interval:
    """Bounds of a 95 % interval."""

    low: float
    high: float

    def to_dict(self) -> list[float]:
        """As a JSON value."""
        return [self.low, self.high]

    def text(self) -> str:
        """As it stands behind a number."""
        return f"[{self.low:.3f}, {self.high:.3f}]"


@dataclass(frozen=True)
class Metrics:
    """What the scores of a set of videos amount to.

    Attributes:
        videos: how many were scored.
        accuracy: share whose best class is the label; None where videos can have several labels.
        map_macro: mean over classes of average precision, one class against the rest; None without any positive.
        map_micro: average precision of all (video, class) pairs in one ranking.
        classes_without_positives: classes that no video here has: they are left out of ``map_macro``.
        unseen_labels: labels here that the head was never trained on; such videos count as wrong.
        intervals: 95 % interval of some of the numbers by name; see :mod:`actiondiff.heads.bootstrap`.
    """

    videos: int
    accuracy: float | None
    map_macro: float | None
    map_micro: float | None
    classes_without_positives: tuple[str, ...] = ()
    unseen_labels: tuple[str, ...] = ()
    intervals: dict[str, Interval] = field(default_factory=dict)

    @property
    def headlines(self) -> dict[str, float]:
        """The numbers that are defined, by name."""
        named = {"accuracy": self.accuracy, "map_macro": self.map_macro, "map_micro": self.map_micro}
        return {name: value for name, value in named.items() if value is not None}

    @property
    def main(self) -> float:
        """The number that chooses the epoch: accuracy for one label, ``map_macro`` for several."""
        value = self.map_macro if self.accuracy is None else self.accuracy
        return 0.0 if value is None else value

    def to_dict(self) -> dict[str, Any]:
        """As JSON values; without ``accuracy`` where it is not defined."""
        values: dict[str, Any] = {} if self.accuracy is None else {"accuracy": self.accuracy}
        values |= {"map_macro": self.map_macro, "map_micro": self.map_micro, "videos": self.videos}
        values["classes_without_positives"] = list(self.classes_without_positives)
        values |= {"intervals": {n: i.to_dict() for n, i in self.intervals.items()}} if self.intervals else {}
        return values | ({"unseen_labels": list(self.unseen_labels)} if self.unseen_labels else {})

    def text(self) -> str:
        """One line for the terminal."""
        shown = [f"{METRIC_NAMES[name]} {value:.3f}{self._interval(name)}" for name, value in self.headlines.items()]
        shown.append(f"{self.videos} videos")
        if self.classes_without_positives:
            shown.append(f"left out of mAP macro for want of positives: {', '.join(self.classes_without_positives)}")
        if self.unseen_labels:
            shown.append(f"never trained on, counted as wrong: {', '.join(self.unseen_labels)}")
        return ", ".join(shown)

    def _interval(self, name: str) -> str:
        return f" {self.intervals[name].text()}" if name in self.intervals else ""


def measure(predictions: Predictions) -> Metrics:
    """Metrics of labelled predictions."""
    truth_NK = multi_hot(predictions.labels, predictions.classes)
    scores_NK, classes = predictions.scores_NK, predictions.classes
    macro, micro = average_precisions(scores_NK, truth_NK)
    hits = truth_NK[np.arange(len(truth_NK)), scores_NK.argmax(axis=1)]
    return Metrics(
        videos=len(predictions),
        accuracy=None if predictions.multilabel else float(hits.mean()),
        map_macro=macro,
        map_micro=micro,
        classes_without_positives=tuple(np.array(classes)[~truth_NK.any(axis=0)].tolist()),
        unseen_labels=tuple(sorted({label for row in predictions.labels for label in row} - set(classes))),
    )


def average_precisions(
    scores_NK: Float64[np.ndarray, "videos classes"], truth_NK: Bool[np.ndarray, "videos classes"]
) -> tuple[float | None, float | None]:
    """Macro and micro average precision; macro over classes with a positive, both None without any."""
    present = truth_NK.any(axis=0)
    if not present.any():
        return None, None
    scores, truth = torch.from_numpy(scores_NK), torch.from_numpy(truth_NK.astype(np.int64))
    each = [
        float(binary_average_precision(scores[:, k], truth[:, k], validate_args=False)) for k in np.flatnonzero(present)
    ]
    micro = binary_average_precision(scores.flatten(), truth.flatten(), validate_args=False)
    return float(np.mean(each)), float(micro)


def multi_hot(labels: Sequence[Sequence[str]], classes: Sequence[str]) -> Bool[np.ndarray, "videos classes"]:
    """True where a video has the class; labels that are no class leave no trace."""
    columns = {name: column for column, name in enumerate(classes)}
    truth_NK = np.zeros((len(labels), len(classes)), dtype=bool)
    for row, names in enumerate(labels):
        truth_NK[row, [columns[name] for name in names if name in columns]] = True
    return truth_NK


def write_predictions(path: Path, parts: dict[str, Predictions]) -> None:
    """Write ``video_id, label`` and one column a class; a ``part`` column in front where there are several parts."""
    classes = next(iter(parts.values())).classes
    several = len(parts) > 1
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow([*(["part"] if several else []), "video_id", "label", *classes])
        for name, predictions in parts.items():
            for video_id, labels, scores in zip(
                predictions.video_ids, predictions.labels, predictions.scores_NK, strict=True
            ):
                shown = [repr(score) for score in scores.tolist()]  # in full: rounding would make ties
                writer.writerow([*([name] if several else []), video_id, ";".join(labels), *shown])


def read_predictions(path: Path, multilabel: bool) -> dict[str, Predictions]:
    """Read what :func:`write_predictions` wrote: predictions by part, ``test`` where the file names no parts.

    Args:
        path: the file.
        multilabel: whether a video can have several labels, which the file does not say.

    Raises:
        InputError: the file is not of this form.
    """
    with path.open(newline="", encoding="utf-8") as file:
        header, *rows = list(csv.reader(file)) or [[]]
    ahead = 1 if header[:1] == ["part"] else 0
    if header[ahead : ahead + 2] != ["video_id", "label"] or any(len(row) != len(header) for row in rows):
        raise InputError(f"A predictions file has the columns video_id, label and one for each class; {path} has not.")
    parts: dict[str, list[list[str]]] = {}
    for row in rows:
        parts.setdefault(row[0] if ahead else "test", []).append(row[ahead:])
    try:
        return {name: _as_predictions(part, tuple(header[ahead + 2 :]), multilabel) for name, part in parts.items()}
    except ValueError as error:
        raise InputError(f"The scores of a predictions file are numbers; in {path}: {error}.") from error


def _as_predictions(rows: Sequence[Sequence[str]], classes: tuple[str, ...], multilabel: bool) -> Predictions:
    labels = tuple(tuple(label for label in row[1].split(";") if label) for row in rows)
    scores_NK = np.array([row[2:] for row in rows], dtype=np.float64).reshape(len(rows), len(classes))
    return Predictions(tuple(row[0] for row in rows), labels, classes, scores_NK, multilabel)
