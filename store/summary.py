"""What a store holds, for ``actiondiff store info``."""

from collections import Counter
from dataclasses import asdict, dataclass, fields
from typing import Any

from actiondiff.store.places import Place
from actiondiff.store.reader import FeatureStore
from actiondiff.store.records import Failure, FeatureKey, spell_keys


@dataclass(frozen=True)
class StoreSummary:
    """Counts and sizes of a store.

    Attributes:
        path: its folder.
        recipe: how its features were made.
        fingerprint: the recipe's hash.
        notice: what everyone who sees its numbers should know.
        compression: ``none`` or ``zstd``.
        feature_bytes: of the features before compression; 0 where there is none.
        parts: how many parts it has.
        size_bytes: on disk.
        videos: how many have features.
        frames: rows of all videos, each counted once.
        videos_of: how many videos each key has.
        failures: videos whose last try failed.
    """

    path: Place
    recipe: dict[str, Any]
    fingerprint: str
    notice: str
    compression: str
    feature_bytes: int
    parts: int
    size_bytes: int
    videos: int
    frames: int
    videos_of: dict[FeatureKey, int]
    failures: tuple[Failure, ...]

    @property
    def failure_codes(self) -> dict[str, int]:
        """How many videos failed with each code."""
        return dict(Counter(failure.code for failure in self.failures))

    def to_dict(self) -> dict[str, Any]:
        """As JSON values."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return values | {
            "path": str(self.path),
            "videos_of": [asdict(key) | {"videos": videos} for key, videos in self.videos_of.items()],
            "failures": [asdict(failure) for failure in self.failures],
            "failure_codes": self.failure_codes,
        }

    def text(self) -> str:
        """A few lines for people."""
        recipe = ", ".join(f"{name} {value}" for name, value in self.recipe.items())
        packed = self.compression
        if self.compression != "none" and self.feature_bytes:
            packed += f" ({self.size_bytes / self.feature_bytes:.2f} of {self.feature_bytes / 1e6:.1f} MB)"
        lines = [
            f"{self.path}: {self.videos} videos, {self.frames} frames, {self.size_bytes / 1e6:.1f} MB "
            f"in {self.parts} parts, compression {packed}, {len(self.failures)} videos failed",
            f"  recipe {self.fingerprint[:12]}: {recipe}",
        ]
        keys_with: dict[int, list[FeatureKey]] = {}
        for key, videos in self.videos_of.items():
            keys_with.setdefault(videos, []).append(key)
        lines += [f"  {spell_keys(keys)}: {videos} videos" for videos, keys in keys_with.items()]
        lines += [f"  failed with {code}: {count} videos" for code, count in sorted(self.failure_codes.items())]
        lines += [f"  failed {f.video_id} [{f.code}]: {f.message}" for f in self.failures]
        return "\n".join([*lines, self.notice] if self.notice else lines)


def describe(path: str | Place) -> StoreSummary:
    """Count what a store holds.

    Raises:
        StoreNotFound: nothing is there.
    """
    store = FeatureStore(path)
    have: Counter[FeatureKey] = Counter()
    frames: dict[str, int] = {}
    feature_bytes = 0
    for part in store.parts:
        for position, video_id in enumerate(part.video_ids):
            rows = part.rows(position)
            frames[video_id] = rows.stop - rows.start
        layers = Counter(key.layer for key in part.keys) if store.compression != "none" else Counter[int]()
        for layer, timesteps in layers.items():
            file = part.file(layer)
            feature_bytes += timesteps * file.rows * file.shard[2] * file.dtype.itemsize
    for video_id in frames:
        have.update(store.keys(video_id))
    return StoreSummary(
        store.path,
        store.recipe,
        store.fingerprint,
        store.notice,
        store.compression,
        feature_bytes,
        len(store.parts),
        sum(part.size_bytes for part in store.parts),
        len(frames),
        sum(frames.values()),
        dict(sorted(have.items())),
        tuple(store.failures.values()),
    )
