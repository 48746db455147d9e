"""How much goes through a device at once: as much as fits, half of it where memory runs out."""

from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

import torch

from actiondiff import InputError

MOST = 32
"""Windows at a timestep that go through together at most: behind that a GPU has nothing left to gain."""

SHARE = 0.8
"""Of the free memory that a batch may take."""

Item = TypeVar("Item")
Result = TypeVar("Result")


class Pieces:
    """Runs a function over items, several at once; where the device's memory runs out, over half as many from then on.

    Args:
        size: items at once.
    """

    def __init__(self, size: int) -> None:
        if size < 1:
            raise InputError(f"--batch is at least 1; got {size}.")
        self.size = size

    def run(self, items: Sequence[Item], function: Callable[[Sequence[Item]], Iterable[Result]]) -> list[Result]:
        """What the function gives for every item, in order.

        Raises:
            torch.OutOfMemoryError: a single item is too much.
        """
        results: list[Result] = []
        while len(results) < len(items):
            piece = items[len(results) : len(results) + self.size]
            found = self._tried(piece, function)
            if found is None:  # outside of the handler: a traceback there would keep the tensors that did not fit
                torch.cuda.empty_cache()
            else:
                results += found
        return results

    def _tried(
        self, piece: Sequence[Item], function: Callable[[Sequence[Item]], Iterable[Result]]
    ) -> list[Result] | None:
        try:
            return list(function(piece))
        except torch.OutOfMemoryError:
            if len(piece) == 1:
                raise
            self.size = len(piece) // 2
            return None


def largest_batch(free_bytes: int, bytes_each: int) -> int:
    """How many items fit beside what is there already, judged by what one has taken."""
    return max(1, min(MOST, int(SHARE * free_bytes) // max(1, bytes_each)))
