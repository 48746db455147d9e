"""Tables for the terminal: plain text in columns."""

import math
from collections.abc import Sequence

NO_VALUE = "-"


def aligned(rows: Sequence[Sequence[str]], text_columns: int = 1) -> list[str]:
    """Rows of cells as lines of equal columns.

    Args:
        rows: the cells; the first row is the header.
        text_columns: how many columns from the left hold text and stand at the left; numbers stand at the right.
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            cell.ljust(width) if place < text_columns else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]


def number(value: float | None, digits: int = 3) -> str:
    """A number of a table; a dash where there is none (None or NaN)."""
    return NO_VALUE if value is None or math.isnan(value) else f"{value:.{digits}f}"
