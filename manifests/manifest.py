"""A manifest: the videos of a data set and the folder that their paths start from."""

import os
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from actiondiff.manifests.faults import Fault, ManifestError, SelectionError, UnknownVideo, shortened
from actiondiff.manifests.reading import read_videos
from actiondiff.manifests.selection import parse_where
from actiondiff.manifests.video import OPTIONAL_COLUMNS, REQUIRED_COLUMNS, Video
from actiondiff.manifests.writing import write_videos


@dataclass(frozen=True)
class Manifest:
    """Videos in the order of their file, each id there once.

    Attributes:
        videos: the rows.
        root: the folder that the rows' paths are relative to.

    Raises:
        ManifestError: some ids are there more than once.
    """

    videos: tuple[Video, ...]
    root: Path

    def __post_init__(self) -> None:
        repeated = [name for name, times in Counter(video.video_id for video in self.videos).items() if times > 1]
        if repeated:
            faults = tuple(Fault(None, f"video_id {name!r} is there more than once.") for name in repeated)
            raise ManifestError("Every video_id of a manifest must be there once.", faults)

    @classmethod
    def read(cls, path: str | os.PathLike[str], *, check_files: bool = True) -> "Manifest":
        """Read a manifest CSV.

        Args:
            path: the file: UTF-8, with the columns `video_id,path,label` and any others.
            check_files: refuse rows whose file or frame folder does not exist.

        Raises:
            ManifestNotFound: there is no such file.
            ManifestError: rows break a rule; all of them are told, with their lines.
        """
        return cls(read_videos(Path(path), check_files=check_files), Path(path).parent)

    @classmethod
    def of_clips(cls, paths: Iterable[str | os.PathLike[str]]) -> "Manifest":
        """A manifest of clips without labels, named by file name, or by whole path where two have the same name.

        Raises:
            ManifestError: a path is not there; all of them are told.
        """
        clips = [Path(os.path.abspath(path)) for path in dict.fromkeys(map(str, paths))]  # noqa: PTH100 - resolves ".."
        if absent := [Fault(None, f"There is nothing at {clip}.") for clip in clips if not clip.exists()]:
            raise ManifestError("Every clip must be there.", tuple(absent))
        times = Counter(clip.name for clip in clips)
        names = [clip.name if times[clip.name] == 1 else str(clip.relative_to(clip.anchor)) for clip in clips]
        return cls(tuple(Video(name, str(clip)) for name, clip in zip(names, clips, strict=True)), Path())

    def write(self, path: str | os.PathLike[str]) -> None:
        """Write a manifest CSV in one atomic step; paths become relative to the new file's folder."""
        write_videos(Path(path), self.videos, self.columns, self.root)

    def source(self, video: Video) -> Path:
        """Where the video's file or frame folder lies."""
        return self.root / video.path

    def rows(self) -> tuple[tuple[str, ...], ...]:
        """What the manifest says: every column of every row, paths made absolute."""
        columns = [column for column in self.columns if column != "path"]
        return tuple(
            (os.path.abspath(self.source(video)), *(video.column(column) for column in columns))  # noqa: PTH100
            for video in self.videos
        )

    @property
    def columns(self) -> tuple[str, ...]:
        """The required columns, the optional ones that a row fills, and the further ones in order of appearance."""
        optional = (column for column in OPTIONAL_COLUMNS if any(video.column(column) for video in self.videos))
        extra = dict.fromkeys(name for video in self.videos for name in video.extra)
        return (*REQUIRED_COLUMNS, *optional, *extra)

    @property
    def classes(self) -> tuple[str, ...]:
        """All labels, sorted."""
        return self.values("label")

    @property
    def is_multilabel(self) -> bool:
        """Whether any video has several labels."""
        return any(len(video.labels) > 1 for video in self.videos)

    def values(self, column: str) -> tuple[str, ...]:
        """The values of a column, each once, sorted, without the empty one; several labels of a row count one by one.

        Raises:
            SelectionError: there is no such column.
        """
        if column not in self.columns:
            raise SelectionError(f"The manifest has no column {column!r}; it has: {', '.join(self.columns)}.")
        return tuple(sorted({value for video in self.videos for value in video.values(column)}))

    def where(self, text: str) -> "Manifest":
        """The videos for which every condition of `column=value[,column=value…]` holds.

        `label=push` takes videos that have `push` among their labels; `column=` those in which the column is empty.

        Raises:
            SelectionError: malformed, an unknown column, or nothing selected; the message lists what there is.
        """
        conditions = parse_where(text, self.columns)
        videos = tuple(video for video in self.videos if all(condition.holds(video) for condition in conditions))
        if not videos:
            wanted = " and ".join(str(condition) for condition in conditions)
            there = "; ".join(
                f"{column} is one of: {shortened(self.values(column))}"
                for column in dict.fromkeys(condition.column for condition in conditions)
            )
            raise SelectionError(f"No video has {wanted}. In this manifest, {there}.")
        return Manifest(videos, self.root)

    def subset(self, ids: Iterable[str]) -> "Manifest":
        """The videos of these ids, in the order of the ids.

        Raises:
            UnknownVideo: an id that the manifest does not hold.
        """
        by_id = {video.video_id: video for video in self.videos}
        wanted = tuple(ids)
        unknown = [video_id for video_id in wanted if video_id not in by_id]
        if unknown:
            raise UnknownVideo(f"The manifest of {len(self)} videos does not hold: {shortened(unknown)}.")
        return Manifest(tuple(by_id[video_id] for video_id in wanted), self.root)

    def __len__(self) -> int:
        return len(self.videos)

    def __iter__(self) -> Iterator[Video]:
        return iter(self.videos)
