"""Makes one manifest of another: a split that keeps groups whole, several manifests as one."""

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from actiondiff import InputError
from actiondiff.manifests.grouping import grouped_holdout
from actiondiff.manifests.manifest import Manifest
from actiondiff.manifests.video import LABEL_SEPARATOR, Video
from actiondiff.manifests.writing import moved_path


def split_manifest(
    manifest: Manifest,
    *,
    test: float = 0.2,
    val: float = 0.0,
    group: str = "group",
    where: str | None = None,
    seed: int = 0,
) -> Manifest:
    """Fill the column `split` so that no group is parted and every part looks alike by label.

    Args:
        manifest: the clips; whatever split they have is replaced.
        test: part of the clips that becomes `test`; 0 makes none.
        val: part that becomes `val`; 0 makes none.
        group: column whose values must not be parted; a clip with an empty one is a group of its own.
        where: only the clips of this selection are split, the others stay as they are: `split=train` with `test=0`
            takes a validation part out of a published training part.
        seed: decides among equals; the same seed gives the same split.

    Raises:
        InputError: fractions that leave nothing to train on, or too few groups.
    """
    if min(test, val) < 0 or test + val <= 0 or test + val >= 1:
        raise InputError(f"Test and val must be 0 or more and leave something to train on; {test} and {val} came.")
    videos = list((manifest if where is None else manifest.where(where)).videos)
    if group not in manifest.columns and group != "group":
        raise InputError(f"The manifest has no column {group!r}; it has: {', '.join(manifest.columns)}.")
    parts: dict[str, str] = {video.video_id: "train" for video in videos}
    # Whatever the test part takes, the val part is a share of all clips.
    for name, fraction in (("test", test), ("val", val / (1 - test))):
        left = [video for video in videos if parts[video.video_id] == "train"]
        if fraction:
            groups, labels = [v.column(group) for v in left], [LABEL_SEPARATOR.join(v.labels) for v in left]
            parts |= {left[index].video_id: name for index in grouped_holdout(groups, labels, fraction, seed)}
    rows = tuple(replace(video, split=parts.get(video.video_id, video.split)) for video in manifest)
    return Manifest(rows, manifest.root)


def merge_manifests(manifests: Mapping[str, Manifest]) -> Manifest:
    """Several manifests as one; ids and groups get the manifest's name in front, so that none can be mistaken.

    Args:
        manifests: each under the name that its ids shall begin with.

    Raises:
        InputError: fewer than two manifests.
    """
    if len(manifests) < 2:
        raise InputError(f"Merging takes two manifests or more; {len(manifests)} came.")
    root = Path(os.path.commonpath([manifest.root.absolute() for manifest in manifests.values()]))
    rows = [
        _prefixed(video, name, moved_path(video.path, part.root, root))
        for name, part in manifests.items()
        for video in part
    ]
    return Manifest(tuple(rows), root)


def _prefixed(video: Video, name: str, path: str) -> Video:
    group = f"{name}/{video.group}" if video.group else ""
    return replace(video, video_id=f"{name}/{video.video_id}", path=path, group=group)
