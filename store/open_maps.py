"""Which maps of features a reader keeps: each holds a file open, so the oldest are let go before there are too many."""

import resource
from collections.abc import Collection
from contextlib import suppress
from functools import cache

from actiondiff.store.part import Part
from actiondiff.store.records import FeatureKey

MOST_MAPS = 2**15


class OpenMaps:
    """The units that a reader's parts have mapped, oldest first. Threads may share it.

    A unit is noted after it was mapped: then each map is noted by whoever made it, whatever other threads let go
    meanwhile. One that was noted and let go at once costs no more than to be mapped anew. There is no lock: a process
    that is forked while another thread holds one would wait for it for ever.
    """

    def __init__(self) -> None:
        self._units: dict[tuple[Part, tuple[int, ...]], None] = {}

    def note(self, part: Part, key: FeatureKey) -> None:
        """The part has mapped what holds the key: the oldest are let go where these are too many now."""
        self._units[part, part.unit(key)] = None
        while len(self._units) > maps_at_most():
            with suppress(StopIteration, RuntimeError, KeyError):  # another thread is at it, too
                oldest, unit = next(iter(self._units))
                del self._units[oldest, unit]
                oldest.forget(unit)

    def keep(self, parts: Collection[Part]) -> None:
        """Count no maps but those of these parts; the others are gone as soon as no view of them is in use."""
        for unit in [unit for unit in list(self._units) if unit[0] not in parts]:
            self._units.pop(unit, None)


@cache
def maps_at_most() -> int:
    """Half of the files that this process may have open, since a map keeps its file; Linux allows 65,530 maps."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return max(min(soft // 2, MOST_MAPS), 16) if soft != resource.RLIM_INFINITY else MOST_MAPS
