"""Video transformers as frozen backbones: tubelets to tokens, block after block, tokens pooled over space.

Legend of axes: B windows, T frames, P tubelets in time, N tokens (P x H x W), H W patches down and across, C channels.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from actiondiff import InputError
from actiondiff.extract.pieces import if_it_fits, widened
from actiondiff.extract.recipe import Recipe
from actiondiff.extract.windows import BLACK, Window
from actiondiff.store import FeatureKey

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_DEVIATION = (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class VideoTransformer:
    """A loaded network, cut down to what features need: the embedding of tubelets and the blocks.

    Attributes:
        module: holds all parameters.
        embed: normalised frames (B, T, 3, height, width) to tokens (B, N, C), in the order time, down, across.
        blocks: layer 1 is the first; each takes and gives tokens.
        channels: width of the tokens.
        patch: height and width of a patch, in pixels.
        tubelet: frames that a token spans.
        mean: of each colour, for values in [0, 1].
        deviation: likewise.
        weights_sha256: of the tensors loaded and of what else tells the network from another one.
    """

    module: nn.Module
    embed: Callable[[Tensor], Tensor]
    blocks: Sequence[Callable[[Tensor], Tensor]]
    channels: int
    patch: tuple[int, int]
    tubelet: int
    weights_sha256: str
    mean: tuple[float, ...] = IMAGENET_MEAN
    deviation: tuple[float, ...] = IMAGENET_DEVIATION


class VideoTransformerBackbone:
    """Features of every block of VideoMAE or V-JEPA 2: layer n is what block n gives, before any final norm.

    A tubelet's tokens are averaged over space, and each of its frames gets that value. There are no noise levels: the
    one timestep is 0.

    Args:
        recipe: sizes and precision.
        network: the loaded network.
        notice: what everyone who sees its numbers should know.
    """

    def __init__(self, recipe: Recipe, network: VideoTransformer, *, notice: str = "") -> None:
        if any(side % patch for side, patch in zip(recipe.size_hw, network.patch, strict=True)):
            raise InputError(
                f"{recipe.backbone} cuts frames into patches of {network.patch[0]}x{network.patch[1]} pixels, so "
                f"--size is a multiple of that; got {recipe.size_hw[0]}x{recipe.size_hw[1]}."
            )
        self.recipe = recipe
        self.notice = notice
        cells = recipe.pool_grid[0] * recipe.pool_grid[1]
        self.layer_channels: Mapping[int, int] = dict.fromkeys(
            range(1, len(network.blocks) + 1), network.channels * cells
        )
        self._network = network
        parameter = next(network.module.parameters())
        self._device, self._precision = parameter.device, parameter.dtype

    def windows_at_once(self, keys: Sequence[FeatureKey]) -> int:
        """One: they go alone, so that a video's bytes do not depend on its neighbours."""
        return 1

    @torch.inference_mode()
    def features(
        self, windows: Sequence[Window], keys: Sequence[FeatureKey]
    ) -> list[dict[FeatureKey, Float[Tensor, "frames channels"]]]:
        """Features of each window's real frames, float32 on the device, one (frames, channels) tensor a key.

        A window that is not finite in half precision is done again in float32, alone, and stays as it is where that
        does not fit.
        """
        features = self._features(windows, keys)
        if self._precision == torch.float32:
            return features
        for index, window in enumerate(windows):
            if not all(array.isfinite().all() for array in features[index].values()):
                features[index] = self._exact(window, keys) or features[index]
        return features

    def _exact(self, window: Window, keys: Sequence[FeatureKey]) -> dict[FeatureKey, Tensor] | None:
        """A window in float32; None where there is no memory for that."""
        with self._in_float32() as fits:
            found = if_it_fits(lambda: self._features([window], keys)) if fits else None
        return found[0] if found else None

    def _features(
        self, windows: Sequence[Window], keys: Sequence[FeatureKey]
    ) -> list[dict[FeatureKey, Float[Tensor, "_ _"]]]:
        pixels = torch.stack([window.pixels for window in windows]).to(self._device)
        layers = {key.layer for key in keys}
        pooled = {
            layer: self._pool(tokens, pixels.shape[1])
            for layer, tokens in self._walk(self._prepare(pixels), max(layers))
            if layer in layers
        }
        return [
            {key: pooled[key.layer][index, : window.real_frames] for key in keys}
            for index, window in enumerate(windows)
        ]

    def _prepare(self, pixels: Float[Tensor, "B T 3 height width"]) -> Float[Tensor, "B T_whole 3 height width"]:
        """Frames filled up to whole tubelets, with the network's mean and deviation."""
        if lacking := -pixels.shape[1] % self._network.tubelet:
            last = pixels[:, -1:] if self.recipe.pad == "repeat" else torch.full_like(pixels[:, -1:], BLACK)
            pixels = torch.cat([pixels, last.expand(-1, lacking, -1, -1, -1)], dim=1)
        mean, deviation = (
            pixels.new_tensor(values)[:, None, None] for values in (self._network.mean, self._network.deviation)
        )
        return (((pixels + 1) / 2 - mean) / deviation).to(self._precision)

    def _walk(
        self, frames: Float[Tensor, "B T 3 height width"], last_layer: int
    ) -> Iterator[tuple[int, Float[Tensor, "B N C"]]]:
        """Every block's tokens, stopping behind the deepest layer asked for."""
        tokens = self._network.embed(frames)
        for layer, block in enumerate(self._network.blocks[:last_layer], start=1):
            tokens = block(tokens)
            yield layer, tokens

    def _pool(self, tokens: Float[Tensor, "B N C"], frames: int) -> Float[Tensor, "B T channels"]:
        """Means over space; both frames of a tubelet get its value."""
        down, across = (side // patch for side, patch in zip(self.recipe.size_hw, self._network.patch, strict=True))
        maps = tokens.float().unflatten(1, (-1, down, across)).movedim(-1, 2)
        grid = F.adaptive_avg_pool2d(maps.flatten(0, 1), self.recipe.pool_grid).flatten(1)
        per_tubelet = grid.unflatten(0, maps.shape[:2])
        return per_tubelet.repeat_interleave(self._network.tubelet, dim=1)[:, :frames]

    @contextmanager
    def _in_float32(self) -> Iterator[bool]:
        """Widen the network for a moment, if that fits."""
        precision = self._precision
        try:
            with widened(self._network.module) as fits:
                self._precision = torch.float32 if fits else precision
                yield fits
        finally:
            self._precision = precision
