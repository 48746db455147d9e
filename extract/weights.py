"""Weights: a diffusers folder, local or from the hub, or a published file; only the parts in use are loaded."""

import hashlib
import json
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKLTemporalDecoder, UNetSpatioTemporalConditionModel
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn
from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

from actiondiff.extract.errors import WeightsError, WeightsNotFound
from actiondiff.extract.single_file import SVD_CONFIGS, read_part

UNUSED_UNET = ("up_blocks.", "conv_norm_out.", "conv_out.")
"""The half of the U-Net that denoises; features come from the other half (670 M of 1,525 M parameters)."""

UNUSED_VAE = ("decoder.",)

RESIDUAL_NORM_EPS = 1e-5
"""Of the published U-Net's residual blocks. diffusers builds those of levels 0 to 2 with 1e-6, which moves features
by up to 3 % where activations are flat (black padding, no conditioning)."""


@dataclass(frozen=True)
class SVDModules:
    """The parts of Stable Video Diffusion that features need, without the denoising half.

    Attributes:
        unet: without up blocks.
        vae: without decoder, in float32: in float16 it gives NaN.
        image_encoder: None where nothing is conditioned on images.
        weights_sha256: of every tensor loaded; the same tensors in another packaging have the same hash.
    """

    unet: UNetSpatioTemporalConditionModel
    vae: AutoencoderKLTemporalDecoder
    image_encoder: CLIPVisionModelWithProjection | None
    weights_sha256: str


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

    def part_config(self, part: str) -> Mapping[str, Any]:
        """Configuration of ``unet``, ``vae`` or ``image_encoder``."""
        if self.path.is_file() and self.config is None:
            return SVD_CONFIGS[part]
        return _read_config((self.config or self.path) / part)

    def tensors(self, part: str, half: bool, unused: tuple[str, ...]) -> dict[str, Tensor]:
        """Tensors of a part by diffusers' name, without those that are not used."""
        if self.path.is_file():
            blocks = self.part_config("unet").get("layers_per_block", 2)
            return read_part(self.path, part, unused, blocks)
        stem = "model" if part == "image_encoder" else "diffusion_pytorch_model"
        tensors: dict[str, Tensor] = {}
        for path in _files(self.path / part, stem, half):
            try:
                with safe_open(path, framework="pt") as file:
                    names = [name for name in file.keys() if not name.startswith(unused or ("\0",))]  # noqa: SIM118
                    tensors |= {name: file.get_tensor(name) for name in names}
            except SafetensorError as error:
                raise WeightsError(f"{path} is not a whole safetensors file: {error}. Fetch it again.") from error
        return tensors


def load_svd(source: WeightsSource, *, precision: torch.dtype, device: torch.device, image_encoder: bool) -> SVDModules:
    """Load the parts that features need.

    Args:
        source: where they lie.
        precision: of the U-Net and the image encoder.
        device: where the modules go.
        image_encoder: whether to load it.

    Raises:
        WeightsNotFound: a part is missing.
        WeightsError: a part's tensors are not those of its configuration.
    """
    digest = hashlib.sha256()
    half = precision != torch.float32
    unet = _load(source, "unet", UNetSpatioTemporalConditionModel.from_config, UNUSED_UNET, half, precision, digest)
    _set_published_eps(unet)
    vae = _load(source, "vae", AutoencoderKLTemporalDecoder.from_config, UNUSED_VAE, False, torch.float32, digest)
    clip = _load(source, "image_encoder", _build_clip, (), half, precision, digest) if image_encoder else None
    for module in (unet, vae, clip):
        if module is not None:
            module.to(device).eval().requires_grad_(False)
    return SVDModules(unet, vae, clip, digest.hexdigest())


