"""Weights: a diffusers folder, local or from the hub, of which only the parts in use are loaded."""

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
from transformers import CLIPVisionModelWithProjection
from transformers.utils import logging as transformers_logging

from actiondiff.extract.errors import WeightsError, WeightsNotFound

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


def load_svd(folder: Path, *, precision: torch.dtype, device: torch.device, image_encoder: bool) -> SVDModules:
    """Load from a diffusers folder.

    Args:
        folder: with ``unet``, ``vae`` and ``image_encoder``, each with ``config.json`` and safetensors.
        precision: of the U-Net and the image encoder.
        device: where the modules go.
        image_encoder: whether to load it.

    Raises:
        WeightsNotFound: a part is missing.
        WeightsError: a part's tensors are not those of its configuration.
    """
    half = precision != torch.float32
    digest = hashlib.sha256()
    unet_tensors = _tensors(folder / "unet", "diffusion_pytorch_model", half, UNUSED_UNET, digest)
    unet = _module(folder / "unet", UNetSpatioTemporalConditionModel.from_config, UNUSED_UNET, unet_tensors, precision)
    _set_published_eps(unet)
    vae_tensors = _tensors(folder / "vae", "diffusion_pytorch_model", False, UNUSED_VAE, digest)
    vae = _module(folder / "vae", AutoencoderKLTemporalDecoder.from_config, UNUSED_VAE, vae_tensors, torch.float32)
    clip = _load_clip(folder / "image_encoder", precision, digest) if image_encoder else None
    for module in (unet, vae, clip):
        if module is not None:
            module.to(device).eval().requires_grad_(False)
    return SVDModules(unet, vae, clip, digest.hexdigest())


def _set_published_eps(unet: nn.Module) -> None:
    for name, module in unet.named_modules():
        if isinstance(module, nn.GroupNorm) and "res_block.norm" in name:
            module.eps = RESIDUAL_NORM_EPS


def _load_clip(folder: Path, precision: torch.dtype, digest: Any) -> CLIPVisionModelWithProjection:
    half = precision != torch.float32
    _tensors(folder, "model", half, (), digest)
    transformers_logging.disable_progress_bar()
    variant = "fp16" if half and (folder / "model.fp16.safetensors").is_file() else None
    return CLIPVisionModelWithProjection.from_pretrained(
        folder, use_safetensors=True, local_files_only=True, variant=variant, dtype=precision
    )


def _module(
    folder: Path,
    build: Callable[[Mapping[str, Any]], nn.Module],
    unused: tuple[str, ...],
    tensors: dict[str, Tensor],
    precision: torch.dtype,
) -> Any:
    """Make a module of its configuration without spending memory on the parts that are not used."""
    tensors = {name: tensor.to(precision) for name, tensor in tensors.items()}
    with torch.device("meta"):
        module = build(_config(folder))
    for prefix in unused:
        setattr(module, prefix.rstrip("."), None)
    try:
        result = module.load_state_dict(tensors, strict=False, assign=True)
    except RuntimeError as error:
        raise WeightsError(f"The tensors in {folder} do not fit its config.json: {error}") from error
    if result.missing_keys or result.unexpected_keys:
        raise WeightsError(
            f"The tensors in {folder} are not those of its config.json: {len(result.missing_keys)} missing "
            f"{result.missing_keys[:3]}, {len(result.unexpected_keys)} unexpected {result.unexpected_keys[:3]}."
        )
    return module


def _config(folder: Path) -> Mapping[str, Any]:
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


def _tensors(folder: Path, stem: str, half: bool, unused: tuple[str, ...], digest: Any) -> dict[str, Tensor]:
    """Read a part's tensors by name, in order of name, and add them to the hash."""
    tensors: dict[str, Tensor] = {}
    for path in _files(folder, stem, half):
        try:
            with safe_open(path, framework="pt") as file:
                names = [name for name in file.keys() if not name.startswith(unused or ("\0",))]  # noqa: SIM118
                tensors |= {name: file.get_tensor(name) for name in names}
        except SafetensorError as error:
            raise WeightsError(f"{path} is not a whole safetensors file: {error}. Fetch it again.") from error
    for name in sorted(tensors):
        _hash_tensor(digest, f"{folder.name}.{name}", tensors[name])
    return tensors


def _hash_tensor(digest: Any, name: str, tensor: Tensor) -> None:
    shape = tuple(tensor.shape)
    digest.update(f"{name}\0{tensor.dtype}\0{shape}\0".encode() + struct.pack("<Q", tensor.numel()))
    digest.update(tensor.contiguous().reshape(-1).view(torch.uint8).numpy())


def _files(folder: Path, stem: str, half: bool) -> list[Path]:
    """The safetensors of a part: one file or several, the float16 variant where half precision is asked for."""
    _config(folder)
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
