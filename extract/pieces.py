"""How much goes through a device at once: as much as fits, half of it where memory runs out."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

import torch
from torch import nn

from actiondiff import InputError

MOST = 32
"""Windows at a timestep that go through together at most: behind that a GPU has nothing left to gain."""

SHARE = 0.8
"""Of the free memory that a batch may take."""

_NO_MEMORY = ("CUDA out of memory", "CUDA error: out of memory", "_STATUS_ALLOC_FAILED")

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
            torch.OutOfMemoryError: a single item is too much; or RuntimeError, see :func:`is_out_of_memory`.
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
        except RuntimeError as error:
            if len(piece) == 1 or not is_out_of_memory(error):
                raise
            self.size = len(piece) // 2
            return None


def is_out_of_memory(error: RuntimeError) -> bool:
    """Whether a GPU had no memory left: for a tensor, or for the work space of cuBLAS, cuDNN and their like."""
    return isinstance(error, torch.OutOfMemoryError) or any(text in str(error) for text in _NO_MEMORY)


def if_it_fits(function: Callable[[], Result]) -> Result | None:
    """What a function gives; None where the device's memory runs out, with that memory free again."""
    try:
        return function()
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
    # Outside of the handler, as in `Pieces.run`.
    torch.cuda.empty_cache()
    return None


@contextmanager
def widened(*networks: nn.Module) -> Iterator[bool]:
    """Half-precision networks in float32 for a moment, if that fits; narrowing restores every weight exactly."""
    before = [next(network.parameters()).dtype for network in networks]
    try:
        yield if_it_fits(lambda: [nn.Module.to(network, torch.float32) for network in networks]) is not None
    finally:
        for network, dtype in zip(networks, before, strict=True):
            nn.Module.to(network, dtype)


def largest_batch(free_bytes: int, bytes_each: int) -> int:
    """How many items fit beside what is there already, judged by what one has taken."""
    return max(1, min(MOST, int(SHARE * free_bytes) // max(1, bytes_each)))
