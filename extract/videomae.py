"""VideoMAE (transformers' classes), and the published V2 weights under their own names, in the same classes.

Tong et al. 2022 and Wang et al. 2023. Position codes are sinusoids, computed for the number of frames and the size at
hand.
"""

import re
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from actiondiff.extract.errors import WeightsError
from actiondiff.extract.recipe import Recipe
from actiondiff.extract.transformer_weights import TransformerWeights, load_encoder
from actiondiff.extract.video_transformer import VideoTransformer

VIDEOMAE_CONFIG: Mapping[str, Any] = {
    "model_type": "videomae",
    "image_size": 224,
    "patch_size": 16,
    "num_channels": 3,
    "num_frames": 16,
    "tubelet_size": 2,
    "hidden_size": 768,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "intermediate_size": 3072,
    "hidden_act": "gelu",
    "layer_norm_eps": 1e-12,
    "qkv_bias": True,
}
"""ViT-B, as published with the base weights."""

_IDENTITY = ("num_attention_heads", "tubelet_size", "patch_size", "hidden_act", "layer_norm_eps")
_WANTED = ("videomae.embeddings.", "videomae.encoder.", "embeddings.", "encoder.layer.",
           "patch_embed.", "blocks.", "model.patch_embed.", "model.blocks.")  # fmt: skip
_V2_NAMES = (
    (r"^patch_embed\.proj\.", "embeddings.patch_embeddings.projection."),
    (r"^blocks\.", "encoder.layer."),
    (r"\.norm1\.", ".layernorm_before."),
    (r"\.norm2\.", ".layernorm_after."),
    (r"\.attn\.proj\.", ".attention.output.dense."),
    (r"\.attn\.", ".attention.attention."),
    (r"\.mlp\.fc1\.", ".intermediate.dense."),
    (r"\.mlp\.fc2\.", ".output.dense."),
)


def load_videomae(
    weights: TransformerWeights, recipe: Recipe, precision: torch.dtype, device: torch.device
) -> VideoTransformer:
    """Load VideoMAE's embedding and blocks; the decoder, the last norm and any classifier are not loaded.

    Args:
        weights: where they come from.
        recipe: frame size and window, which the position codes are computed for.
        precision: of the arithmetic.
        device: where the network goes.

    Raises:
        WeightsNotFound, WeightsError: not there, or not VideoMAE's.
    """
    from transformers import VideoMAEConfig, VideoMAEModel

    published = _config(weights.config(VIDEOMAE_CONFIG), weights.what)
    tubelet = published["tubelet_size"]
    frames = recipe.window + -recipe.window % tubelet
    with torch.device("meta"):
        model = VideoMAEModel(VideoMAEConfig(**{**published, "num_frames": frames, "image_size": list(recipe.size_hw)}))
    model.layernorm = None
    mean, deviation = weights.normalisation()
    identity = {name: published[name] for name in _IDENTITY} | {"mean": mean, "deviation": deviation}
    sha256 = load_encoder(model, weights, _module_names, _WANTED, identity, precision, device)
    return VideoTransformer(
        module=model,
        embed=_embed(model),
        blocks=list(model.encoder.layer),
        channels=model.config.hidden_size,
        patch=(published["patch_size"], published["patch_size"]),
        tubelet=tubelet,
        weights_sha256=sha256,
        mean=mean,
        deviation=deviation,
    )


def _embed(model: Any) -> Callable[[Tensor], Tensor]:
    return lambda frames: model.embeddings(frames, None)


def _config(document: Mapping[str, Any], what: str) -> dict[str, Any]:
    """The fields in use, of transformers' configuration or of V2's own."""
    own = document.get("model_config")
    if isinstance(own, Mapping):
        document = _v2_config(own, what)
    elif document.get("model_type", "videomae") != "videomae":
        raise WeightsError(f"{what} is a {document['model_type']!r} by its config.json, not VideoMAE.")
    config = {name: document.get(name, default) for name, default in VIDEOMAE_CONFIG.items()}
    del config["model_type"]
    return config


def _v2_config(own: Mapping[str, Any], what: str) -> dict[str, Any]:
    if own.get("cos_attn") or own.get("init_values") or own.get("use_learnable_pos_emb"):
        raise WeightsError(
            f"{what} asks for cosine attention, layer scale or learned positions, which transformers' VideoMAE has not."
        )
    return {
        "patch_size": own.get("patch_size", 16),
        "tubelet_size": own.get("tubelet_size", 2),
        "hidden_size": own["embed_dim"],
        "num_hidden_layers": own["depth"],
        "num_attention_heads": own["num_heads"],
        "intermediate_size": int(own["embed_dim"] * own.get("mlp_ratio", 4)),
        "layer_norm_eps": own.get("layer_norm_eps", 1e-6),
        "qkv_bias": own.get("qkv_bias", True),
    }


def _module_names(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Names of the published files to those of the module: with or without a prefix, old biases, V2's own names."""
    renamed: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        name = re.sub(r"^(videomae|model)\.", "", name)
        if name.startswith(("patch_embed.", "blocks.")):
            for pattern, replacement in _V2_NAMES:
                name = re.sub(pattern, replacement, name)
        # As published, query and value biases lie beside the projections; transformers 5 has them inside, and read
        # without this renaming they would be zero and nobody the wiser.
        name = re.sub(r"\.attention\.attention\.([qv])_bias$", _inner_bias, name)
        if name.endswith(".attention.attention.qkv.weight"):
            stem = name.removesuffix("qkv.weight")
            parts = zip(("query", "key", "value"), tensor.chunk(3), strict=True)
            renamed |= {f"{stem}{part}.weight": piece for part, piece in parts}
        else:
            renamed[name] = tensor
    return renamed


def _inner_bias(match: re.Match[str]) -> str:
    return f".attention.attention.{'query' if match[1] == 'q' else 'value'}.bias"