def _load(
    source: WeightsSource,
    part: str,
    build: Callable[[Mapping[str, Any]], nn.Module],
    unused: tuple[str, ...],
    half: bool,
    precision: torch.dtype,
    digest: Any,
) -> Any:
    """Make a part of its configuration without spending memory on what is not used, and fill it."""
    with torch.device("meta"):
        module = build(source.part_config(part))
    for prefix in unused:
        setattr(module, prefix.rstrip("."), None)
    tensors = source.tensors(part, half, unused)
    for name in sorted(tensors):
        _hash_tensor(digest, f"{part}.{name}", tensors[name])
    _fill(module, {name: tensor.to(precision) for name, tensor in tensors.items()}, f"{part} of {source.path}")
    return module


def _fill(module: nn.Module, tensors: dict[str, Tensor], what: str) -> None:
    try:
        result = module.load_state_dict(tensors, strict=False, assign=True)
    except RuntimeError as error:
        raise WeightsError(f"The tensors of {what} do not fit its configuration: {error}") from error
    if result.missing_keys or result.unexpected_keys:
        raise WeightsError(
            f"The tensors of {what} are not those of its configuration: {len(result.missing_keys)} missing "
            f"{result.missing_keys[:3]}, {len(result.unexpected_keys)} unexpected {result.unexpected_keys[:3]}."
        )


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
    if not path.is_file():
        raise WeightsNotFound(
            f"A diffusers folder has unet, vae and image_encoder, each with a config.json; {path} is missing. "
            "Give --weights the folder that holds model_index.json."
        )
    try:
        return json.loads(path.read_text())
    except ValueError as error:
        raise WeightsError(f"{path} is not JSON: {error}.") from error


def _hash_tensor(digest: Any, name: str, tensor: Tensor) -> None:
    shape = tuple(tensor.shape)
    digest.update(f"{name}\0{tensor.dtype}\0{shape}\0".encode() + struct.pack("<Q", tensor.numel()))
    digest.update(tensor.contiguous().reshape(-1).view(torch.uint8).numpy())


def _files(folder: Path, stem: str, half: bool) -> list[Path]:
    """The safetensors of a part: one file or several, the float16 variant where half precision is asked for."""
    whole = [*folder.glob(f"{stem}.safetensors"), *sorted(folder.glob(f"{stem}-*-of-*.safetensors"))]
    halved = [*folder.glob(f"{stem}.fp16.safetensors"), *sorted(folder.glob(f"{stem}.fp16-*-of-*.safetensors"))]
    found = (halved or whole) if half else (whole or halved)
    if not found:
        raise WeightsNotFound(f"There is no {stem}.safetensors in {folder}; pickled weights (.bin) are never read.")
    return found


def fetch_from_hub(hub_id: str, *, half: bool, image_encoder: bool) -> Path:
    """The folder of a hub repository, downloaded if it is not cached: only the files in use.

    Raises:
        WeightsNotFound: not cached and not to be had, with what to do about it.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, LocalEntryNotFoundError, RepositoryNotFoundError

    parts = ["unet", "vae"] + ["image_encoder"] * image_encoder
    patterns = [f"{part}/config.json" for part in parts] + [
        f"{part}/*.fp16.safetensors" if half and part != "vae" else f"{part}/*[a-z].safetensors" for part in parts
    ]
    ignored = [] if half else ["*.fp16.safetensors"]
    try:
        return Path(snapshot_download(hub_id, allow_patterns=[*patterns, "model_index.json"], ignore_patterns=ignored))
    except (GatedRepoError, RepositoryNotFoundError) as error:
        raise WeightsNotFound(
            f"The hub does not give out {hub_id}. Accept its licence at the page of {hub_id}, log in with "
            "`hf auth login` and run again; or give a local folder with --weights. To try the pipeline without "
            "any download: --backbone svd-tiny."
        ) from error
    except (LocalEntryNotFoundError, HfHubHTTPError, OSError) as error:
        raise WeightsNotFound(
            f"The weights of {hub_id} are neither in the local cache nor could they be fetched from the hub "
            f"({type(error).__name__}). Give a local folder with --weights, or go online; to try the pipeline "
            "without any download: --backbone svd-tiny."
        ) from error
