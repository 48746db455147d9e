"""`column=value[,column=value…]`: which videos of a manifest are meant."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from actiondiff.manifests.faults import SelectionError
from actiondiff.manifests.video import Video

# A comma parts two conditions only where a further `column=` follows, so that a value may hold commas.
CONDITION_COMMA = re.compile(r",(?=[^,=]*=)")


@dataclass(frozen=True)
class Condition:
    """One `column=value`."""

    column: str
    value: str

    def holds(self, video: Video) -> bool:
        """Whether the video has the value; for `label`, whether it is one of its labels or all of them joined."""
        return self.value == video.column(self.column).strip() or self.value in video.values(self.column)

    def __str__(self) -> str:
        return f"{self.column}={self.value}"


def parse_where(text: str, columns: Sequence[str]) -> tuple[Condition, ...]:
    """Read a selection such as `domain=lawn,split=test`.

    Args:
        text: the conditions, all of which must hold.
        columns: the columns there are.

    Raises:
        SelectionError: a condition has no `=`, or names a column that is not there.
    """
    conditions = tuple(_condition(part, text) for part in CONDITION_COMMA.split(text))
    unknown = [condition.column for condition in conditions if condition.column not in columns]
    if unknown:
        raise SelectionError(f"The manifest has no column {unknown[0]!r}; it has: {', '.join(columns)}.")
    return conditions


def _condition(part: str, text: str) -> Condition:
    column, equals, value = part.partition("=")
    if not equals or not column.strip():
        raise SelectionError(
            f"{text!r} is not a selection; write column=value, several joined by commas: domain=lawn,split=test."
        )
    return Condition(column.strip(), value.strip())
