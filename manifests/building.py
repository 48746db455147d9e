"""What all makers of manifests from annotation files share: clips found on disk by name, one account of everything."""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from actiondiff.manifests.faults import Fault, ManifestError, VideoError, shortened
from actiondiff.manifests.manifest import Manifest
from actiondiff.manifests.scan import FoundClip, find_clips
from actiondiff.manifests.tables import TableRow
from actiondiff.manifests.video import Video

EXAMPLES_SHOWN = 5


class ClipsOnDisk:
    """The clips below a folder, at any depth, by their names without suffix; it remembers what was asked for.

    Args:
        folder: where the videos, or the folders of frames, lie.
        suffix: what a file that is not there would be called after its name.
        key: names with the same key are the same; by default they must be equal.
        faults: a folder that is not there is told here.
    """

    def __init__(
        self, folder: Path, suffix: str, faults: list[Fault], *, key: Callable[[str], str] = lambda name: name
    ) -> None:
        self.folder, self.suffix, self._key = folder, suffix, key
        self.missing: dict[str, None] = {}
        self._clips: dict[str, list[FoundClip]] = {}
        self._asked: set[str] = set()
        if not folder.is_dir():
            faults.append(Fault(None, "there is no such folder of videos.", str(folder)))
            return
        for clip in find_clips(folder)[0]:
            self._clips.setdefault(key(clip.name), []).append(clip)

    def path(self, name: str, suffix: str | None = None) -> str:
        """Where the clip lies, or would lie with this suffix, below the folder."""
        self._asked.add(self._key(name))
        clips = self._clips.get(self._key(name))
        if not clips:
            self.missing[name] = None
            return f"{name}{self.suffix if suffix is None else suffix}"
        return self._best(clips)[0].path

    @staticmethod
    def _best(clips: Sequence[FoundClip]) -> list[FoundClip]:
        """The video files; where there is none, the folders of frames. Data sets are often kept as both."""
        return [clip for clip in clips if not clip.is_folder] or list(clips)

    @property
    def asked(self) -> int:
        """How many clips were asked for."""
        return len(self._asked)

    @property
    def extra(self) -> list[str]:
        """Clips on disk that nothing asked for."""
        return [clip.path for key, clips in self._clips.items() if key not in self._asked for clip in clips]

    @property
    def ambiguous(self) -> list[str]:
        """Clips asked for that lie there more than once."""
        best = [self._best(clips) for key, clips in self._clips.items() if key in self._asked]
        return [" = ".join(clip.path for clip in clips) for clips in best if len(clips) > 1]

    def faults(self, *, allow_missing: bool) -> list[Fault]:
        """What keeps the rows from being used."""
        found = []
        if self.missing and not allow_missing:
            listed = shortened(list(self.missing))
            remedy = "Fetch them, or keep their rows with --allow-missing"
            found.append(Fault(None, f"{len(self.missing)} of {self.asked} clips are missing: {listed}. {remedy}."))
        if self.ambiguous:
            found.append(Fault(None, f"clips lie there twice: {shortened(self.ambiguous)}. Move one of each away."))
        return [Fault(None, fault.message, str(self.folder)) for fault in found]

    def extra_text(self) -> str:
        """How many clips no row needs, with examples; empty where there is none."""
        if not self.extra:
            return ""
        return f"{len(self.extra)} clips in {self.folder} belong to no row: {shortened(self.extra, EXAMPLES_SHOWN)}."


