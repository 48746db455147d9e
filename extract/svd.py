"""Stable Video Diffusion as a frozen backbone: encode, condition, walk, pool.

Legend of axes: T frames of a window, C channels, H W latent height and width.
"""

import hashlib
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from actiondiff import InputError
from actiondiff.extract.images import clip_pixels
from actiondiff.extract.recipe import Recipe
from actiondiff.extract.walk import DenoiserInput, layer_channels, walk
from actiondiff.extract.weights import SVDModules
from actiondiff.extract.windows import Window
from actiondiff.store import FeatureKey

LATENT_SCALE = 0.18215
_ENCODED_PIXELS = 4 * 576 * 1024
"""Pixels that go through the VAE at once: its first layers need about 1 GB a full-size frame in float32."""


class SVDBackbone:
    """Features of every layer 1 to 13 and timestep of the schedule (section 3.1 of the paper).

    Args:
        recipe: sizes, condition and schedule.
        modules: the loaded networks.
        temporal: False switches the temporal layers off.
        notice: what everyone who sees its numbers should know.
        text: cross-attention tokens (labels, width) of the condition ``text``.
    """

    def __init__(
        self,
        recipe: Recipe,
        modules: SVDModules,
        *,
        temporal: bool = True,
        notice: str = "",
        text: Float[Tensor, "labels width"] | None = None,
    ) -> None:
        self.recipe = recipe
        self.notice = notice
        cells = recipe.pool_grid[0] * recipe.pool_grid[1]
        self.layer_channels: Mapping[int, int] = {
            layer: channels * cells for layer, channels in layer_channels(modules.unet).items()
        }
        self._modules, self._temporal, self._text = modules, temporal, text
        self._device = next(modules.unet.parameters()).device
        self._precision = next(modules.unet.parameters()).dtype

    @torch.inference_mode()
    def features(
        self, windows: Sequence[Window], keys: Sequence[FeatureKey]
    ) -> list[dict[FeatureKey, Float[Tensor, "frames channels"]]]:
        """Features of each window's real frames, float32 on the device, one (frames, channels) tensor a key.

        A window that is not finite in half precision is done again in float32.
        """
        return [self._finite_features(window, keys) for window in windows]

    def _finite_features(
        self, window: Window, keys: Sequence[FeatureKey]
    ) -> dict[FeatureKey, Float[Tensor, "frames _"]]:
        features = self._features(window, keys)
        if self._precision != torch.float32 and not all(array.isfinite().all() for array in features.values()):
            with self._in_float32():
                features = self._features(window, keys)
        return features

    def _features(self, window: Window, keys: Sequence[FeatureKey]) -> dict[FeatureKey, Float[Tensor, "frames _"]]:
        pixels = window.pixels.to(self._device)
        latents = self._encode(pixels)
        embedding, image_latents = self._condition(pixels, latents)
        layers: dict[int, set[int]] = defaultdict(set)
        for key in keys:
            layers[key.timestep].add(key.layer)
        features = {}
        for timestep in sorted(layers):
            noise = self._noise(window.name, timestep, latents) if self.recipe.noise == "seeded" else None
            inputs = self._denoiser_input(latents, image_latents, embedding, timestep, noise)
            for layer, activation in walk(
                self._modules.unet, inputs, last_layer=max(layers[timestep]), temporal=self._temporal
            ):
                if layer in layers[timestep]:
                    features[FeatureKey(layer, timestep)] = self._pool(activation[0, : window.real_frames])
        return features

    @contextmanager
    def _in_float32(self) -> Iterator[None]:
        """Widen the half-precision networks for a moment; narrowing them again restores every weight exactly."""
        precision, networks = self._precision, (self._modules.unet, self._modules.image_encoder)
        try:
            for network in filter(None, networks):
                nn.Module.to(network, torch.float32)
            self._precision = torch.float32
            yield
        finally:
            for network in filter(None, networks):
                nn.Module.to(network, precision)
            self._precision = precision

    def _encode(self, pixels: Float[Tensor, "T 3 height width"]) -> Float[Tensor, "T C H W"]:
        """The mode of the VAE's posterior, not scaled, in float32.

        Channels last is not only faster on GPUs: on a CPU torch computes the group norms of that layout by another
        formula, which on a flat image (black padding) differs by 1 %, and the published features were made with it.
        """
        pixels = pixels.contiguous(memory_format=torch.channels_last)
        frames = max(1, _ENCODED_PIXELS // (pixels.shape[-2] * pixels.shape[-1]))
        vae = self._modules.vae
        moments = [vae.quant_conv(vae.encoder(chunk)) for chunk in pixels.split(frames)]
        return torch.cat(moments).chunk(2, dim=1)[0]

    def _condition(
        self, pixels: Float[Tensor, "T 3 height width"], latents: Float[Tensor, "T C H W"]
    ) -> tuple[Float[Tensor, "T tokens D"], Float[Tensor, "T C H W"]]:
        """Cross-attention tokens and image latents of every frame."""
        frames = len(pixels)
        if self.recipe.condition == "none":
            width = self._modules.unet.config.cross_attention_dim
            return latents.new_zeros(frames, 1, width), torch.zeros_like(latents)
        if self.recipe.condition == "per-frame":
            return self._embed(pixels)[:, None], latents
        # The window's own middle, also where the last window is padded: that is the paper's fixed position.
        middle = slice(frames // 2, frames // 2 + 1)
        # Text takes the place of the embedding alone; the image latents stay, as in the published code.
        tokens = self._embed(pixels[middle])[:, None] if self._text is None else self._text[None]
        return tokens.expand(frames, -1, -1), latents[middle].expand_as(latents)

    def _embed(self, pixels: Float[Tensor, "T 3 height width"]) -> Float[Tensor, "T D"]:
        """CLIP's projected image embeddings."""
        if self._modules.image_encoder is None:
            raise InputError(f"The condition {self.recipe.condition!r} needs the image encoder, which was not loaded.")
        return self._modules.image_encoder(clip_pixels(pixels).to(self._precision)).image_embeds

    def _pool(self, activation: Float[Tensor, "T C H W"]) -> Float[Tensor, "T channels"]:
        if self.recipe.pool == "mean":
            return activation.float().mean(dim=(-2, -1))
        return F.adaptive_avg_pool2d(activation.float(), self.recipe.pool_grid).flatten(1)

    def _noise(self, window: str, timestep: int, like: Float[Tensor, "T C H W"]) -> Float[Tensor, "T C H W"]:
        """Gaussian noise that depends on video, window and timestep alone, whatever was extracted before."""
        seed = int.from_bytes(hashlib.sha256(f"{window}\0{timestep}".encode()).digest()[:8], "little") >> 1
        generator = torch.Generator().manual_seed(seed)  # on the CPU, so that devices agree
        return torch.randn(like.shape, generator=generator).to(like)

    def _denoiser_input(
        self,
        latents: Float[Tensor, "T C H W"],
        image_latents: Float[Tensor, "T C H W"],
        embedding: Float[Tensor, "T tokens D"],
        timestep: int,
        noise: Float[Tensor, "T C H W"] | None,
    ) -> DenoiserInput:
        """Latents at the scale that the U-Net expects of noisy ones, clean as in the paper, or with noise."""
        schedule = self.recipe.schedule
        scaled = latents * LATENT_SCALE
        if noise is not None:
            scaled = scaled + noise * schedule.sigma(timestep)
        scaled = scaled * schedule.input_scale(timestep)
        sample = torch.cat([scaled, image_latents], dim=1).to(self._precision)
        return DenoiserInput(sample[None], embedding[None].to(self._precision), schedule.noise_label(timestep))
