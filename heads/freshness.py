"""Whether stored features still belong to the rows of a manifest: same part of the same content."""

import hashlib
import re
from pathlib import Path

from actiondiff.manifests import FRAME_SUFFIXES, Manifest, Video
from actiondiff.store import FeatureStore, Source

_BLOCK = 1 << 20


def stale_videos(store: FeatureStore, manifest: Manifest) -> dict[str, str]:
    """Videos whose features were made from something else than their row means now, each with the reason.

    Sizes and times of modification are compared first; a file is read only where the size is the same and the time is
    not. A file that is not there says nothing: features may travel without their videos. Neither do features that were
    imported: where they came from is not known.
    """
    if store.recipe.get("backbone") == "imported":
        return {}
    stale: dict[str, str] = {}
    for video in manifest:
        if video.video_id in store and (
            why := _difference(store.source(video.video_id), manifest.source(video), video)
        ):
            stale[video.video_id] = why
    return stale


def _difference(source: Source, path: Path, video: Video) -> str:
    if (source.start_seconds, source.end_seconds) != (video.start_seconds, video.end_seconds):
        stored, row = _span(source.start_seconds, source.end_seconds), _span(video.start_seconds, video.end_seconds)
        return f"the features are of {stored}, the row says {row}"
    files = _files(path)
    if not files:
        return ""
    stats = [file.stat() for file in files]
    size_bytes, mtime_ns = sum(stat.st_size for stat in stats), max(stat.st_mtime_ns for stat in stats)
    if size_bytes != source.size_bytes:
        return f"{path} had {source.size_bytes} bytes and has {size_bytes}"
    if mtime_ns != source.mtime_ns and _sha256(path, files) != source.sha256:
        return f"the content of {path} has changed"
    return ""


def _span(start: float | None, end: float | None) -> str:
    return f"{'the start' if start is None else f'{start:g} s'} to {'the end' if end is None else f'{end:g} s'}"


def _files(path: Path) -> list[Path]:
    """The file itself, or a folder's frames in natural order; nothing where there is neither."""
    if not path.is_dir():
        return [path] if path.is_file() else []
    frames = [file for file in path.iterdir() if file.suffix.lower() in FRAME_SUFFIXES and file.name[0] != "."]
    return sorted(
        frames, key=lambda file: ([(t, int(n or 0)) for t, n in re.findall(r"(\D*)(\d*)", file.name)], file.name)
    )


def _sha256(path: Path, files: list[Path]) -> str:
    """The hash that extraction writes into the store (a test holds both to each other)."""
    digest = hashlib.sha256()
    for file in files:
        if path.is_dir():
            digest.update(f"{file.name}\0{file.stat().st_size}\0".encode())
        with file.open("rb") as content:
            while block := content.read(_BLOCK):
                digest.update(block)
    return digest.hexdigest()
