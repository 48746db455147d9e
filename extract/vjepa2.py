"""V-JEPA 2 (transformers' classes): the encoder, whose rotary positions go with any number of frames.

Assran et al. 2025.
"""

import re
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from actiondiff import InputError
from actiondiff.extract.errors import WeightsError
from actiondiff.extract.recipe import Recipe
from actiondiff.extract.transformer_weights import TransformerWeights, load_encoder
from actiondiff.extract.video_transformer import VideoTransformer

VJEPA2_CONFIG: Mapping[str, Any] = {
    "model_type": "vjepa2",
    "crop_size": 256,
    "patch_size": 16,
    "in_chans": 3,
    "tubelet_size": 2,
    "hidden_size": 1024,
    "num_hidden_layers": 24,
    "num_attention_heads": 16,
    "mlp_ratio": 4.0,
    "hidden_act": "gelu",
    "layer_norm_eps": 1e-6,
    "qkv_bias": True,
}
"""ViT-L, as published with the 256-pixel weights."""

_IDENTITY = ("num_attention_heads", "tubelet_size", "patch_size", "hidden_act", "layer_norm_eps")
_WANTED = ("encoder.embeddings.", "encoder.layer.", "vjepa2.encoder.embeddings.", "vjepa2.encoder.layer.")


def load_vjepa2(
    weights: TransformerWeights, recipe: Recipe, precision: torch.dtype, device: torch.device
) -> VideoTransformer:
    """Load V-JEPA 2's embedding and blocks; the predictor, the last norm and any classifier are not loaded.

    Args:
        weights: where they come from.
        recipe: frame size, which the positions are computed for.
        precision: of the arithmetic.
        device: where the network goes.

    Raises:
        InputError: frames that are not square.
        WeightsNotFound, WeightsError: not there, or not V-JEPA 2's.
    """
    from transformers import VJEPA2Config, VJEPA2Model

    height, width = recipe.size_hw
    if height != width:
        raise InputError(
            f"V-JEPA 2 in transformers counts positions on a square: --size 256x256; got {height}x{width}."
        )
    published = _config(weights.config(VJEPA2_CONFIG), weights.what)
    with torch.device("meta"):
        encoder = VJEPA2Model(VJEPA2Config(**{**published, "crop_size": height})).encoder
    encoder.layernorm = None
    mean, deviation = weights.normalisation()
    identity = {name: published[name] for name in _IDENTITY} | {"mean": mean, "deviation": deviation}
    sha256 = load_encoder(encoder, weights, _module_names, _WANTED, identity, precision, device)
    return VideoTransformer(
        module=encoder,
        embed=encoder.embeddings,
        blocks=[_tokens_only(layer) for layer in encoder.layer],
        channels=encoder.config.hidden_size,
        patch=(published["patch_size"], published["patch_size"]),
        tubelet=published["tubelet_size"],
        weights_sha256=sha256,
        mean=mean,
        deviation=deviation,
    )


def _tokens_only(layer: Any) -> Callable[[Tensor], Tensor]:
    return lambda tokens: layer(tokens, None)[0]


def _config(document: Mapping[str, Any], what: str) -> dict[str, Any]:
    if document.get("model_type", "vjepa2") != "vjepa2":
        raise WeightsError(f"{what} is a {document['model_type']!r} by its config.json, not V-JEPA 2.")
    config = {name: document.get(name, default) for name, default in VJEPA2_CONFIG.items()}
    del config["model_type"]
    return config


def _module_names(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {re.sub(r"^(vjepa2\.)?encoder\.", "", name): tensor for name, tensor in tensors.items()}
