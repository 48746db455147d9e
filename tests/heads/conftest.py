from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

from actiondiff.heads.data import LabelledFeatures
from actiondiff.heads.presets import FitConfig
from actiondiff.manifests import Manifest, Video
from actiondiff.store import FeatureKey, FeatureStore, Source, StoreWriter, VideoFeatures

KEY = FeatureKey(9, 20)
CHANNELS = 8


@dataclass
class Bench:
    """Draws features, writes them into stores, makes manifests of them."""

    folder: Path
    rng: np.random.Generator = field(default_factory=lambda: np.random.default_rng(0))

    def draw(self, labels: Sequence[str], classes: Sequence[str] = ("a", "b", "c"), signal: float = 3.0) -> np.ndarray:
        """Frames around a point of the class (the channel of its place), noise of deviation 1, a far-off constant."""
        frames = int(self.rng.integers(4, 12))
        mean = np.zeros(CHANNELS)
        mean[[list(classes).index(label) for label in labels]] = signal
        return (50 + mean + self.rng.normal(size=(frames, CHANNELS))).astype(np.float32)

    def store(
        self,
        features: Mapping[str, np.ndarray],
        name: str = "features.zarr",
        keys: Sequence[FeatureKey] = (KEY,),
        recipe: Mapping[str, object] | None = None,
    ) -> FeatureStore:
        with StoreWriter(self.folder / name, dict(recipe or {"backbone": "drawn"}), dtype="float32") as writer:
            for video_id, array in features.items():
                source = Source("0" * 64, 1, 1)
                index, pts = np.arange(len(array)), np.arange(len(array)) / 30
                writer.add(VideoFeatures(video_id, source, index, pts, dict.fromkeys(keys, array)))
        return FeatureStore(self.folder / name)

    def manifest(self, rows: Sequence[Mapping[str, object]]) -> Manifest:
        return Manifest(tuple(Video(path=f"{row['video_id']}.mp4", **row) for row in rows), self.folder)  # type: ignore[arg-type]

    def rows(self, count: int, classes: Sequence[str] = ("a", "b", "c"), **columns: str) -> list[dict[str, object]]:
        """Rows whose labels take turns; ids start with the columns' values."""
        start = "/".join(columns.values()) or "clip"
        return [
            {"video_id": f"{start}/{index:03d}", "labels": (classes[index % len(classes)],), **columns}
            for index in range(count)
        ]

    def of(self, manifest: Manifest, name: str = "features.zarr", signal: float = 3.0) -> FeatureStore:
        """A store with features drawn for every row."""
        drawn = {video.video_id: self.draw(video.labels, manifest.classes, signal) for video in manifest}
        return self.store(drawn, name)


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


@pytest.fixture
def quick() -> FitConfig:
    """Settings that learn drawn features in a blink."""
    return FitConfig(head="linear", epochs=8, lr=1e-2, mixup=0.0, warmup_epochs=1)


@pytest.fixture
def drawn(bench: Bench) -> Callable[..., LabelledFeatures]:
    """Drawn features in memory."""

    def make(count: int, signal: float = 3.0, start: str = "v") -> LabelledFeatures:
        labels = tuple(("abc"[index % 3],) for index in range(count))
        return LabelledFeatures(
            features=tuple(bench.draw(row, signal=signal) for row in labels),
            labels=labels,
            video_ids=tuple(f"{start}{index}" for index in range(count)),
            groups=("",) * count,
            classes=("a", "b", "c"),
            multilabel=False,
        )

    return make
