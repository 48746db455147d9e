"""The words of the split column, and what people write in their place."""

from collections import Counter

from actiondiff.manifests.manifest import Manifest

SPELLINGS = {
    **dict.fromkeys(("train", "training", "trn"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "dev"), "val"),
    **dict.fromkeys(("test", "testing", "tst"), "test"),
}
"""What people write for the three splits, in lower case."""


def misspelt_splits(manifest: Manifest) -> str:
    """Splits that mean train, val or test and are not spelt so, with their rows and the right word; empty if none."""
    counts = Counter(video.split for video in manifest)
    meant = {split: SPELLINGS.get(split.strip().lower(), "") for split in sorted(counts)}
    return ", ".join(
        f"{split!r} ({counts[split]} rows) for {right}" for split, right in meant.items() if right not in ("", split)
    )
