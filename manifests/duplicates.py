"""Files of a manifest that hold the same bytes, and files that are not there."""

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from actiondiff.manifests.faults import shortened
from actiondiff.manifests.manifest import Manifest
from actiondiff.manifests.video import Video

CHUNK_BYTES = 1 << 20
EXAMPLES_SHOWN = 5


@dataclass(frozen=True)
class SameBytes:
    """Files that hold the same bytes under different paths.

    Attributes:
        sets: for every set of equal files, the first clip cut from each; sets that stand in several splits come first.
        across: how many sets do.
        originals: for every file of a set, by its resolved path, the set's first file.
        missing: paths that are not there.
    """

    sets: tuple[tuple[str, ...], ...] = ()
    across: int = 0
    originals: Mapping[Path, Path] = field(default_factory=dict)
    missing: tuple[str, ...] = ()

    @property
    def warnings(self) -> list[str]:
        """One sentence for whatever would spoil a result."""
        found = []
        if self.sets:
            listed = shortened([" = ".join(ids) for ids in self.sets], EXAMPLES_SHOWN)
            where = f", {self.across} of them in several splits" if self.across else ""
            found.append(f"{len(self.sets)} sets of files hold the same bytes{where}: {listed}.")
        if self.missing:
            listed = shortened(self.missing, EXAMPLES_SHOWN)
            found.append(f"{len(self.missing)} files are not there, so not compared: {listed}.")
        return found


def same_bytes(manifest: Manifest) -> SameBytes:
    """Compare the files of a manifest; only those of equal size are read, and folders are left out."""
    files: dict[Path, list[Video]] = {}
    missing: dict[str, None] = {}
    for video in manifest:
        path = manifest.source(video)
        if path.is_file():
            files.setdefault(path.resolve(), []).append(video)
        elif not path.exists():
            missing[video.path] = None
    sets = list(_equal(files))
    leaking = [len({video.split for path in paths for video in files[path]}) > 1 for paths in sets]
    ordered = sorted(zip(leaking, sets, strict=True), key=lambda item: not item[0])
    return SameBytes(
        tuple(tuple(files[path][0].video_id for path in paths) for _, paths in ordered),
        sum(leaking),
        {path: paths[0] for paths in sets for path in paths},
        tuple(missing),
    )


def _equal(files: Iterable[Path]) -> Iterator[list[Path]]:
    by_size: dict[int, list[Path]] = {}
    for path in files:
        by_size.setdefault(path.stat().st_size, []).append(path)
    for paths in (paths for paths in by_size.values() if len(paths) > 1):
        by_bytes: dict[bytes, list[Path]] = {}
        for path in paths:
            by_bytes.setdefault(_digest(path), []).append(path)
        yield from (equal for equal in by_bytes.values() if len(equal) > 1)


def _digest(path: Path) -> bytes:
    digest = hashlib.blake2b()
    with path.open("rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            digest.update(chunk)
    return digest.digest()
