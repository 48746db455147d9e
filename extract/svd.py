"""Stable Video Diffusion as a frozen backbone: encode, condition, walk, pool.

Legend of axes: T frames of a window, C channels, H W latent height and width.
"""

import hashlib
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from actiondiff import InputError
from actiondiff.extract.images import clip_pixels
from actiondiff.extract.pieces import Pieces, if_it_fits, largest_batch, widened
from actiondiff.extract.recipe import Recipe
from actiondiff.extract.walk import DenoiserInput, layer_channels, middle_layer, walk
from actiondiff.extract.weights import SVDModules
from actiondiff.extract.windows import BLACK, Window
from actiondiff.store import FeatureKey

LATENT_SCALE = 0.18215
_ENCODED_PIXELS = 4 * 576 * 1024
"""Pixels that go through the VAE at once: its first layers need about 1 GB a full-size frame in float32."""

Features = dict[FeatureKey, Float[Tensor, "_ _"]]
"""(frames, channels) of a window at every key; jaxtyping would hold all windows to one number of frames."""


@dataclass(frozen=True, eq=False)
class _Encoded:
    """A window ready for the U-Net at any timestep."""

    window: Window
    latents: Float[Tensor, "T C H W"]
    image_latents: Float[Tensor, "T C H W"]
    embedding: Float[Tensor, "T tokens D"]


