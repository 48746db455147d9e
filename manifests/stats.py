"""What a manifest holds, by label, domain and split, and what in it would spoil a result."""

import hashlib
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from actiondiff.manifests.faults import shortened
from actiondiff.manifests.manifest import Manifest
from actiondiff.manifests.video import Video

CHUNK_BYTES = 1 << 20
EXAMPLES_SHOWN = 5
COLUMNS_SHOWN = 10
NO_VALUE = "-"

Part = tuple[str, str]


@dataclass(frozen=True)
class Stats:
    """Counts of a manifest.

    Attributes:
        clips: number of clips of each (domain, split); empty names where the columns are.
        seconds: summed length of the clips that have start and end.
        timed: how many do.
        labels: how often each label comes in each (domain, split).
        unlabelled: number of clips without a label.
        leaking: groups that stand in several splits.
        absent: for each split, labels that other splits have and it does not.
        duplicates: ids of clips whose files hold the same bytes.
        missing: paths that are not there.
    """

    clips: dict[Part, int]
    seconds: float
    timed: int
    labels: dict[str, dict[Part, int]]
    unlabelled: int
    leaking: tuple[str, ...]
    absent: dict[str, tuple[str, ...]]
    duplicates: tuple[tuple[str, ...], ...]
    missing: tuple[str, ...]

    @property
    def warnings(self) -> list[str]:
        """One sentence for whatever would spoil a result."""
        found = [
            f"split {split!r} has no clip of {len(labels)} labels: {shortened(labels, EXAMPLES_SHOWN)}."
            for split, labels in self.absent.items()
            if labels
        ]
        if self.leaking:
            groups = shortened(self.leaking, EXAMPLES_SHOWN)
            found.append(f"{len(self.leaking)} groups stand in several splits: {groups}.")
        if self.duplicates:
            sets = shortened([" = ".join(ids) for ids in self.duplicates], EXAMPLES_SHOWN)
            found.append(f"{len(self.duplicates)} sets of files hold the same bytes: {sets}.")
        if self.missing:
            listed = shortened(self.missing, EXAMPLES_SHOWN)
            found.append(f"{len(self.missing)} files are not there, so not compared: {listed}.")
        return found

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain values."""
        return {
            "clips": sum(self.clips.values()),
            "by_domain_and_split": [_entry(part, count) for part, count in self.clips.items()],
            "seconds": self.seconds,
            "clips_with_seconds": self.timed,
            "labels": {label: [_entry(part, n) for part, n in row.items()] for label, row in self.labels.items()},
            "unlabelled": self.unlabelled,
            "labels_absent": {split: list(labels) for split, labels in self.absent.items()},
            "leaking_groups": list(self.leaking),
            "duplicates": [list(ids) for ids in self.duplicates],
            "missing": list(self.missing),
            "warnings": self.warnings,
        }

    def text(self) -> str:
        """The counts as a table, then the warnings."""
        known = f"{self.seconds:.1f} s in {self.timed} clips with start and end" if self.timed else "lengths not in it"
        head = f"{sum(self.clips.values())} clips ({known}), {len(self.labels)} labels, {self.unlabelled} unlabelled"
        # Too wide for a terminal otherwise; the picture and --json have every domain.
        shorten = _without_domain if len(self.clips) > COLUMNS_SHOWN else dict
        clips = shorten(self.clips)
        parts = sorted(clips)
        rows = [("label", *map(part_name, parts))]
        for label, counts in {"(clips)": clips, **{label: shorten(row) for label, row in self.labels.items()}}.items():
            rows.append((label, *(str(counts.get(part, NO_VALUE)) for part in parts)))
        return "\n".join([head, *_aligned(rows), *(f"warning: {warning}" for warning in self.warnings)])

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


def manifest_stats(manifest: Manifest, *, compare_files: bool = True) -> Stats:
    """Count a manifest.

    Args:
        manifest: the clips.
        compare_files: look for files of equal size and bytes under different paths; only those of equal size are read.
    """
    clips: Counter[Part] = Counter()
    labels: dict[str, Counter[Part]] = {}
    for video in manifest:
        part = (video.domain, video.split)
        clips[part] += 1
        for label in video.labels:
            labels.setdefault(label, Counter())[part] += 1
    lengths = [v.end_seconds - (v.start_seconds or 0.0) for v in manifest if v.end_seconds is not None]
    files, missing = _files(manifest) if compare_files else ({}, [])
    return Stats(
        clips=dict(clips),
        seconds=float(sum(lengths)),
        timed=len(lengths),
        labels={label: dict(labels[label]) for label in sorted(labels)},
        unlabelled=sum(not video.labels for video in manifest),
        leaking=tuple(_leaking(manifest.videos)),
        absent=_absent(manifest.videos),
        duplicates=tuple(_duplicates(files)),
        missing=tuple(missing),
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


def _files(manifest: Manifest) -> tuple[dict[Path, str], list[str]]:
    """Each video file with the first clip that is cut from it, and paths that are not there. Folders are left out."""
    files: dict[Path, str] = {}
    missing: dict[str, None] = {}
    for video in manifest:
        path = manifest.source(video)
        if path.is_file():
            files.setdefault(path.resolve(), video.video_id)
        elif not path.exists():
            missing[video.path] = None
    return files, list(missing)


def _duplicates(files: dict[Path, str]) -> Iterator[tuple[str, ...]]:
    by_size: dict[int, list[Path]] = {}
    for path in files:
        by_size.setdefault(path.stat().st_size, []).append(path)
    for paths in (paths for paths in by_size.values() if len(paths) > 1):
        by_bytes: dict[bytes, list[str]] = {}
        for path in paths:
            by_bytes.setdefault(_digest(path), []).append(files[path])
        yield from (tuple(ids) for ids in by_bytes.values() if len(ids) > 1)


def _digest(path: Path) -> bytes:
    digest = hashlib.blake2b()
    with path.open("rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            digest.update(chunk)
    return digest.digest()


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
