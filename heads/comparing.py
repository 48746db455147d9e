"""One run beside others on the same videos: whether they differ by more than chance."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from actiondiff import InputError
from actiondiff.heads.bootstrap import DRAWS, Difference, differences, holm
from actiondiff.heads.metrics import METRIC_NAMES, Predictions
from actiondiff.heads.tables import aligned, number

HOW = "paired bootstrap over the same videos, p two-sided"


@dataclass(frozen=True)
class Comparison:
    """This run against another.

    Attributes:
        name: the other run.
        differences: by metric.
        videos: how many both were measured on.
        tests: how many comparisons were made at once, which the p-values are corrected for.
    """

    name: str
    differences: tuple[Difference, ...]
    videos: int
    tests: int = 1

    def to_dict(self) -> dict[str, Any]:
        """As JSON values."""
        return {
            "run": self.name,
            "videos": self.videos,
            "how": HOW,
            "corrected_for": self.tests,
            "differences": [difference.to_dict() for difference in self.differences],
        }

    def text(self) -> str:
        """For the terminal."""
        rows = [["metric", "this run", "other", "difference", "95 % interval", "p"]]
        for part in self.differences:
            interval = f"[{part.interval.low:+.3f}, {part.interval.high:+.3f}]"
            values = (number(part.ours), number(part.theirs), f"{part.ours - part.theirs:+.3f}")
            rows.append([METRIC_NAMES[part.metric], *values, interval, number(part.p_value)])
        corrected = f", corrected for {self.tests} runs (Holm)" if self.tests > 1 else ""
        head = f"against {self.name} on {self.videos} videos: {HOW}{corrected}"
        if not self.differences:
            return f"{head}: too few videos or groups to draw from"
        return "\n".join([head, *aligned(rows)])


def compare(
    ours: Predictions,
    others: Mapping[str, Predictions],
    groups: Sequence[str] = (),
    *,
    draws: int = DRAWS,
    seed: int = 0,
) -> tuple[Comparison, ...]:
    """Test a run against others; with several, each metric's p-values are corrected for their number (Holm).

    Args:
        ours: labelled scores of this run.
        others: of the others by name, on the same videos.
        groups: of each video, for the bootstrap.
        draws: of the bootstrap.
        seed: likewise.

    Raises:
        InputError: another run knows other classes.
    """
    found = {}
    for name, theirs in others.items():
        try:
            found[name] = differences(ours, _in_our_order(ours, theirs), groups, draws=draws, seed=seed)
        except InputError as error:
            error.add_note(f"while comparing with {name}")
            raise
    corrected = {name: list(parts) for name, parts in found.items()}
    for place in range(min(map(len, found.values()), default=0)):
        p_values = holm([parts[place].p_value for parts in found.values()])
        for name, p_value in zip(found, p_values, strict=True):
            corrected[name][place] = replace(found[name][place], p_value=p_value)
    return tuple(Comparison(name, tuple(parts), len(ours), len(found)) for name, parts in corrected.items())


def _in_our_order(ours: Predictions, theirs: Predictions) -> Predictions:
    """The same scores with the classes in our order, if they are the same."""
    if ours.classes == theirs.classes or set(ours.classes) != set(theirs.classes):
        return theirs
    places = [theirs.classes.index(name) for name in ours.classes]
    return replace(theirs, classes=ours.classes, scores_NK=theirs.scores_NK[:, places])