class SVDBackbone:
    """Features of every layer and timestep of the schedule (section 3.1 of the paper).

    What windows share is done once: a window is encoded once for all timesteps and layers, black padding once for all.

    Args:
        recipe: sizes, condition and schedule.
        modules: the loaded networks.
        notice: what everyone who sees its numbers should know.
        batch: windows, each at a timestep, that go through the U-Net together; None takes 1 on a CPU, and on a GPU
            as many as fit. More than 1 changes features by rounding.
        text: cross-attention tokens (labels, width) of the condition ``text``.
    """

    def __init__(
        self,
        recipe: Recipe,
        modules: SVDModules,
        *,
        notice: str = "",
        batch: int | None = None,
        text: Float[Tensor, "labels width"] | None = None,
    ) -> None:
        self.recipe = recipe
        self.notice = notice
        cells = recipe.pool_grid[0] * recipe.pool_grid[1]
        self.layer_channels: Mapping[int, int] = {
            layer: channels * cells
            for layer, channels in layer_channels(modules.unet).items()
            if layer <= middle_layer(modules.unet) or modules.unet.up_blocks is not None
        }
        self._modules, self._text = modules, text
        self._device = next(modules.unet.parameters()).device
        self._precision = next(modules.unet.parameters()).dtype
        self._pairs = Pieces(1 if batch is None else batch)
        self._to_measure = batch is None and self._device.type == "cuda"
        self._frames = Pieces(max(1, _ENCODED_PIXELS // (recipe.size_hw[0] * recipe.size_hw[1])))
        # On a CPU the latents of a flat image depend, by 1 % and more, on how many images torch shares out among how
        # many threads. The published values were made from whole windows, so there whole windows it is.
        self._encode_padding = self._device.type == "cpu"
        self._black_latent: Tensor | None = None

    def windows_at_once(self, keys: Sequence[FeatureKey]) -> int:
        """How many windows fill a batch at these keys."""
        return max(1, self._pairs.size // len({key.timestep for key in keys}))

    @torch.inference_mode()
    def features(self, windows: Sequence[Window], keys: Sequence[FeatureKey]) -> list[Features]:
        """Features of each window's real frames, float32 on the device, one (frames, channels) tensor a key.

        A window that is not finite in half precision is done again in float32, and stays as it is where that does not
        fit.
        """
        if self._to_measure and windows:
            self._measure(windows[0], keys)
        found = self._features(windows, keys)
        if self._precision == torch.float32:
            return found
        return [
            features
            if all(array.isfinite().all() for array in features.values())
            else self._exact(window, keys) or features
            for window, features in zip(windows, found, strict=True)
        ]

    def _exact(self, window: Window, keys: Sequence[FeatureKey]) -> Features | None:
        """A window in float32, one timestep after another; None where there is no memory for that.

        With sizes of its own: those of half precision stay.
        """
        usual = self._pairs, self._frames
        self._pairs, self._frames = Pieces(1), Pieces(1)
        try:
            with self._in_float32() as fits:
                found = if_it_fits(lambda: self._features([window], keys)) if fits else None
        finally:
            self._pairs, self._frames = usual
        return found[0] if found else None

    def _measure(self, window: Window, keys: Sequence[FeatureKey]) -> None:
        """Choose the batch by the memory that one window at one timestep takes beside the weights."""
        before = torch.cuda.memory_allocated(self._device)
        torch.cuda.reset_peak_memory_stats(self._device)
        self._features([window], [key for key in keys if key.timestep == keys[0].timestep])
        taken = torch.cuda.max_memory_allocated(self._device) - before
        torch.cuda.empty_cache()
        self._pairs.size = largest_batch(torch.cuda.mem_get_info(self._device)[0], taken)
        self._to_measure = False

    def _features(self, windows: Sequence[Window], keys: Sequence[FeatureKey]) -> list[Features]:
        layers: dict[int, set[int]] = defaultdict(set)
        for key in keys:
            layers[key.timestep].add(key.layer)
        encoded = self._encode_windows(windows)
        pairs = [(window, timestep) for window in encoded for timestep in sorted(layers)]
        walked = self._pairs.run(pairs, lambda piece: self._walk(piece, layers))
        each = len(layers)
        return [
            {key: array for features in walked[first : first + each] for key, array in features.items()}
            for first in range(0, len(walked), each)
        ]

    def _walk(self, pairs: Sequence[tuple[_Encoded, int]], layers: Mapping[int, set[int]]) -> list[Features]:
        """Several windows, each at a timestep, through the U-Net together."""
        features: list[Features] = [{} for _ in pairs]
        deepest = max(max(layers[timestep]) for _, timestep in pairs)
        for layer, activation in walk(self._modules.unet, self._denoiser_input(pairs), last_layer=deepest):
            for place, (encoded, timestep) in enumerate(pairs):
                if layer in layers[timestep]:
                    real = activation[place, : encoded.window.real_frames]
                    features[place][FeatureKey(layer, timestep)] = self._pool(real)
        return features

    @contextmanager
    def _in_float32(self) -> Iterator[bool]:
        """Widen the half-precision networks for a moment, if that fits; narrowing restores every weight exactly."""
        precision, networks = self._precision, (self._modules.unet, self._modules.image_encoder)
        try:
            with widened(*filter(None, networks)) as fits:
                self._precision = torch.float32 if fits else precision
                yield fits
        finally:
            self._precision = precision

    def _encode_windows(self, windows: Sequence[Window]) -> list[_Encoded]:
        """Every real frame once, and black padding once and for all."""
        encoded = [window.pixels if self._encode_padding else window.pixels[: window.real_frames] for window in windows]
        latents = self._encode(torch.cat(encoded)).split([len(pixels) for pixels in encoded])
        return [self._conditioned(window, self._padded(found)) for window, found in zip(windows, latents, strict=True)]

    def _padded(self, latents: Float[Tensor, "frames C H W"]) -> Float[Tensor, "T C H W"]:
        """Latents of a whole window: behind the real frames those of what fills it."""
        missing = self.recipe.window - len(latents)
        if not missing:
            return latents
        if self.recipe.pad == "repeat":
            filling = latents[-1:]
        else:
            if self._black_latent is None:
                self._black_latent = self._encode(torch.full((1, 3, *self.recipe.size_hw), BLACK))
            filling = self._black_latent
        return torch.cat([latents, filling.expand(missing, -1, -1, -1)])

    def _encode(self, pixels: Float[Tensor, "frames 3 height width"]) -> Float[Tensor, "frames C H W"]:
        """The mode of the VAE's posterior, not scaled, as float32 on the device.

        Channels last is not only faster on GPUs: on a CPU torch computes the group norms of that layout by another
        formula, which on a flat image (black padding) differs by 1 %, and the published features were made with it.
        """
        vae = self._modules.vae

        def mode(chunk: Sequence[Tensor]) -> Tensor:
            together = torch.stack(list(chunk)).to(self._device, vae.dtype, non_blocking=True)
            moments = vae.quant_conv(vae.encoder(together.contiguous(memory_format=torch.channels_last)))
            return moments.chunk(2, dim=1)[0].float()

        return torch.stack(self._frames.run(list(pixels), mode))

    def _conditioned(self, window: Window, latents: Float[Tensor, "T C H W"]) -> _Encoded:
        """The window with cross-attention tokens and image latents of every frame."""
        frames, real = len(latents), window.real_frames
        if self.recipe.condition == "none":
            width = self._modules.unet.config.cross_attention_dim
            return _Encoded(window, latents, torch.zeros_like(latents), latents.new_zeros(frames, 1, width))
        if self.recipe.condition == "per-frame":
            found = self._embed(window.pixels[: real + 1])  # what fills the window, if anything does, is the same
            embedding = torch.cat([found, found[-1:].expand(frames - len(found), -1)])
            return _Encoded(window, latents, latents, embedding[:, None])
        # The window's own middle, also where the last window is padded: that is the paper's fixed position.
        middle = slice(frames // 2, frames // 2 + 1)
        # Text takes the place of the embedding alone; the image latents stay, as in the published code.
        tokens = self._embed(window.pixels[middle])[:, None] if self._text is None else self._text[None]
        embedding = tokens.expand(frames, -1, -1)
        return _Encoded(window, latents, latents[middle].expand_as(latents), embedding)

    def _embed(self, pixels: Float[Tensor, "T 3 height width"]) -> Float[Tensor, "T D"]:
        """CLIP's projected image embeddings."""
        if self._modules.image_encoder is None:
            raise InputError(f"The condition {self.recipe.condition!r} needs the image encoder, which was not loaded.")
        small = clip_pixels(pixels.to(self._device)).to(self._precision)
        return self._modules.image_encoder(small).image_embeds

    def _pool(self, activation: Float[Tensor, "T C H W"]) -> Float[Tensor, "T channels"]:
        if self.recipe.pool == "mean":
            return activation.mean(dim=(-2, -1), dtype=torch.float32)
        return F.adaptive_avg_pool2d(activation.float(), self.recipe.pool_grid).flatten(1)

    def _noise(self, window: str, timestep: int, like: Float[Tensor, "T C H W"]) -> Float[Tensor, "T C H W"]:
        """Gaussian noise that depends on video, window and timestep alone, whatever was extracted before."""
        seed = int.from_bytes(hashlib.sha256(f"{window}\0{timestep}".encode()).digest()[:8], "little") >> 1
        generator = torch.Generator().manual_seed(seed)  # on the CPU, so that devices agree
        return torch.randn(like.shape, generator=generator).to(like)

    def _denoiser_input(self, pairs: Sequence[tuple[_Encoded, int]]) -> DenoiserInput:
        """What the U-Net expects of noisy latents, made of clean ones as in the paper, or of clean ones with noise."""
        schedule = self.recipe.schedule
        samples = []
        for encoded, timestep in pairs:
            scaled = encoded.latents * LATENT_SCALE
            if self.recipe.noise == "seeded":
                noise = self._noise(encoded.window.name, timestep, encoded.latents)
                scaled = scaled + noise * schedule.sigma(timestep)
            samples.append(torch.cat([scaled * schedule.input_scale(timestep), encoded.image_latents], dim=1))
        embedding = torch.stack([encoded.embedding for encoded, _ in pairs])
        labels = [schedule.noise_label(timestep) for _, timestep in pairs]
        return DenoiserInput(
            torch.stack(samples).to(self._precision),
            embedding.to(self._precision),
            torch.tensor(labels, dtype=torch.float32, device=self._device),
        )
