"""Checking: every byte of a store against the checksums that were written with it, and putting damaged parts away."""

import json
import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import google_crc32c

from actiondiff.store.arrays import FileRecord, group_metadata
from actiondiff.store.errors import (
    RemoteError,
    StoreError,
    StoreNotFound,
    StoreNotReadable,
    telling_unreadable,
    telling_why,
)
from actiondiff.store.header import read_header
from actiondiff.store.index import part_names
from actiondiff.store.part import Part, files_of, read_index
from actiondiff.store.places import Place, names_in, part_is_there, pieces_of, place_of, sizes_beneath, within
from actiondiff.store.reader import FeatureStore
from actiondiff.store.remote import RemotePath, index_lost
from actiondiff.store.staging import STAGING, only_one, retire

OUT_OF_REACH = (StoreNotReadable, RemoteError)
"""Nothing is known then of what was asked for, least of all that it should be dropped: these always go on."""

LOST = ("index", "missing", "size", "changed", "unreadable")
"""Kinds of damage after which a part's features cannot be trusted."""


_INDEX_LOST = "it is gone, though the part's other objects are there, and its upload did not break off"


@dataclass(frozen=True)
class Damage:
    """One thing in a store that is not as it was written.

    Attributes:
        kind: ``header``, ``index`` (of a part), ``missing``, ``size``, ``changed`` or ``unreadable`` (a part's file),
            ``extra`` (a file that nobody wrote here), ``respelled`` (a ``zarr.json`` of the same values, else spelled).
        file: its path in the store.
        message: what was found, for people.
        part: the part's name, empty for what stands outside of parts.
        video_ids: the videos that it touches, as far as an index that is itself damaged still tells.
        layer: the layer that it touches, None for all.
    """

    kind: str
    file: str
    message: str
    part: str = ""
    video_ids: tuple[str, ...] = ()
    layer: int | None = None

    def __str__(self) -> str:
        where = f" of layer {self.layer}" if self.layer is not None else ""
        shown = ", ".join(self.video_ids[:5]) + (", ..." if len(self.video_ids) > 5 else "")
        touched = f"; it touches {len(self.video_ids)} videos{where}: {shown}" if self.video_ids else ""
        return f"{self.file} [{self.kind}]: {self.message}{touched}"


@dataclass(frozen=True)
class StoreCheck:
    """What :func:`verify` found.

    Attributes:
        path: the store's folder.
        parts: how many parts were checked.
        files: how many files.
        size_bytes: how much was read.
        damages: what is wrong, part by part.
        dropped: names of the parts that were put away.
        whole_again: names of those that would have been, but were whole when they were looked at once more.
        failed_again: videos that a dropped part had and an older part notes as failed: they take ``--retry-failed``.
    """

    path: Place
    parts: int
    files: int
    size_bytes: int
    damages: tuple[Damage, ...]
    dropped: tuple[str, ...] = ()
    whole_again: tuple[str, ...] = ()
    failed_again: tuple[str, ...] = ()

    @property
    def good(self) -> bool:
        """Whether nothing at all is wrong."""
        return not self.damages

    @property
    def video_ids(self) -> tuple[str, ...]:
        """Every video that some damage touches, in order of id."""
        return tuple(sorted({video_id for damage in self.damages for video_id in damage.video_ids}))

    def to_dict(self) -> dict[str, Any]:
        """As JSON values."""
        return {**asdict(self), "path": str(self.path), "good": self.good, "video_ids": list(self.video_ids)}

    def text(self) -> str:
        """A few lines for people."""
        kinds = Counter(damage.kind for damage in self.damages)
        found = ", ".join(f"{number} {kind}" for kind, number in sorted(kinds.items())) or "nothing is damaged"
        touched = f", {len(self.video_ids)} videos touched" if self.damages else ""
        read = f"{self.parts} parts, {self.files} files, {self.size_bytes / 1e6:.1f} MB read"
        lines = [
            f"{self.path}: {read}: {found}{touched}",
            *(f"  {damage}" for damage in self.damages),
        ]
        if self.dropped:
            lines.append(f"  {len(self.dropped)} parts dropped; actiondiff extract, run as before, makes them anew")
        if self.whole_again:
            names = ", ".join(self.whole_again)
            lines.append(f"  not dropped, since read whole at the second look: {names}; check the disk")
        elif not self.dropped and any(damage.part and damage.kind in LOST for damage in self.damages):
            lines.append("  put the damaged parts away with --drop-damaged, then run actiondiff extract as before")
        if self.failed_again:
            lines.append(f"  these need extract --retry-failed: {', '.join(self.failed_again)}")
        return "\n".join(lines)


