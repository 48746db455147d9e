"""Weights: a diffusers folder, local or from the hub, or a published file; only the parts in use are loaded."""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKLTemporalDecoder, UNetSpatioTemporalConditionModel
from torch import Tensor, nn
from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

from actiondiff.extract.errors import WeightsError, WeightsNotFound
from actiondiff.extract.hub import HubPart
from actiondiff.extract.random_weights import random_tensors
from actiondiff.extract.single_file import SVD_CONFIGS, read_part
from actiondiff.extract.tensors import fill, hash_tensors, read_json, read_tensors, tensor_files

UP_BLOCKS = "up_blocks."
UNUSED_UNET = (UP_BLOCKS, "conv_norm_out.", "conv_out.")
"""The half of the U-Net that denoises; features come from the other half (670 M of 1,525 M parameters)."""

UNUSED_VAE = ("decoder.",)

RESIDUAL_NORM_EPS = 1e-5
"""Of the published U-Net's residual blocks. diffusers builds those of levels 0 to 2 with 1e-6, which moves features
by up to 3 % where activations are flat (black padding, no conditioning)."""


@dataclass(frozen=True)
class SVDModules:
    """The parts of Stable Video Diffusion that features need, without the denoising half.

    Attributes:
        unet: without up blocks where they were not asked for.
        vae: without decoder, in float32 or bfloat16: in float16 it gives NaN.
        image_encoder: None where nothing is conditioned on images.
        weights_sha256: of every tensor loaded but those of the up blocks; the same tensors in another packaging have
            the same hash.
        decoder_sha256: of the up blocks, "" where they were not asked for.
    """

    unet: UNetSpatioTemporalConditionModel
    vae: AutoencoderKLTemporalDecoder
    image_encoder: CLIPVisionModelWithProjection | None
    weights_sha256: str
    decoder_sha256: str = ""


def svd_hub_parts(half: bool, image_encoder: bool) -> list[HubPart]:
    """What is fetched of a hub repository; the VAE is float32 always."""
    parts = [HubPart("unet", "diffusion_pytorch_model", half), HubPart("vae", "diffusion_pytorch_model")]
    return parts + [HubPart("image_encoder", "model", half)] * image_encoder


@dataclass(frozen=True)
class RandomSource:
    """Weights drawn from a seed.

    Attributes:
        seed: any whole number.
        config: a diffusers folder whose ``config.json`` files hold; None for SVD's.
    """

    seed: int
    config: Path | None = None

    @property
    def what(self) -> str:
        """What it is called in messages."""
        return f"random weights {self.seed}"

    def part_config(self, part: str) -> Mapping[str, Any]:
        """Configuration of ``unet``, ``vae`` or ``image_encoder``."""
        return SVD_CONFIGS[part] if self.config is None else _read_config(self.config / part)

    def tensors(self, part: str, module: nn.Module, half: bool, unused: tuple[str, ...]) -> dict[str, Tensor]:
        """A value for every parameter of the module; what it lacks already is not drawn."""
        return random_tensors(module, self.seed, part)


@dataclass(frozen=True)
class WeightsSource:
    """Where weights lie: a diffusers folder, or a published single file.

    Attributes:
        path: folder or file.
        config: for a single file, a diffusers folder whose ``config.json`` files hold; None for SVD's.
    """

    path: Path
    config: Path | None = None

    def __post_init__(self) -> None:
        if not self.path.exists():
            raise WeightsNotFound(
                f"--weights takes a local diffusers folder or a published .safetensors file; there is no {self.path}. "
                "To try the pipeline without any weights: --backbone svd-tiny."
            )
        if self.path.is_file() and self.path.suffix != ".safetensors":
            raise WeightsError(f"Only safetensors are read, never a pickle; {self.path} is another file.")

    @property
    def what(self) -> str:
        """What it is called in messages."""
        return str(self.path)

    def part_config(self, part: str) -> Mapping[str, Any]:
        """Configuration of ``unet``, ``vae`` or ``image_encoder``."""
        if self.path.is_file() and self.config is None:
            return SVD_CONFIGS[part]
        return _read_config((self.config or self.path) / part)

    def tensors(self, part: str, module: nn.Module, half: bool, unused: tuple[str, ...]) -> dict[str, Tensor]:
        """Tensors of a part by diffusers' name, without those that are not used."""
        if self.path.is_file():
            blocks = self.part_config("unet").get("layers_per_block", 2)
            return read_part(self.path, part, unused, blocks)
        stem = "model" if part == "image_encoder" else "diffusion_pytorch_model"
        files = tensor_files(self.path / part, stem, half)
        return read_tensors(files, lambda name: not name.startswith(unused or ("\0",)))