@dataclass(frozen=True)
class Built:
    """A manifest made of annotation files, and what there is to say of it.

    Attributes:
        manifest: the rows.
        notes: what was resolved, left out or left open, one sentence each.
        missing: names of clips that are not on disk though a row needs them.
        extra: clips on disk that no row needs.
        details: further findings, for programs.
    """

    manifest: Manifest
    notes: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    extra: tuple[str, ...] = ()
    details: Mapping[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain values."""
        return {
            "clips": len(self.manifest),
            "labels": len(self.manifest.classes),
            "by_domain_and_split": self.counts(),
            "notes": list(self.notes),
            "missing": list(self.missing),
            "extra": list(self.extra),
            **self.details,
        }

    def counts(self) -> dict[str, dict[str, int]]:
        """Clips of each domain and split."""
        counted: dict[str, dict[str, int]] = {}
        for video in self.manifest:
            row = counted.setdefault(video.domain, {})
            row[video.split] = row.get(video.split, 0) + 1
        return counted

    def text(self) -> str:
        """The counts, then the notes."""
        splits: dict[str, int] = {}
        for row in self.counts().values():
            for split, clips in row.items():
                splits[split] = splits.get(split, 0) + clips
        parts = " + ".join(f"{clips} {split or 'without split'}" for split, clips in splits.items())
        lines = [f"{len(self.manifest)} clips ({parts}), {len(self.manifest.classes)} labels"]
        lines += [f"  {domain or '(no domain)'}: {_counted(row)}" for domain, row in self.counts().items()]
        return "\n".join([*lines, *(f"  note: {note}" for note in self.notes)])


def _counted(row: Mapping[str, int]) -> str:
    return ", ".join(f"{clips} {split or 'without split'}" for split, clips in row.items())


class Builder:
    """Collects rows, notes and faults; every fault of every file is told in one message at the end."""

    def __init__(self) -> None:
        self.faults: list[Fault] = []
        self.notes: list[str] = []
        self.videos: list[tuple[ClipsOnDisk, Video]] = []
        self._lines: dict[str, TableRow] = {}

    def add(self, row: TableRow, disk: ClipsOnDisk, path: str, **cells: Any) -> None:
        """Make a row of the manifest of a row of an annotation file, its path below the disk's folder."""
        try:
            video = Video(path=path, **cells)
        except VideoError as error:
            self.faults.extend(row.fault(message) for message in error.broken)
            return
        first = self._lines.setdefault(video.video_id, row)
        if first is not row:
            self.faults.append(row.fault(f"clip {video.video_id!r} stands in line {first.line} of {first.file} too."))
        else:
            self.videos.append((disk, video))

    def finish(self, what: str, disks: Sequence[ClipsOnDisk], *, allow_missing: bool, **details: Any) -> Built:
        """The manifest.

        Raises:
            ManifestError: something is wrong with the files, or clips are missing; all of it is told.
        """
        extra = list(filter(None, (disk.extra_text() for disk in disks)))
        if absent := [fault for disk in disks for fault in disk.faults(allow_missing=allow_missing)]:
            # First, because a long list of broken rows is cut.
            self.faults[:0] = [*absent, *(Fault(None, text) for text in extra)]
        if self.faults:
            raise ManifestError(f"No manifest of {what} can be made of these files:", tuple(self.faults))
        missing = tuple(name for disk in disks for name in disk.missing)
        if not self.videos:
            raise ManifestError(f"These files of {what} hold no clips that were asked for.")
        if missing:
            kept = f"{len(missing)} clips are not on disk; their rows are kept, and extract names them as missing."
            self.notes.append(f"{kept} Missing: {shortened(missing, EXAMPLES_SHOWN)}.")
        manifest = self._manifest([disk.folder.absolute() for disk in disks])
        others = tuple(path for disk in disks for path in disk.extra)
        return Built(manifest, (*self.notes, *extra), missing, others, details)

    def _manifest(self, folders: Sequence[Path]) -> Manifest:
        """Paths relative to the folder that all clips lie in, so that a written manifest can be moved with them."""
        root = Path(os.path.commonpath(folders))
        below = {folder: folder.relative_to(root) for folder in folders}
        rows = ((below[disk.folder.absolute()], video) for disk, video in self.videos)
        return Manifest(tuple(replace(v, path=(at / v.path).as_posix()) if at.parts else v for at, v in rows), root)


def counted(numbers: Mapping[str, int]) -> str:
    """Names with how often each came, the most frequent first, for a note."""
    order = sorted(numbers.items(), key=lambda item: (-item[1], item[0]))
    return shortened([f"{name} ({times})" for name, times in order])