@dataclass
class _Check:
    """A walk over a store; counts what it reads on the way."""

    path: Place
    tell: Callable[[int], None]
    parts: int = 0
    files: int = 0
    size_bytes: int = 0
    damages: list[Damage] = field(default_factory=list)

    def damage(self, kind: str, file: Place, message: str, **what: Any) -> None:
        self.damages.append(Damage(kind, within(self.path, file), message, **what))

    def read(self, file: Place) -> bytes:
        with telling_unreadable(file):
            content = file.read_bytes()
        self.count(len(content))
        self.files += 1
        return content

    def count(self, size_bytes: int) -> None:
        self.size_bytes += size_bytes
        self.tell(size_bytes)


def verify(
    path: str | Place, *, drop_damaged: bool = False, progress: Callable[[int], None] | None = None
) -> StoreCheck:
    """Read every byte of a store and compare it with what was written.

    Finds any changed byte, any file that is cut, missing or not of the store. Parts that are being written
    meanwhile are looked at if they were there at the start; what lies in ``.writing`` is not.

    Args:
        path: the store's folder.
        drop_damaged: put away every part that has lost something; ``extract`` then makes its videos anew.
        progress: told the number of bytes after each piece that was read.

    Raises:
        StoreNotFound: nothing is there.
    """
    path = place_of(path)
    if not path.exists() or not (path / "parts").exists():
        read_header(path)
    check = _Check(path, progress or (lambda size_bytes: None))
    if not isinstance(path, Path) or (path / "parts").is_dir():
        names, superseded = _visible(path)
    else:
        check.damage("missing", path / "parts", "the folder of all parts is gone")
        names, superseded = [], set()
    _check_header(check)
    _check_outside(check, {*names, *superseded})
    indexless = index_lost(path) if isinstance(path, RemotePath) else set()
    for name in sorted(indexless):
        check.damage("index", path / "parts" / name / "zarr.json", _INDEX_LOST, part=name)
    for name in names:
        _check_part(check, name)
    lost = sorted({damage.part for damage in check.damages if damage.part and damage.kind in LOST})
    again = {name for name in lost if drop_damaged and _is_whole(path, name, indexless)}  # a disk that failed but once
    lost = [name for name in lost if name not in again]
    if drop_damaged and lost:
        with telling_why(path, "What is damaged is still there."), only_one(path):
            retire(path, [path / "parts" / name for name in lost])
    dropped = tuple(lost) if drop_damaged else ()
    damages, whole_again = tuple(check.damages), tuple(sorted(again))
    result = StoreCheck(path, check.parts, check.files, check.size_bytes, damages, dropped, whole_again)
    return _with_failed_again(result) if dropped else result


def _is_whole(path: Place, name: str, indexless: set[str]) -> bool:
    """Whether a second look finds nothing lost; that an index is gone was asked twice already."""
    return name not in indexless and not part_damages(path, name)


def part_damages(path: Place, name: str) -> tuple[Damage, ...]:
    """What a part has lost, after reading every byte of it."""
    check = _Check(path, lambda size_bytes: None)
    _check_part(check, name)
    return tuple(damage for damage in check.damages if damage.kind in LOST)


def _visible(path: Place) -> tuple[list[str], set[str]]:
    """Names of the parts that readers look at, and of those that another part has taken the place of."""
    names = part_names(path / "parts")
    superseded: set[str] = set()
    for name in names:
        try:
            superseded.update(Part.open(path / "parts" / name).supersedes)
        except OUT_OF_REACH:
            raise
        except (StoreError, OSError):
            continue
    return [name for name in names if name not in superseded], superseded


def _check_header(check: _Check) -> None:
    file = check.path / "zarr.json"
    try:
        content = check.read(file)
        header = read_header(check.path)
    except OUT_OF_REACH:
        raise
    except (StoreError, StoreNotFound, OSError) as error:
        check.damage("header", file, str(error))
        return
    if "crc32c" not in header and header.keys() - {"format_version", "recipe", "fingerprint", "notice"}:
        check.damage("header", file, "it has fields that no version of format 1 writes")
    _check_spelling(check, file, content, {"actiondiff": header}, "header")


