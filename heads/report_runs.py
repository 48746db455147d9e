"""A run as the report shows it: its recipe, and each test set's numbers, classes, mistakes and hardest examples."""

# ruff: noqa: N806 - letters in names say the axes

import base64
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from actiondiff.heads.calibration import Calibration
from actiondiff.heads.classwise import ClassResult, Confusion, best_first
from actiondiff.heads.metrics import METRIC_NAMES, Metrics, Predictions, multi_hot, read_predictions
from actiondiff.heads.reading import Reading, read_result
from actiondiff.heads.report_heat import Cell, HeatMap
from actiondiff.heads.runs import RunConfig, read_description
from actiondiff.heads.tables import number

if TYPE_CHECKING:
    from actiondiff.heads.report import Picture

LARGEST_CONFUSION = 30
MISTAKES = 15


@dataclass(frozen=True)
class Example:
    """A video that a head finds hard.

    Attributes:
        video_id: the video.
        labels: its labels, joined.
        best: the head's best class, with its score.
        own: score of the label that scores least.
        picture: as a data URI; None without one.
        size: width and height of the picture.
    """

    video_id: str
    labels: str
    best: str
    own: str
    picture: str | None
    size: tuple[int, int] = (0, 0)


@dataclass(frozen=True)
class PartView:
    """One test set of a run.

    Attributes:
        name: of the test set.
        reading: all its numbers.
        numbers: headline name, value and interval, as text.
        classes: best first, those without a video last.
        confusion: as a heat map, None where it is too large or not defined.
        mistakes: the most frequent ones: label, class taken, times.
        dots: places of the calibration curve's points, in percent from left and top.
        examples: the hardest, hardest first.
    """

    name: str
    reading: Reading
    numbers: tuple[tuple[str, str, str], ...]
    classes: tuple[ClassResult, ...]
    confusion: HeatMap | None
    mistakes: tuple[tuple[str, str, int], ...]
    dots: tuple[tuple[float, float], ...]
    examples: tuple[Example, ...]


@dataclass(frozen=True)
class RunView:
    """One run.

    Attributes:
        name: its folder.
        head: kind of head, layer and timestep, in words.
        config: everything that decided it.
        validation: what the part that chose the epoch gave, "" without one.
        parts: its test sets.
        recipe: name and value of every setting, features first.
        notes: what the reader should know.
    """

    name: str
    head: str
    config: RunConfig
    validation: str
    parts: tuple[PartView, ...]
    recipe: tuple[tuple[str, str], ...]
    notes: tuple[str, ...]


def view_run(
    folder: Path, thumbnail: Callable[[str], "Picture | None"], examples: int, draws: int, seed: int
) -> RunView:
    """Read a run's folder; numbers are computed anew from its predictions.

    Raises:
        RunError: not a run's folder.
        InputError: its predictions cannot be read.
    """
    config, groups = read_description(folder)
    predictions = folder / "predictions.csv"
    parts = read_predictions(predictions, config.multilabel) if predictions.exists() else {}
    if list(parts) == ["test"] and not _tested(folder):
        parts = {"val (this part chose the epoch: flattered)": parts["test"]}
    views = []
    for name, part in parts.items():
        reading = read_result(part, [groups.get(video_id, "") for video_id in part.video_ids], draws=draws, seed=seed)
        views.append(_view_part(name, part, reading, thumbnail, examples))
    return RunView(
        name=str(folder),
        head=f"{config.fit.head} head on {config.recipe.get('backbone', 'features')}, {config.key}",
        config=config,
        validation=_validation(folder),
        parts=tuple(views),
        recipe=tuple(_settings(config)),
        notes=tuple(config.details.get("notes", ())),
    )