def load_svd(
    source: WeightsSource | RandomSource,
    *,
    precision: torch.dtype,
    device: torch.device,
    image_encoder: bool,
    vae_precision: torch.dtype = torch.float32,
    decoder: bool = False,
) -> SVDModules:
    """Load the parts that features need.

    Args:
        source: where they lie.
        precision: of the U-Net and the image encoder.
        device: where the modules go.
        image_encoder: whether to load it.
        vae_precision: of the VAE.
        decoder: whether to load the U-Net's up blocks, too: layers 14 and up.

    Raises:
        WeightsNotFound: a part is missing.
        WeightsError: a part's tensors are not those of its configuration.
    """
    digest = hashlib.sha256()
    half = precision != torch.float32
    decoder_digest = hashlib.sha256()
    unused = tuple(name for name in UNUSED_UNET if not (decoder and name == UP_BLOCKS))
    build_unet = UNetSpatioTemporalConditionModel.from_config
    unet = _load(source, "unet", build_unet, unused, half, precision, digest, decoder_digest)
    _set_published_eps(unet)
    vae = _load(source, "vae", AutoencoderKLTemporalDecoder.from_config, UNUSED_VAE, False, vae_precision, digest)
    clip = _load(source, "image_encoder", _build_clip, (), half, precision, digest) if image_encoder else None
    for module in (unet, vae, clip):
        if module is not None:
            module.to(device).eval().requires_grad_(False)
    return SVDModules(unet, vae, clip, digest.hexdigest(), decoder_digest.hexdigest() if decoder else "")


def _load(
    source: WeightsSource | RandomSource,
    part: str,
    build: Callable[[Mapping[str, Any]], nn.Module],
    unused: tuple[str, ...],
    half: bool,
    precision: torch.dtype,
    digest: Any,
    decoder_digest: Any = None,
) -> Any:
    """Make a part of its configuration without spending memory on what is not used, and fill it."""
    with torch.device("meta"):
        module = build(source.part_config(part))
    for prefix in unused:
        setattr(module, prefix.rstrip("."), None)
    tensors = source.tensors(part, module, half, unused)
    hash_tensors(digest, part, {name: t for name, t in tensors.items() if not name.startswith(UP_BLOCKS)})
    if decoder_digest is not None:
        hash_tensors(decoder_digest, part, {name: t for name, t in tensors.items() if name.startswith(UP_BLOCKS)})
    fill(module, {name: tensor.to(precision) for name, tensor in tensors.items()}, f"{part} of {source.what}")
    return module


def _build_clip(config: Mapping[str, Any]) -> nn.Module:
    model = CLIPVisionModelWithProjection(CLIPVisionConfig.from_dict(dict(config)))
    # The only buffer that no file holds: on the meta device it would stay empty.
    for module in model.modules():
        if "position_ids" in module._buffers:
            positions = torch.arange(module._buffers["position_ids"].shape[-1], device="cpu")
            module._buffers["position_ids"] = positions[None]
    return model


def _set_published_eps(unet: nn.Module) -> None:
    for name, module in unet.named_modules():
        if isinstance(module, nn.GroupNorm) and "res_block.norm" in name:
            module.eps = RESIDUAL_NORM_EPS


def _read_config(folder: Path) -> Mapping[str, Any]:
    path = folder / "config.json"
    return read_json(
        path,
        f"A diffusers folder has unet, vae and image_encoder, each with a config.json; {path} is missing. "
        "Give --weights the folder that holds model_index.json.",
    )
