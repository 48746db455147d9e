"""One row of a manifest: a clip, its labels and what else is known of it. A row that breaks a rule cannot be made."""

import math
import unicodedata
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import PureWindowsPath

from actiondiff.manifests.faults import VideoError

LABEL_SEPARATOR = ";"
REQUIRED_COLUMNS = ("video_id", "path", "label")
TEXT_COLUMNS = ("split", "domain", "group")
TIME_COLUMNS = ("start_seconds", "end_seconds")
OPTIONAL_COLUMNS = TEXT_COLUMNS + TIME_COLUMNS
CONTRACT_COLUMNS = REQUIRED_COLUMNS + OPTIONAL_COLUMNS

# Control characters, lone surrogates and the line breaks that only Unicode knows: each would tear a line-based listing.
TEARING_CATEGORIES = frozenset({"Cc", "Cs", "Zl", "Zp"})


class ExtraColumns(Mapping[str, str]):
    """Further columns of a row: a mapping that can be neither changed nor found unequal after pickling.

    Empty cells are left out, so that a column which a row does not fill and one that it does not have are the same.
    """

    def __init__(self, cells: Mapping[str, str] | None = None) -> None:
        self._cells = {name: cell for name, cell in (cells or {}).items() if cell}

    def __getitem__(self, name: str) -> str:
        return self._cells[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._cells)

    def __len__(self) -> int:
        return len(self._cells)

    def __hash__(self) -> int:
        return hash(frozenset(self._cells.items()))

    def __repr__(self) -> str:
        return repr(self._cells)


@dataclass(frozen=True)
class Video:
    """One clip of a manifest.

    Attributes:
        video_id: unique name, parts joined by `/`; it names the features in the store.
        path: a video file or a folder of frames, as written: relative to the manifest's folder, or absolute.
        labels: actions seen in the clip; empty where it is unlabelled.
        split: such as `train`, `val`, `test`.
        domain: such as a place, a viewpoint or a species.
        group: clips that must stay together when data are split, such as those cut from one recording.
        start_seconds: where the clip begins inside the file; None is the beginning.
        end_seconds: where it ends; None is the end.
        extra: further columns of the row.

    Raises:
        VideoError: a rule is broken; all broken rules are told at once.
    """

    video_id: str
    path: str
    labels: tuple[str, ...] = ()
    split: str = ""
    domain: str = ""
    group: str = ""
    start_seconds: float | None = None
    end_seconds: float | None = None
    extra: Mapping[str, str] = field(default_factory=ExtraColumns)

    def __post_init__(self) -> None:
        object.__setattr__(self, "extra", ExtraColumns(self.extra))
        broken = (*_id_rules(self.video_id), *_text_rules(self), *_label_rules(self.labels), *_time_rules(self))
        if broken:
            raise VideoError(self.video_id, broken)

    def column(self, name: str) -> str:
        """The row's value in a column as the CSV holds it; empty where the row does not fill the column."""
        if name == "label":
            return LABEL_SEPARATOR.join(self.labels)
        if name in TIME_COLUMNS:
            return _seconds_text(getattr(self, name))
        if name in CONTRACT_COLUMNS:
            return str(getattr(self, name))
        return self.extra.get(name, "")

    def values(self, name: str) -> tuple[str, ...]:
        """The row's non-empty values in a column: one at most, except for `label`, which may hold several."""
        if name == "label":
            return self.labels
        return (self.column(name),) if self.column(name) else ()


def _id_rules(video_id: str) -> Iterator[str]:
    if not video_id:
        yield "video_id is empty; give every clip a name of its own, such as 'lawn/push/03'."
        return
    if video_id != video_id.strip():
        yield f"video_id {video_id!r} begins or ends with a blank; take it away."
    if "\\" in video_id:
        yield f"video_id {video_id!r} holds a backslash; join its parts by '/'."
    if _is_torn(video_id):
        yield f"video_id {video_id!r} holds a line break or another control character; take it away."
    yield from _id_path_rules(video_id)


def _id_path_rules(video_id: str) -> Iterator[str]:
    # Ids become names inside the store, so that none may point out of it.
    if video_id.startswith("/") or PureWindowsPath(video_id).is_absolute():
        yield f"video_id {video_id!r} is an absolute path; use a relative name such as 'lawn/push/03'."
    elif any(part in ("", ".", "..") for part in video_id.split("/")):
        yield f"video_id {video_id!r} has a part that is empty, '.' or '..'; use a plain name such as 'lawn/push/03'."


def _text_rules(video: Video) -> Iterator[str]:
    if not video.path:
        yield "path is empty; name a video file or a folder of frames."
    if _is_torn(video.path):
        yield f"path {video.path!r} holds a line break or another control character; rename the file."
    for column in TEXT_COLUMNS:
        value = getattr(video, column)
        if value != value.strip():
            yield f"{column} {value!r} begins or ends with a blank; take it away."
    yield from _extra_rules(video.extra)
    if any(_cannot_be_written(cell) for cell in (video.split, video.domain, video.group, *video.extra.values())):
        yield "a cell holds a NUL or a broken character, which no CSV file can carry; take it away."


def _extra_rules(extra: Mapping[str, str]) -> Iterator[str]:
    for name in extra:
        if name in CONTRACT_COLUMNS:
            yield f"column {name!r} cannot be an extra one; set the field of that name."
        elif not name or name != name.strip() or _is_torn(name):
            yield f"the name {name!r} of an extra column is empty, has blanks around it or breaks the line; rename it."


def _label_rules(labels: tuple[str, ...]) -> Iterator[str]:
    for label in dict.fromkeys(labels):
        if not label or label != label.strip():
            yield f"label {label!r} is empty or has blanks around it; several labels are joined by one ';' each."
        if LABEL_SEPARATOR in label:
            yield f"label {label!r} holds a ';', which parts labels; rename it."
        if _is_torn(label):
            yield f"label {label!r} holds a line break or another control character; rename it."
        if label and labels.count(label) > 1:
            yield f"label {label!r} stands {labels.count(label)} times in one row; name it once."


def _time_rules(video: Video) -> Iterator[str]:
    start, end = video.start_seconds, video.end_seconds
    for column, seconds in zip(TIME_COLUMNS, (start, end), strict=True):
        if seconds is not None and not (math.isfinite(seconds) and seconds >= 0):
            yield f"{column} is {seconds}; give seconds from the beginning of the file, 0 or more, or leave it empty."
            return
    if end is not None and (start or 0.0) >= end:
        yield f"start_seconds {start or 0.0} is not before end_seconds {end}; a clip needs a duration."


def _is_torn(text: str) -> bool:
    return any(unicodedata.category(letter) in TEARING_CATEGORIES for letter in text)


def _cannot_be_written(cell: str) -> bool:
    return any(letter == "\0" or unicodedata.category(letter) == "Cs" for letter in cell)


def _seconds_text(seconds: float | None) -> str:
    # repr is the shortest text that reads back to the same number; "12" is what a person writes for 12.0.
    return "" if seconds is None else repr(float(seconds)).removesuffix(".0")
