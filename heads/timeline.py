"""A long clip over time: a score for every window, smoothed, and the bouts that come of it.

Axes: F frames, W windows, S steps in time, K classes.
"""

# ruff: noqa: N803, N806, N815 - letters in names say the axes

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Float64, Int64

from actiondiff import InputError
from actiondiff.heads.bouts import NONE, settled
from actiondiff.heads.evaluation import check_recipe, predict
from actiondiff.heads.runs import Run
from actiondiff.store import FeatureStore

WINDOWS_AT_ONCE = 256
DEFAULT_THRESHOLD = 0.5


@dataclass(frozen=True)
class TimelineSettings:
    """How scores over time become bouts.

    Attributes:
        window: sampled frames scored together; None for the backbone's window, or the head's length if that is shorter.
        hop: sampled frames from one window to the next; None for half a window.
        smooth_seconds: width of the moving average over the scores; 0 for none.
        min_seconds: bouts that are shorter are dropped, gaps of a bout that are shorter are closed.
        threshold: score from which on a label holds; None for 0.5 where a clip can have several labels, and for none
            where it has one: then the best label holds at every time.
    """

    window: int | None = None
    hop: int | None = None
    smooth_seconds: float = 1.0
    min_seconds: float = 0.5
    threshold: float | None = None

    def __post_init__(self) -> None:
        if any(value is not None and value < 1 for value in (self.window, self.hop)):
            raise InputError(f"A window and its hop are 1 frame or more; got {self.window} and {self.hop}.")
        if self.window is not None and self.hop is not None and self.hop > self.window:
            raise InputError(f"Windows leave no gap: a hop is at most a window; got {self.hop} after {self.window}.")
        if self.smooth_seconds < 0 or self.min_seconds < 0:
            raise InputError(f"Seconds are 0 or more; got {self.smooth_seconds} and {self.min_seconds}.")
        if self.threshold is not None and not 0 <= self.threshold <= 1:
            raise InputError(f"A threshold is a score from 0 to 1; got {self.threshold}.")

    def frames(self, run: Run) -> tuple[int, int]:
        """Window and hop in sampled frames, for a run.

        Raises:
            InputError: a window longer than the head.
        """
        longest = run.head.config.max_length
        if self.window is not None and self.window > longest:
            raise InputError(f"This head takes {longest} frames at most; a window of {self.window} would be cut.")
        window = self.window or min(int(run.config.recipe.get("window") or longest), longest)
        return window, min(self.hop or max(1, window // 2), window)


@dataclass(frozen=True)
class Bout:
    """A time during which a label holds; the score is its mean over that time."""

    start_seconds: float
    end_seconds: float
    label: str
    score: float

    def to_dict(self) -> dict[str, Any]:
        """As JSON values."""
        return {
            "start_seconds": self.start_seconds,
            "end_seconds": self.end_seconds,
            "label": self.label,
            "score": self.score,
        }


@dataclass(frozen=True, eq=False)
class Timeline:
    """Scores of one clip over time.

    Attributes:
        video_id: the clip.
        classes: of the scores' columns.
        bounds_seconds: where steps begin, and where the last one ends.
        scores_SK: of each step, smoothed.
        bouts: in order of their beginning.
        window_seconds: length of most windows.
    """

    video_id: str
    classes: tuple[str, ...]
    bounds_seconds: Float64[np.ndarray, " bounds"]
    scores_SK: Float64[np.ndarray, "steps classes"]
    bouts: tuple[Bout, ...]
    window_seconds: float

    def __post_init__(self) -> None:
        if self.scores_SK.shape != (len(self.bounds_seconds) - 1, len(self.classes)):
            raise InputError(
                f"A timeline has scores for every step and class; got {self.scores_SK.shape} for "
                f"{len(self.bounds_seconds) - 1} steps and {len(self.classes)} classes."
            )

    @property
    def seconds(self) -> float:
        """Where the last step ends."""
        return float(self.bounds_seconds[-1])

    def to_dict(self) -> dict[str, Any]:
        """As JSON values."""
        return {
            "video_id": self.video_id,
            "seconds": self.seconds,
            "window_seconds": self.window_seconds,
            "bouts": [bout.to_dict() for bout in self.bouts],
            "bounds_seconds": self.bounds_seconds.tolist(),
            "scores": {name: self.scores_SK[:, k].tolist() for k, name in enumerate(self.classes)},
        }


def predict_over_time(
    run: Run,
    features: Float[np.ndarray, "frames channels"],
    pts_seconds: Float64[np.ndarray, " frames"],
    video_id: str = "",
    settings: TimelineSettings = TimelineSettings(),
    *,
    device: str = "auto",
) -> Timeline:
    """Score windows along a clip and find bouts.

    Every step in time gets the mean score of the windows that hold it; a moving average follows; then a label holds
    where its score is the best (one label) or reaches the threshold (several labels). What is too short is settled by
    :func:`actiondiff.heads.bouts.settled`.

    Args:
        run: a fitted head.
        features: of the clip's sampled frames.
        pts_seconds: their times.
        video_id: the clip's name.
        settings: window, smoothing, shortest bout.
        device: ``auto``, ``cpu`` or ``cuda``.

    Raises:
        InputError: frames without times, as from a folder of images.
    """
    if np.isnan(pts_seconds).any() or len(pts_seconds) != len(features):
        raise InputError(
            f"A timeline needs the time of every frame, and {video_id or 'this clip'} has none (a folder of images has "
            "no clock). Make a video file of it."
        )
    window, hop = settings.frames(run)
    starts_W = _window_starts(len(features), window, hop)
    scores_WK = _window_scores(run, features, starts_W, window, device)
    edges, scores_SK = _steps(scores_WK, starts_W, window, len(features))
    times = np.append(pts_seconds, pts_seconds[-1] + _spacing(pts_seconds))
    bounds_seconds = times[edges]
    smooth_SK = smoothed(scores_SK, bounds_seconds, settings.smooth_seconds)
    bouts = _bouts(smooth_SK, bounds_seconds, run, settings)
    length = float(times[min(window, len(features))] - times[0])
    return Timeline(video_id, run.config.classes, bounds_seconds, smooth_SK, bouts, length)


def predict_timelines(
    run: Run,
    store: FeatureStore,
    video_ids: Sequence[str] | None = None,
    settings: TimelineSettings = TimelineSettings(),
    *,
    device: str = "auto",
) -> tuple[Timeline, ...]:
    """:func:`predict_over_time` for clips of a store, one in memory at a time.

    Args:
        run: a fitted head.
        store: features by the run's own recipe.
        video_ids: which clips; None for all.
        settings: window, smoothing, shortest bout.
        device: ``auto``, ``cpu`` or ``cuda``.

    Raises:
        RunError: the store holds features of another recipe.
        InputError: as for :func:`predict_over_time`.
    """
    check_recipe(run, store)
    key, found = run.config.key, []
    for video_id in store.video_ids if video_ids is None else video_ids:
        features = store.read(video_id, layer=key.layer, timestep=key.timestep)
        found.append(predict_over_time(run, features, store.pts_seconds(video_id), video_id, settings, device=device))
    return tuple(found)


def smoothed(
    scores_SK: Float64[np.ndarray, "steps classes"], bounds_seconds: Float64[np.ndarray, " bounds"], seconds: float
) -> Float64[np.ndarray, "steps classes"]:
    """A moving average: each step's mean over the time around its middle; at the ends, over what is there."""
    if seconds == 0:
        return scores_SK
    area_SK = np.cumsum(scores_SK * np.diff(bounds_seconds)[:, None], axis=0)
    area_BK = np.concatenate([np.zeros((1, scores_SK.shape[1])), area_SK])
    middle_S = (bounds_seconds[1:] + bounds_seconds[:-1]) / 2
    low_S = np.maximum(middle_S - seconds / 2, bounds_seconds[0])
    high_S = np.minimum(middle_S + seconds / 2, bounds_seconds[-1])
    inside = [np.interp(high_S, bounds_seconds, area) - np.interp(low_S, bounds_seconds, area) for area in area_BK.T]
    return np.clip(np.stack(inside, axis=1) / (high_S - low_S)[:, None], 0, 1)


def _window_starts(frames: int, window: int, hop: int) -> Int64[np.ndarray, " windows"]:
    """First frames of windows; the last window ends with the clip, so that it is as long as the others."""
    last = max(0, frames - window)
    starts = np.arange(0, last + 1, hop)
    return starts if starts[-1] == last else np.append(starts, last)


def _window_scores(
    run: Run, features: Float[np.ndarray, "frames channels"], starts_W: Int64[np.ndarray, " windows"], window: int,
    device: str,
) -> Float64[np.ndarray, "windows classes"]:  # fmt: skip
    parts = []
    for first in range(0, len(starts_W), WINDOWS_AT_ONCE):
        cut = [features[start : start + window] for start in starts_W[first : first + WINDOWS_AT_ONCE]]
        parts.append(predict(run, cut, device=device).scores_NK)
    return np.concatenate(parts)


def _steps(
    scores_WK: Float64[np.ndarray, "windows classes"], starts_W: Int64[np.ndarray, " windows"], window: int, frames: int
) -> tuple[Int64[np.ndarray, " bounds"], Float64[np.ndarray, "steps classes"]]:
    """Steps between all beginnings and ends of windows, each with the mean of the windows that hold it."""
    ends_W = np.minimum(starts_W + window, frames)
    edges = np.unique(np.concatenate([starts_W, ends_W]))
    change_BK = np.zeros((len(edges), scores_WK.shape[1]))
    count_B = np.zeros(len(edges))
    for at_W, sign in ((starts_W, 1.0), (ends_W, -1.0)):
        places = np.searchsorted(edges, at_W)
        np.add.at(change_BK, places, sign * scores_WK)
        np.add.at(count_B, places, sign)
    sums_SK, counts_S = np.cumsum(change_BK, axis=0)[:-1], np.cumsum(count_B)[:-1]
    return edges, np.clip(sums_SK / counts_S[:, None], 0, 1)


def _bouts(
    scores_SK: Float64[np.ndarray, "steps classes"],
    bounds_seconds: Float64[np.ndarray, " bounds"],
    run: Run,
    settings: TimelineSettings,
) -> tuple[Bout, ...]:
    lengths_S, classes, found = np.diff(bounds_seconds), run.config.classes, []
    for label_S in _labels(scores_SK, run.config.multilabel, settings.threshold):
        for label, first, last in settled(label_S, bounds_seconds, settings.min_seconds):
            score = float(np.average(scores_SK[first:last, label], weights=lengths_S[first:last]))
            found.append(Bout(float(bounds_seconds[first]), float(bounds_seconds[last]), classes[label], score))
    return tuple(sorted(found, key=lambda bout: (bout.start_seconds, bout.end_seconds, bout.label)))


def _labels(
    scores_SK: Float64[np.ndarray, "steps classes"], multilabel: bool, threshold: float | None
) -> Iterator[Int64[np.ndarray, " steps"]]:
    """The class that holds at each step: one row for all classes, or one for each where several can hold at once."""
    if not multilabel:
        best_S = scores_SK.argmax(axis=1)
        holds_S = scores_SK.max(axis=1) >= (threshold or 0.0)
        yield np.where(holds_S, best_S, NONE)
        return
    for k, column_S in enumerate(scores_SK.T):
        yield np.where(column_S >= (DEFAULT_THRESHOLD if threshold is None else threshold), k, NONE)


def _spacing(pts_seconds: Float64[np.ndarray, " frames"]) -> float:
    """Time from one frame to the next: what the last one lasts."""
    return float(np.median(np.diff(pts_seconds))) if len(pts_seconds) > 1 else 0.04
