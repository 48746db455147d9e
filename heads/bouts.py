"""Bouts: runs of one label over time, without those that are too short to be real.

Axes: S steps in time.
"""

# ruff: noqa: N803 - letters in names say the axes

import heapq
from collections.abc import Iterator

import numpy as np
from jaxtyping import Float64, Int64

NONE = -1
"""In place of a class where no label holds."""


def settled(
    label_S: Int64[np.ndarray, " steps"], bounds_seconds: Float64[np.ndarray, " bounds"], min_seconds: float
) -> list[tuple[int, int, int]]:
    """Runs of one label that last long enough.

    The shortest run goes first: if the runs on both sides are of one label, it is taken into them; else no label holds
    there. So a flicker inside a bout is closed, a stray bout is dropped, and a gap is closed only if it is shorter than
    ``min_seconds`` and one label holds on both sides of it.

    Args:
        label_S: what holds at each step, :data:`NONE` for nothing.
        bounds_seconds: where steps begin, and where the last one ends.
        min_seconds: runs from this length on stay.

    Returns:
        label, first step, and the step after the last, in order of time; without :data:`NONE`.
    """
    runs = _Runs(label_S, bounds_seconds)
    heap = [runs.rank(place) for place in range(len(runs.labels))]
    heapq.heapify(heap)
    while heap:
        seconds, _, place = heapq.heappop(heap)
        if not seconds < min_seconds:
            break
        if runs.gone[place] or runs.seconds(place) != seconds:
            continue  # it has grown since, and stands in the heap again with its new length
        before, after = runs.neighbours(place)
        if before is not None and after is not None and runs.labels[before] == runs.labels[after]:
            runs.labels[place] = runs.labels[before]
        elif runs.labels[place] != NONE:
            runs.labels[place] = NONE
        else:
            continue
        place = runs.join(place)
        heapq.heappush(heap, runs.rank(place))
    return list(runs)


class _Runs:
    """Runs of equal labels that can be joined, each found by its first place."""

    def __init__(self, label_S: Int64[np.ndarray, " steps"], bounds_seconds: Float64[np.ndarray, " bounds"]) -> None:
        starts = np.flatnonzero(np.diff(label_S, prepend=label_S[0] - 1)) if len(label_S) else np.array([], dtype=int)
        self.labels = [int(label) for label in label_S[starts]]
        self.first = [int(start) for start in starts]
        self.last = [*self.first[1:], len(label_S)]
        self.gone = [False] * len(self.labels)
        self._before = list(range(-1, len(self.labels) - 1))
        self._after = list(range(1, len(self.labels) + 1))
        self._bounds = bounds_seconds

    def seconds(self, place: int) -> float:
        return float(self._bounds[self.last[place]] - self._bounds[self.first[place]])

    def rank(self, place: int) -> tuple[float, bool, int]:
        """The shortest first; among equals gaps before bouts, so that a bout with many short gaps is one."""
        return self.seconds(place), self.labels[place] != NONE, place

    def neighbours(self, place: int) -> tuple[int | None, int | None]:
        before, after = self._before[place], self._after[place]
        return before if before >= 0 else None, after if after < len(self.labels) else None

    def join(self, place: int) -> int:
        """Join a run with neighbours of its label; the place of what comes of it."""
        before, after = self.neighbours(place)
        if after is not None and self.labels[after] == self.labels[place]:
            self._swallow(place, after)
        if before is not None and self.labels[before] == self.labels[place]:
            self._swallow(before, place)
            return before
        return place

    def _swallow(self, place: int, following: int) -> None:
        self.last[place], self._after[place] = self.last[following], self._after[following]
        self.gone[following] = True
        if self._after[place] < len(self.labels):
            self._before[self._after[place]] = place

    def __iter__(self) -> Iterator[tuple[int, int, int]]:
        for label, first, last, gone in zip(self.labels, self.first, self.last, self.gone, strict=True):
            if label != NONE and not gone:
                yield label, first, last
