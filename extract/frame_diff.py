"""The control without a network: grey frame differences, which every table should stand beside."""

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from actiondiff.extract.recipe import Recipe
from actiondiff.extract.windows import Window
from actiondiff.store import FeatureKey

GRID = 16
_GREY = (0.299, 0.587, 0.114)  # ITU-R BT.601


class FrameDiffBackbone:
    """Absolute differences of successive grey frames, averaged on a 16 x 16 grid: layer 1, timestep 0, 256 channels.

    The first frame of a window has no predecessor in it and repeats the second frame's difference.
    """

    def __init__(self, recipe: Recipe) -> None:
        self.recipe = recipe
        self.notice = ""
        self.layer_channels: Mapping[int, int] = {1: GRID * GRID}

    def windows_at_once(self, keys: Sequence[FeatureKey]) -> int:
        """One: there is nothing to gain from several."""
        return 1

    def features(
        self, windows: Sequence[Window], keys: Sequence[FeatureKey]
    ) -> list[dict[FeatureKey, Float[Tensor, "_ _"]]]:
        """Features of each window's real frames, one (frames, channels) tensor a key."""
        return [dict.fromkeys(keys, self._difference(window)) for window in windows]

    def _difference(self, window: Window) -> Float[Tensor, "frames channels"]:
        pixels = window.pixels[: window.real_frames]
        grey = (pixels * pixels.new_tensor(_GREY)[:, None, None]).sum(dim=1, keepdim=True)
        grid = F.adaptive_avg_pool2d(grey, GRID).flatten(1)
        if len(grid) == 1:
            return torch.zeros_like(grid)
        difference = (grid[1:] - grid[:-1]).abs()
        return torch.cat([difference[:1], difference])
