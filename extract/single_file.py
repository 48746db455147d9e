"""The published single files (``svd.safetensors``, ``svd_xt.safetensors``): their key names to those of diffusers.

The files are laid out for the training code: U-Net, VAE and CLIP side by side, CLIP's attention packed, the VAE's as
1 x 1 convolutions. Which head counts an architecture has cannot be read from tensor shapes, so a file implies SVD's
configuration unless another is given.
"""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from actiondiff.extract.errors import WeightsError
from actiondiff.extract.tensors import key_report

PREFIXES = {
    "unet": "model.diffusion_model.",
    "vae": "first_stage_model.",
    "image_encoder": "conditioner.embedders.0.open_clip.model.visual.",
}
"""Where each part's keys begin; the file's text encoder and conditioners without weights are not used."""

_ATTENTION_BLOCK = "CrossAttnDownBlockSpatioTemporal"
SVD_CONFIGS: Mapping[str, Mapping[str, Any]] = {
    "unet": {
        "in_channels": 8,
        "out_channels": 4,
        "down_block_types": [_ATTENTION_BLOCK] * 3 + ["DownBlockSpatioTemporal"],
        "up_block_types": ["UpBlockSpatioTemporal"] + ["CrossAttnUpBlockSpatioTemporal"] * 3,
        "block_out_channels": [320, 640, 1280, 1280],
        "addition_time_embed_dim": 256,
        "projection_class_embeddings_input_dim": 768,
        "layers_per_block": 2,
        "cross_attention_dim": 1024,
        "transformer_layers_per_block": 1,
        "num_attention_heads": [5, 10, 20, 20],
        "num_frames": 25,
    },
    "vae": {
        "in_channels": 3,
        "out_channels": 3,
        "down_block_types": ["DownEncoderBlock2D"] * 4,
        "block_out_channels": [128, 256, 512, 512],
        "layers_per_block": 2,
        "latent_channels": 4,
    },
    "image_encoder": {
        "hidden_size": 1280,
        "intermediate_size": 5120,
        "num_hidden_layers": 32,
        "num_attention_heads": 16,
        "patch_size": 14,
        "image_size": 224,
        "projection_dim": 1024,
        "hidden_act": "gelu",
    },
}

_RESIDUAL = {
    "in_layers.0": "norm1",
    "in_layers.2": "conv1",
    "emb_layers.1": "time_emb_proj",
    "out_layers.0": "norm2",
    "out_layers.3": "conv2",
    "skip_connection": "conv_shortcut",
}
_VAE = (
    (r"encoder\.down\.(\d+)\.block\.", r"encoder.down_blocks.\1.resnets."),
    (r"encoder\.down\.(\d+)\.downsample\.", r"encoder.down_blocks.\1.downsamplers.0."),
    (r"encoder\.mid\.block_1\.", "encoder.mid_block.resnets.0."),
    (r"encoder\.mid\.block_2\.", "encoder.mid_block.resnets.1."),
    (r"encoder\.mid\.attn_1\.norm\.", "encoder.mid_block.attentions.0.group_norm."),
    (r"encoder\.mid\.attn_1\.([qkv])\.", r"encoder.mid_block.attentions.0.to_\1."),
    (r"encoder\.mid\.attn_1\.proj_out\.", "encoder.mid_block.attentions.0.to_out.0."),
    (r"encoder\.norm_out\.", "encoder.conv_norm_out."),
    (r"nin_shortcut", "conv_shortcut"),
)
_CLIP = (
    (r"^class_embedding$", "vision_model.embeddings.class_embedding"),
    (r"^conv1\.weight$", "vision_model.embeddings.patch_embedding.weight"),
    (r"^positional_embedding$", "vision_model.embeddings.position_embedding.weight"),
    (r"^ln_pre\.", "vision_model.pre_layrnorm."),  # the spelling is that of transformers
    (r"^ln_post\.", "vision_model.post_layernorm."),
    (r"^proj$", "visual_projection.weight"),
    (r"^transformer\.resblocks\.", "vision_model.encoder.layers."),
    (r"\.ln_(\d)\.", r".layer_norm\1."),
    (r"\.mlp\.c_fc\.", ".mlp.fc1."),
    (r"\.mlp\.c_proj\.", ".mlp.fc2."),
    (r"\.attn\.", ".self_attn."),
)


