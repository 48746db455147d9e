"""Where every video lies: one dictionary over all parts, with a number instead of an object for each video."""

import time
from bisect import bisect_right
from collections.abc import Iterable, Mapping
from functools import cached_property
from itertools import chain, count
from pathlib import Path

from actiondiff.store.errors import PartGone, StoreError, telling_unreadable
from actiondiff.store.part import Part
from actiondiff.store.places import Place as Folder
from actiondiff.store.records import Failure
from actiondiff.store.remote import together

Place = int | tuple[int, ...]
"""A video's number, counted through all parts; several where it stands in several parts."""


class Index:
    """The parts that readers look at, and what is in them; it never changes, so that threads may share it.

    Attributes:
        parts: oldest first, without those that another part has taken the place of.
        opened: every part by name, those too.
        starts: the number of each part's first video.
        places: every video's number or numbers, in order of parts.
        failures: videos whose last try failed.
    """

    def __init__(self, opened: Mapping[str, Part]) -> None:
        superseded = {name for part in opened.values() for name in part.supersedes}
        self.opened = dict(opened)
        self.parts = tuple(part for name, part in opened.items() if name not in superseded)
        self.starts: list[int] = []
        videos = 0
        for part in self.parts:
            self.starts.append(videos)
            videos += len(part.video_ids)
        ids: Iterable[str] = chain.from_iterable(part.video_ids for part in self.parts)
        self.places: dict[str, Place] = dict(zip(ids, count()))
        self.has_repeats = len(self.places) < videos
        if self.has_repeats:
            self.places = self._places_one_by_one()
        self.failures = self._failures()

    def _places_one_by_one(self) -> dict[str, Place]:
        places: dict[str, Place] = {}
        for number, video_id in enumerate(chain.from_iterable(part.video_ids for part in self.parts)):
            earlier = places.get(video_id)
            if earlier is None:
                places[video_id] = number
            else:
                places[video_id] = (earlier, number) if isinstance(earlier, int) else (*earlier, number)
        return places

    def _failures(self) -> dict[str, Failure]:
        failures: dict[str, Failure] = {}
        for part in self.parts:
            if failures:
                for video_id in failures.keys() & set(part.video_ids):
                    del failures[video_id]
            failures.update({failure.video_id: failure for failure in part.failures})
        return failures

    @cached_property
    def video_ids(self) -> tuple[str, ...]:
        """Every video with features, in order of id."""
        return tuple(sorted(self.places))

    def part_of(self, number: int) -> tuple[Part, int]:
        """The part that has the video of this number, and the video's position in it."""
        part = bisect_right(self.starts, number) - 1
        return self.parts[part], number - self.starts[part]

    def of(self, video_id: str) -> list[tuple[Part, int]]:
        """Every part that has the video, and its position there, oldest first.

        Raises:
            KeyError: no part has it.
        """
        place = self.places[video_id]
        return [self.part_of(number) for number in ((place,) if isinstance(place, int) else place)]


def look(folder: Folder, known: Mapping[str, Part]) -> Index | None:
    """The index of the parts in a folder; None where they are those that are known.

    Parts may be merged or dropped while we look. What is merged is renamed into place before what it is made of goes
    away: so a listing in which nothing has vanished since the one before has not missed both.
    """
    while True:
        names = _stable_names(folder)
        if names == list(known):
            return None
        try:
            return Index(_opened(folder, names, known))
        except PartGone:
            time.sleep(0.001)


def _opened(folder: Folder, names: list[str], known: Mapping[str, Part]) -> dict[str, Part]:
    if isinstance(folder, Path):
        return {name: known.get(name) or Part.open(folder / name) for name in names}
    new = [name for name in names if name not in known]
    opened = dict(zip(new, together(lambda name: Part.open(folder / name), new), strict=True))
    return {name: known.get(name) or opened[name] for name in names}


def _stable_names(folder: Folder) -> list[str]:
    before = part_names(folder)
    while not set(before) <= set(names := part_names(folder)):
        before = names
    return names


def part_names(folder: Folder) -> list[str]:
    """Names of the parts, oldest first; anything else in the folder is none of a reader's business.

    Behind a URL, a part is there when its index is.
    """
    if not isinstance(folder, Path):
        found = (name.split("/") for name in folder.sizes())
        return sorted(name[0] for name in found if name[0].startswith("part-") and name[1:] == ["zarr.json"])
    try:
        with telling_unreadable(folder):
            return sorted(entry.name for entry in folder.iterdir() if entry.name.startswith("part-"))
    except (FileNotFoundError, NotADirectoryError) as error:
        raise StoreError(f"{folder} is missing: the store is damaged.") from error