def hardest(predictions: Predictions, count: int) -> list[int]:
    """Rows of the videos whose labels fall furthest behind the best class that they do not have, hardest first.

    Videos that the head has right, with every label before all other classes, are not among them.
    """
    truth_NK, scores_NK = multi_hot(predictions.labels, predictions.classes), predictions.scores_NK
    lowest_own = np.where(truth_NK, scores_NK, np.inf).min(axis=1, initial=np.inf)
    lowest_own = np.where(truth_NK.any(axis=1), lowest_own, 0.0)
    highest_other = np.where(truth_NK, -np.inf, scores_NK).max(axis=1, initial=-np.inf)
    margin = lowest_own - highest_other
    order = np.argsort(margin, kind="stable")[:count]
    return [int(row) for row in order if margin[row] < 0]


def _view_part(
    name: str, part: Predictions, reading: Reading, thumbnail: Callable[[str], "Picture | None"], examples: int
) -> PartView:
    confusion = reading.confusion
    small = confusion is not None and len(confusion.labels) <= LARGEST_CONFUSION
    return PartView(
        name=name,
        reading=reading,
        numbers=tuple(_numbers(reading.metrics)),
        classes=tuple(best_first(reading.classes)),
        confusion=_confusion_map(confusion) if confusion and small else None,
        mistakes=confusion.mistakes(MISTAKES) if confusion else (),
        dots=tuple(_dots(reading.calibration)),
        examples=tuple(_example(part, row, thumbnail) for row in hardest(part, examples)),
    )


def _numbers(metrics: Metrics) -> list[tuple[str, str, str]]:
    found = []
    for name, value in metrics.headlines.items():
        interval = metrics.intervals.get(name)
        found.append((METRIC_NAMES[name], number(value), interval.text() if interval else "no interval"))
    return found


def _confusion_map(confusion: Confusion) -> HeatMap:
    totals = confusion.counts_LK.sum(axis=1)
    rows = [
        tuple(Cell(str(count) if count else "", count / total if total else None) for count in row)
        for row, total in zip(confusion.counts_LK.tolist(), totals.tolist(), strict=True)
    ]
    return HeatMap("label", "best class", confusion.labels, confusion.classes, tuple(rows))


def _dots(calibration: Calibration) -> list[tuple[float, float]]:
    return [
        (round(100 * (part.confidence or 0.0), 2), round(100 - 100 * (part.accuracy or 0.0), 2))
        for part in calibration.bins
        if part.count
    ]


def _example(part: Predictions, row: int, thumbnail: Callable[[str], "Picture | None"]) -> Example:
    video_id, labels = part.video_ids[row], part.labels[row]
    best = int(part.scores_NK[row].argmax())
    known = [float(part.scores_NK[row, part.classes.index(label)]) for label in labels if label in part.classes]
    picture = thumbnail(video_id)
    return Example(
        video_id=video_id,
        labels=", ".join(labels),
        best=f"{part.classes[best]} ({number(float(part.scores_NK[row, best]))})",
        own=number(min(known)) if known else "never trained on",
        picture=f"data:{picture.mime};base64,{base64.b64encode(picture.data).decode()}" if picture else None,
        size=(picture.width, picture.height) if picture else (0, 0),
    )


def _settings(config: RunConfig) -> list[tuple[str, str]]:
    values: dict[str, Any] = {
        **{f"features: {name}": value for name, value in config.recipe.items()},
        "layer": config.key.layer,
        "timestep": config.key.timestep,
        **{f"head: {name}": value for name, value in config.fit.to_dict().items() if value is not None},
        "labels": f"{len(config.classes)} classes, {'several' if config.multilabel else 'one'} a video",
        "weights taken": config.selection,
        "fingerprint": config.fingerprint,
        **{name: value for name, value in config.details.items() if name not in ("notes", "notice")},
    }
    return [(name, value if isinstance(value, str) else json.dumps(value)) for name, value in values.items()]


def _read_metrics(folder: Path) -> dict[str, Any]:
    path = folder / "metrics.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


def _tested(folder: Path) -> bool:
    return bool(set(_read_metrics(folder)) - {"val", "notice"})


def _validation(folder: Path) -> str:
    values = _read_metrics(folder).get("val")
    if not values:
        return ""
    shown = [f"{name} {number(values[key])}" for key, name in METRIC_NAMES.items() if values.get(key) is not None]
    return ", ".join(shown)