def read_part(path: Path, part: str, unused: tuple[str, ...], layers_per_block: int = 2) -> dict[str, Tensor]:
    """Tensors of one part under diffusers' names.

    Args:
        path: the file.
        part: ``unet``, ``vae`` or ``image_encoder``.
        unused: beginnings of diffusers names that are not wanted, and not read.
        layers_per_block: of the U-Net, which its block numbers count in.

    Raises:
        WeightsError: not a whole safetensors file, or without this part.
    """
    tensors: dict[str, Tensor] = {}
    strange: list[str] = []
    try:
        with safe_open(path, framework="pt") as file:
            for key in (key for key in file.keys() if key.startswith(PREFIXES[part])):  # noqa: SIM118
                try:
                    name = _diffusers_name(key.removeprefix(PREFIXES[part]), part, layers_per_block)
                except (KeyError, ValueError, IndexError):
                    strange.append(key)
                    continue
                if not name.startswith(unused or ("\0",)):
                    tensors.update(_unpacked(name, file.get_tensor(key)))
    except SafetensorError as error:
        raise WeightsError(f"{path} is not a whole safetensors file: {error}. Fetch it again.") from error
    if strange:
        raise WeightsError(key_report(f"{part} in {path}", [], strange))
    if not tensors:
        raise WeightsError(f"{path} has no keys that begin with {PREFIXES[part]}: it is no published SVD file.")
    if part == "vae" and "quant_conv.weight" not in tensors:
        tensors |= _identity_quantiser(tensors["encoder.conv_out.weight"])
    return tensors


def _diffusers_name(name: str, part: str, layers_per_block: int) -> str:
    if part == "unet":
        return _unet_name(name, layers_per_block)
    for pattern, replacement in _VAE if part == "vae" else _CLIP:
        name = re.sub(pattern, replacement, name)
    return name


def _unet_name(name: str, layers_per_block: int) -> str:
    head, _, rest = name.partition(".")
    if head in ("time_embed", "label_emb"):
        number, _, kind = rest.removeprefix("0." if head == "label_emb" else "").partition(".")
        stem = "time_embedding" if head == "time_embed" else "add_embedding"
        return f"{stem}.linear_{int(number) // 2 + 1}.{kind}"
    if head == "out":
        return {"0": "conv_norm_out", "2": "conv_out"}[rest[0]] + rest[1:]
    if head == "middle_block":
        number, _, inner = rest.partition(".")
        return "mid_block." + (f"attentions.0.{_attention(inner)}" if number == "1" else
                               f"resnets.{int(number) // 2}.{_residual(inner)}")  # fmt: skip
    block, module, inner = rest.split(".", 2)
    if head == "input_blocks":
        return "conv_in." + inner if block == "0" else _level("down", int(block) - 1, module, inner, layers_per_block)
    return _level("up", int(block), module, inner, layers_per_block)


def _level(way: str, block: int, module: str, inner: str, layers_per_block: int) -> str:
    level, index = divmod(block, layers_per_block + 1)
    stem = f"{way}_blocks.{level}"
    if inner.startswith("op."):
        return f"{stem}.downsamplers.0.conv.{inner.removeprefix('op.')}"
    if module != "0" and inner.startswith("conv."):
        return f"{stem}.upsamplers.0.{inner}"
    return f"{stem}.resnets.{index}.{_residual(inner)}" if module == "0" else (
        f"{stem}.attentions.{index}.{_attention(inner)}")  # fmt: skip


def _residual(inner: str) -> str:
    if inner.startswith("time_mixer."):
        return inner
    path = "temporal_res_block." if inner.startswith("time_stack.") else "spatial_res_block."
    stem, _, kind = inner.removeprefix("time_stack.").rpartition(".")
    return f"{path}{_RESIDUAL[stem]}.{kind}"


def _attention(inner: str) -> str:
    inner = re.sub(r"^time_pos_embed\.([02])", lambda match: f"time_pos_embed.linear_{int(match[1]) // 2 + 1}", inner)
    return re.sub(r"^time_stack\.", "temporal_transformer_blocks.", inner)


def _unpacked(name: str, tensor: Tensor) -> Iterator[tuple[str, Tensor]]:
    """Undo what differs by more than names: packed attention, 1 x 1 convolutions, a transposed projection."""
    if ".self_attn.in_proj_" in name:
        stem, _, kind = name.partition("in_proj_")
        yield from (
            (f"{stem}{letter}_proj.{kind}", piece) for letter, piece in zip("qkv", tensor.chunk(3), strict=True)
        )
    elif name == "visual_projection.weight":
        yield name, tensor.T.contiguous()
    elif "attentions.0.to_" in name and tensor.ndim == 4:
        yield name, tensor[:, :, 0, 0]
    else:
        yield name, tensor


def _identity_quantiser(like: Tensor) -> dict[str, Tensor]:
    """The published files have no quantising convolution; diffusers' folder has one that does nothing."""
    channels = like.shape[0]
    weight = torch.eye(channels, dtype=like.dtype).reshape(channels, channels, 1, 1)
    return {"quant_conv.weight": weight, "quant_conv.bias": torch.zeros(channels, dtype=like.dtype)}