def _check_spelling(check: _Check, file: Place, content: bytes, attributes: Any, kind: str, **what: Any) -> None:
    expected = group_metadata(attributes)
    if content == expected:
        return
    if json.loads(content) == json.loads(expected):
        check.damage("respelled", file, "the values are those that were written, their spelling is not", **what)
    else:
        check.damage(kind, file, "there is more in it, or less, than was written", **what)


def _check_outside(check: _Check, parts: set[str]) -> None:
    """What stands outside of parts: one group without attributes, and nothing that is not of a store."""
    file = check.path / "parts" / "zarr.json"
    try:
        if check.read(file) != group_metadata({}):
            check.damage("header", file, "it is not the group without attributes that was written")
    except OUT_OF_REACH:
        raise
    except OSError as error:
        check.damage("header", file, str(error))
    for folder, own in ((check.path, {"zarr.json", "parts", STAGING}), (file.parent, {"zarr.json"} | parts)):
        for name in sorted(_names(folder) - own):
            appeared = folder == file.parent and name.startswith("part-")
            if not appeared:
                check.damage("extra", folder / name, "nothing of a store has this name; delete it by hand")


def _names(folder: Place) -> set[str]:
    try:
        return names_in(folder)
    except NotADirectoryError:
        return set()


def _check_part(check: _Check, name: str) -> None:
    folder = check.path / "parts" / name
    check.parts += 1
    index = folder / "zarr.json"
    content = b""
    try:
        content = check.read(index)
        attributes = read_index(folder)
        Part.open(folder)
    except OUT_OF_REACH:
        raise
    except (StoreError, OSError) as error:
        if part_is_there(folder):  # else it was compacted or dropped while we were at other parts
            check.damage("index", index, str(error), part=name, video_ids=_ids_within(content))
        return
    earlier = len(check.damages)
    _check_files(check, folder, content, attributes)
    if len(check.damages) > earlier and not part_is_there(folder):
        del check.damages[earlier:]  # it was compacted or dropped between its index and its files


def _check_files(check: _Check, folder: Place, content: bytes, attributes: dict[str, Any]) -> None:
    name, index = folder.name, folder / "zarr.json"
    ids, records = tuple(attributes["video_ids"]), files_of(attributes)
    _check_spelling(check, index, content, attributes, "index", part=name, video_ids=ids)
    with telling_unreadable(folder):
        there = sizes_beneath(folder)
    for file, record in records.items():
        for kind, message in _differences(check, folder / file, record, there.get(file)):
            check.damage(kind, folder / file, message, part=name, video_ids=ids, layer=_layer_of(file))
    for file in sorted(there.keys() - records.keys() - {"zarr.json"}):
        check.damage("extra", folder / file, "the part's index does not know it; delete it by hand", part=name)


def _differences(check: _Check, file: Place, record: FileRecord, size: int | None) -> Iterator[tuple[str, str]]:
    try:
        with telling_unreadable(file):
            if isinstance(file, Path):  # links are followed: what they lead to is what readers get
                size = file.stat().st_size
            elif size is None:
                raise FileNotFoundError
            changed = size == record.size_bytes and checksum_of(file, check.count) != record.crc32c
        if size != record.size_bytes:
            yield "size", f"{record.size_bytes} bytes were written, {size} are there"
        elif changed:
            yield "changed", "its bytes are not those that were written (CRC-32C)"
        check.files += 1
    except FileNotFoundError:
        yield "missing", "it is gone"
    except OUT_OF_REACH:
        raise
    except OSError as error:
        yield "unreadable", str(error)


def checksum_of(file: Place, count: Callable[[int], None] = lambda size_bytes: None) -> int:
    """CRC-32C of a file, read piece by piece."""
    checksum = 0
    for piece in pieces_of(file):
        checksum = google_crc32c.extend(checksum, piece)
        count(len(piece))
    return checksum


def _layer_of(file: str) -> int | None:
    found = re.match(r"layer_(\d+)/", file)
    return int(found[1]) if found else None


def _ids_within(content: bytes) -> tuple[str, ...]:
    """The ids that a damaged index still tells."""
    found = re.search(r'"video_ids":\[(.*?)\]', content.decode(errors="replace"), re.DOTALL)
    return tuple(re.findall(r'"([^"]*)"', found[1])) if found else ()


def _with_failed_again(check: StoreCheck) -> StoreCheck:
    touched = {video_id for damage in check.damages if damage.part in check.dropped for video_id in damage.video_ids}
    try:
        failures = FeatureStore(check.path).failures
    except (StoreError, StoreNotFound, *OUT_OF_REACH):
        return check
    return replace(check, failed_again=tuple(sorted(touched & failures.keys())))
