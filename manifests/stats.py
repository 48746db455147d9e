"""What a manifest holds, by label, domain and split, and what in it would spoil a result."""

import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from actiondiff.manifests.duplicates import EXAMPLES_SHOWN, SameBytes, same_bytes
from actiondiff.manifests.faults import shortened
from actiondiff.manifests.glimpses import Glimpse, glimpses, length_of
from actiondiff.manifests.manifest import Manifest
from actiondiff.manifests.near_duplicates import NearDuplicates, near_duplicates
from actiondiff.manifests.splits import misspelt_splits
from actiondiff.manifests.video import Video

COLUMNS_SHOWN = 10
NO_VALUE = "-"

Part = tuple[str, str]


@dataclass(frozen=True)
class Stats:
    """Counts of a manifest.

    Attributes:
        clips: number of clips of each (domain, split); empty names where the columns are.
        seconds: summed length of the clips whose length is known, by their row or by their file.
        timed: how many these are.
        labels: how often each label comes in each (domain, split).
        unlabelled: number of clips without a label.
        leaking: groups that stand in several splits.
        absent: for each split, labels that other splits have and it does not.
        misspelt: splits that mean train, val or test and are not spelt so; empty if there are none.
        same: files that hold the same bytes, and those that are not there.
        near: clips that show almost the same pictures; None where they were not looked for.
        unreadable: why files could not be looked at, by the id of the first clip of each.
    """

    clips: dict[Part, int]
    seconds: float
    timed: int
    labels: dict[str, dict[Part, int]]
    unlabelled: int
    leaking: tuple[str, ...]
    absent: dict[str, tuple[str, ...]]
    misspelt: str
    same: SameBytes
    near: NearDuplicates | None
    unreadable: dict[str, str]

    @property
    def untimed(self) -> int:
        """How many clips the seconds do not hold."""
        return sum(self.clips.values()) - self.timed

    @property
    def warnings(self) -> list[str]:
        """One sentence for whatever would spoil a result."""
        found = [
            f"split {split!r} has no clip of {len(labels)} labels: {shortened(labels, EXAMPLES_SHOWN)}."
            for split, labels in self.absent.items()
            if labels
        ]
        if self.misspelt:
            found.append(f"splits are spelt train, val and test, and not so: {self.misspelt}.")
        if self.leaking:
            groups = shortened(self.leaking, EXAMPLES_SHOWN)
            found.append(f"{len(self.leaking)} groups stand in several splits: {groups}.")
        found += [*self.same.warnings, *(self.near.warnings if self.near else ())]
        if self.unreadable:
            faults = shortened([fault.rstrip(".") for fault in self.unreadable.values()], EXAMPLES_SHOWN)
            found.append(f"{len(self.unreadable)} files cannot be looked at: {faults}.")
        return found

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain values."""
        return {
            "clips": sum(self.clips.values()),
            "by_domain_and_split": [_entry(part, count) for part, count in self.clips.items()],
            "seconds": self.seconds,
            "clips_with_seconds": self.timed,
            "clips_without_seconds": self.untimed,
            "labels": {label: [_entry(part, n) for part, n in row.items()] for label, row in self.labels.items()},
            "unlabelled": self.unlabelled,
            "labels_absent": {split: list(labels) for split, labels in self.absent.items()},
            "misspelt_splits": self.misspelt,
            "leaking_groups": list(self.leaking),
            "duplicates": [list(ids) for ids in self.same.sets],
            "duplicates_across_splits": self.same.across,
            "near_duplicates": self.near.to_dict() if self.near else None,
            "missing": list(self.same.missing),
            "unreadable": self.unreadable,
            "warnings": self.warnings,
        }

    def text(self) -> str:
        """The counts as a table, then the warnings."""
        counted = f"{self.seconds:.1f} s" if self.timed else "lengths not known"
        if self.timed and self.untimed:
            counted += f", without {self.untimed} clips of unknown length"
        head = f"{sum(self.clips.values())} clips ({counted}), {len(self.labels)} labels, {self.unlabelled} unlabelled"
        # Too wide for a terminal otherwise; the picture and --json have every domain.
        shorten = _without_domain if len(self.clips) > COLUMNS_SHOWN else dict
        clips = shorten(self.clips)
        parts = sorted(clips)
        rows = [("label", *map(part_name, parts))]
        for label, counts in {"(clips)": clips, **{label: shorten(row) for label, row in self.labels.items()}}.items():
            rows.append((label, *(str(counts.get(part, NO_VALUE)) for part in parts)))
        compared = [self.near.text()] if self.near else []
        return "\n".join([head, *_aligned(rows), *compared, *(f"warning: {warning}" for warning in self.warnings)])

    def draw(self, path: str | os.PathLike[str]) -> None:
        """Write a picture: labels down, domains and splits across, a clip count in every cell."""
        import numpy as np
        from matplotlib.figure import Figure

        parts, labels = sorted(self.clips), list(self.labels)
        counts = np.array([[self.labels[label].get(part, 0) for part in parts] for label in labels])
        counts = counts.reshape(len(labels), len(parts))
        figure = Figure(figsize=(3 + 0.7 * len(parts), 1.5 + 0.22 * max(len(labels), 4)), layout="constrained")
        axes = figure.add_subplot()
        axes.imshow(np.log1p(counts), cmap="Blues", aspect="auto", vmin=0, vmax=np.log1p(counts.max(initial=1)))
        axes.set_xticks(range(len(parts)), list(map(part_name, parts)), rotation=60, ha="right")
        axes.set_yticks(range(len(labels)), labels)
        dark = counts.max(initial=1) ** 0.6
        for (row, column), count in np.ndenumerate(counts):
            axes.text(
                column, row, count or NO_VALUE, ha="center", va="center", size=7,
                color="white" if count > dark else "black",
            )  # fmt: skip
        axes.set_title("clips of each label")
        figure.savefig(path, dpi=120)


def manifest_stats(
    manifest: Manifest,
    *,
    compare_files: bool = True,
    near: bool = False,
    workers: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Stats:
    """Count a manifest.

    Args:
        manifest: the clips.
        compare_files: open the files: for the lengths of clips without start and end, and for files of equal bytes
            under different paths, of which only those of equal size are read.
        near: look for clips that show almost the same pictures too, which decodes some frames of every clip.
        workers: files opened at once; None is one a core.
        progress: is told (clips done, all clips) while files are opened.

    Raises:
        ValueError: `near` without `compare_files`.
    """
    if near and not compare_files:
        raise ValueError("near looks into the files, so it needs compare_files.")
    clips: Counter[Part] = Counter()
    labels: dict[str, Counter[Part]] = {}
    for video in manifest:
        part = (video.domain, video.split)
        clips[part] += 1
        for label in video.labels:
            labels.setdefault(label, Counter())[part] += 1
    looks = glimpses(manifest, pictures=near, workers=workers, progress=progress) if compare_files else {}
    by_row = {video.video_id: length_of(video) for video in manifest}
    lengths = [
        seconds
        for seconds in (by_row | {id_: look.seconds for id_, look in looks.items()}).values()
        if seconds is not None
    ]
    same = same_bytes(manifest) if compare_files else SameBytes()
    return Stats(
        clips=dict(clips),
        seconds=float(sum(lengths)),
        timed=len(lengths),
        labels={label: dict(labels[label]) for label in sorted(labels)},
        unlabelled=sum(not video.labels for video in manifest),
        leaking=tuple(_leaking(manifest.videos)),
        absent=_absent(manifest.videos),
        misspelt=misspelt_splits(manifest),
        same=same,
        near=near_duplicates(manifest, looks, same) if near else None,
        unreadable=_unreadable(manifest, looks),
    )


def _leaking(videos: Sequence[Video]) -> Iterator[str]:
    splits: dict[str, set[str]] = {}
    for video in videos:
        if video.group and video.split:
            splits.setdefault(video.group, set()).add(video.split)
    yield from (group for group, found in splits.items() if len(found) > 1)


def _absent(videos: Sequence[Video]) -> dict[str, tuple[str, ...]]:
    found: dict[str, set[str]] = {}
    for video in videos:
        if video.split:
            found.setdefault(video.split, set()).update(video.labels)
    every = set().union(*found.values())
    return {split: tuple(sorted(every - labels)) for split, labels in found.items()}


def _unreadable(manifest: Manifest, looks: Mapping[str, Glimpse]) -> dict[str, str]:
    """Why files could not be looked at, each file once."""
    faults: dict[str, tuple[str, str]] = {}
    for video in manifest:
        if video.video_id in looks and (fault := looks[video.video_id].fault):
            faults.setdefault(video.path, (video.video_id, fault))
    return dict(faults.values())


def part_name(part: Part) -> str:
    """A domain and a split as one heading."""
    return " ".join(filter(None, part)) or "clips"


def _entry(part: Part, clips: int) -> dict[str, Any]:
    return {"domain": part[0], "split": part[1], "clips": clips}


def _without_domain(counts: dict[Part, int]) -> dict[Part, int]:
    total: Counter[Part] = Counter()
    for (_, split), clips in counts.items():
        total["", split] += clips
    return dict(total)


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(_cell(cell, width, place) for place, (cell, width) in enumerate(zip(row, widths, strict=True)))
        for row in rows
    ]


def _cell(cell: str, width: int, place: int) -> str:
    return cell.rjust(width) if place else cell.ljust(width)
