"""Stand-ins that several rooms' tests share: a backbone without weights, pictures without a camera."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from actiondiff.extract.recipe import Recipe
from actiondiff.extract.windows import Window
from actiondiff.store import FeatureKey

GOLDEN = Path(__file__).parent / "golden"
"""Values of the published implementation, and its weights under the published key names."""

REAL_CLIPS = Path(__file__).parents[2] / "shared" / "clips"
"""120 real clips, where the folder is there."""


class FakeBackbone:
    """Features that can be told from the pixels alone: the seam that most tests of the run stand on.

    A key's channels are the frame's mean, the layer, the timestep and the window's count of real frames.
    """

    def __init__(self, **recipe) -> None:
        self.recipe = Recipe("fake", "", **({"size_hw": (64, 64), "store_dtype": "float32"} | recipe))
        self.layer_channels = dict.fromkeys(range(1, 14), 4)
        self.notice = ""
        self.windows_seen = 0
        self.batch = 1

    def windows_at_once(self, keys: Sequence[FeatureKey]) -> int:
        return self.batch

    def features(self, windows: Sequence[Window], keys: Sequence[FeatureKey]) -> list[dict[FeatureKey, torch.Tensor]]:
        return [self.window_features(window, keys) for window in windows]

    def window_features(self, window: Window, keys: Sequence[FeatureKey]) -> dict[FeatureKey, torch.Tensor]:
        self.windows_seen += 1
        means = window.pixels[: window.real_frames].mean(dim=(1, 2, 3))
        rest = torch.ones(window.real_frames, 3)
        return {
            key: torch.cat([means[:, None], rest * torch.tensor([key.layer, key.timestep, window.real_frames])], 1)
            for key in keys
        }


def draw_frames(count: int, size_hw: tuple[int, int] = (48, 64), seed: int = 0) -> np.ndarray:
    """Smooth moving pictures that survive a lossy codec."""
    height, width = size_hw
    rng = np.random.default_rng(seed)
    phase, speed = rng.uniform(0, 6, 3), rng.uniform(0.1, 0.4, 3)
    y, x = np.mgrid[:height, :width] / 10.0
    waves = [np.sin(x + y * 0.5 + phase[c] + speed[c] * np.arange(count)[:, None, None]) for c in range(3)]
    return (127.5 + 100 * np.stack(waves, axis=-1)).astype(np.uint8)
