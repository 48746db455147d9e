"""Makes a manifest of a folder of clips: DIR/label/clip or DIR/domain/label/clip."""

import logging
import os
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from actiondiff.manifests.faults import Fault, ManifestError, ManifestNotFound, VideoError
from actiondiff.manifests.manifest import Manifest
from actiondiff.manifests.video import Video

VIDEO_SUFFIXES = frozenset({
    ".avi", ".mkv", ".mov", ".mp4", ".m4v", ".webm", ".ogv", ".3gp", ".flv", ".wmv",
    ".mpg", ".mpeg", ".mts", ".m2ts", ".ts", ".mxf", ".vob",
})  # fmt: skip
FRAME_SUFFIXES = frozenset({".png", ".jpg", ".jpeg"})
LABEL_DEPTH, DOMAIN_DEPTH = 2, 3
EXAMPLES_SHOWN = 3
RULE = (
    "A folder to scan holds DIR/label/clip or DIR/domain/label/clip; "
    "a clip is a video file or a folder of png/jpg frames"
)

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class FoundClip:
    """A clip on disk: its path below the scanned folder, and whether it is a folder of frames."""

    parts: tuple[str, ...]
    is_folder: bool

    @property
    def path(self) -> str:
        """Path below the scanned folder."""
        return "/".join(self.parts)

    @property
    def name(self) -> str:
        """The last part of `short_id`: what annotation files call the clip."""
        return self.parts[-1] if self.is_folder else Path(self.parts[-1]).stem

    @property
    def short_id(self) -> str:
        """The path without a video file's suffix; a folder's dot is part of its name."""
        return self.path if self.is_folder else self.path[: -len(Path(self.path).suffix)]


def scan(folder: str | os.PathLike[str]) -> Manifest:
    """List the clips of a folder, in natural order (`clip2` before `clip10`).

    Hidden files and whatever is neither video nor frame is left out; how many is logged.

    Args:
        folder: holds label/clip or domain/label/clip throughout.

    Returns:
        A manifest with `folder` as its root; ids are the clips' paths without suffix.

    Raises:
        ManifestNotFound: there is no such folder.
        ManifestError: no clips, clips at the wrong depth, or names that a manifest cannot hold.
    """
    root = Path(folder)
    if not root.exists():
        raise ManifestNotFound(f"There is no folder {root}. {RULE}.")
    if not root.is_dir():
        raise ManifestError(f"{root} is a file, not a folder. {RULE}.")
    found, ignored = find_clips(root)
    _check_depths(root, found)
    if ignored:
        log.warning("%d files under %s are no clips and were left out, such as %s", len(ignored), root, ignored[0])
    return Manifest(_videos(root, found), root)


def find_clips(folder: Path) -> tuple[list[FoundClip], list[Path]]:
    """The clips at any depth below a folder, in natural order, and the files that are none."""
    ignored: list[Path] = []
    return sorted(_clips_below(folder, (), frozenset(), ignored), key=_natural_order), ignored


def _clips_below(
    folder: Path, parts: tuple[str, ...], above: frozenset[Path], ignored: list[Path]
) -> Iterator[FoundClip]:
    """Yield the clips below a folder; linked folders are followed, but never round in a circle."""
    real = folder.resolve()
    if real in above:
        return
    frames: list[Path] = []
    clips: list[FoundClip] = []
    for entry in sorted(folder.iterdir()):
        if entry.name.startswith("."):
            continue
        if entry.is_dir():
            clips.extend(_clips_below(entry, (*parts, entry.name), above | {real}, ignored))
        elif entry.suffix.lower() in VIDEO_SUFFIXES:
            clips.append(FoundClip((*parts, entry.name), is_folder=False))
        else:
            (frames if entry.suffix.lower() in FRAME_SUFFIXES else ignored).append(entry)
    # A thumbnail beside real clips does not make their folder a clip.
    if frames and not clips and parts:
        clips.append(FoundClip(parts, is_folder=True))
    else:
        ignored.extend(frames)
    yield from clips


def _natural_order(clip: FoundClip) -> tuple[list[tuple[list[str | int], str]], bool]:
    return [(natural_key(part), part) for part in clip.parts], clip.is_folder


def natural_key(name: str) -> list[str | int]:
    """Sort key under which digits count as numbers; texts and numbers alternate, so that keys always compare."""
    return [int(piece) if odd % 2 else piece.casefold() for odd, piece in enumerate(re.split("([0-9]+)", name))]


def _check_depths(folder: Path, found: Sequence[FoundClip]) -> None:
    if not found:
        raise ManifestError(f"{folder} holds no clips. {RULE}.")
    depths = Counter(len(clip.parts) for clip in found)
    wrong = [clip for clip in found if len(clip.parts) not in (LABEL_DEPTH, DOMAIN_DEPTH)]
    if not wrong and len(depths) == 1:
        return
    faults = tuple(Fault(None, _depth_examples(found, depth)) for depth in sorted(depths))
    problem = "has clips at a depth that gives no label" if wrong else "mixes clips with and without a domain folder"
    raise ManifestError(f"{folder} {problem}. {RULE}. Move these, or scan the folder above or below:", faults)


def _depth_examples(found: Sequence[FoundClip], depth: int) -> str:
    names = {1: "directly in DIR", LABEL_DEPTH: "as label/clip", DOMAIN_DEPTH: "as domain/label/clip"}
    paths = [clip.path + ("/ (frames)" if clip.is_folder else "") for clip in found if len(clip.parts) == depth]
    more = f" and {len(paths) - EXAMPLES_SHOWN} more" if len(paths) > EXAMPLES_SHOWN else ""
    return f"{names.get(depth, f'{depth} levels deep')}: {', '.join(paths[:EXAMPLES_SHOWN])}{more}"


def _videos(folder: Path, found: Sequence[FoundClip]) -> tuple[Video, ...]:
    videos: list[Video] = []
    faults: list[Fault] = []
    for clip, video_id in zip(found, _unique_ids(found), strict=True):
        domain = clip.parts[0] if len(clip.parts) == DOMAIN_DEPTH else ""
        try:
            videos.append(Video(video_id, clip.path, (clip.parts[-2],), domain=domain))
        except VideoError as error:
            faults.extend(Fault(None, f"{clip.path!r}: {message}") for message in error.broken)
    if faults:
        raise ManifestError(f"{folder} holds names that a manifest cannot hold; rename these:", tuple(faults))
    return tuple(videos)


def _unique_ids(found: Sequence[FoundClip]) -> list[str]:
    """Ids without suffix, but with it where two clips would share one (a.mp4 beside a.avi)."""
    ids = [clip.short_id for clip in found]
    while len(set(ids)) < len(ids):
        times = Counter(ids)
        # A suffix that is kept may clash with a name like a.mp4.avi in turn: full paths, at the latest, are unique.
        ids = [clip.path if times[name] > 1 else name for clip, name in zip(found, ids, strict=True)]
    return ids
