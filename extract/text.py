"""Text conditioning: OpenCLIP's embeddings of the label names, one cross-attention token a label.

The published code embeds every action name as it stands, takes the projected embedding of its end token, not
normalised, and gives all of them to every frame; so do we.
"""

import dataclasses
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from actiondiff import InputError
from actiondiff.extract.errors import WeightsError
from actiondiff.extract.hub import HubPart
from actiondiff.extract.random_weights import random_tensors
from actiondiff.extract.tensors import fill, hash_tensors, read_json, read_tensors, tensor_files

TEXT_HUB_ID = "laion/CLIP-ViT-H-14-laion2B-s32B-b79K"
"""The OpenCLIP model whose image half Stable Video Diffusion is conditioned on."""

ARCHITECTURE = "ViT-H-14"
STEM = "open_clip_model"
CONFIG = "open_clip_config.json"
TEXT_PART = HubPart("", STEM, config=(CONFIG,))

_TOWER = ("positional_embedding", "text_projection", "token_embedding.", "transformer.", "ln_final.")
_NO_PICTURES = {"layers": 1, "width": 64, "head_width": 64, "patch_size": 16, "image_size": 16}


@dataclass(frozen=True)
class TextWeights:
    """Where a text tower comes from.

    Attributes:
        path: a folder in the hub's layout (``open_clip_model.safetensors``, ``open_clip_config.json``) or a file;
            None draws it.
        seed: of random weights, where ``path`` is None.
        config_folder: where to look for ``open_clip_config.json``, if not beside the weights.
    """

    path: Path | None
    seed: int = 0
    config_folder: Path | None = None

    def __post_init__(self) -> None:
        if self.path and self.path.is_file() and self.path.suffix != ".safetensors":
            raise WeightsError(f"Only safetensors are read, never a pickle; {self.path} is another file.")

    def config(self) -> Mapping[str, Any]:
        """OpenCLIP's configuration of the model: the one beside the weights, else ViT-H/14's."""
        import open_clip

        beside = self.path.parent if self.path and self.path.is_file() else self.path
        for folder in filter(None, (self.config_folder, beside)):
            if (folder / CONFIG).is_file():
                document = read_json(folder / CONFIG, "")
                return document.get("model_cfg", document)
        return open_clip.get_model_config(ARCHITECTURE)

    def tensors(self, tower: nn.Module) -> dict[str, Tensor]:
        """The text tower's tensors, from a file of the tower alone or of the whole model."""
        if self.path is None:
            return random_tensors(tower, self.seed, "text")
        files = [self.path] if self.path.is_file() else tensor_files(self.path, STEM, False)
        found = read_tensors(files, lambda name: name.removeprefix("text.").startswith(_TOWER))
        return {name.removeprefix("text."): tensor for name, tensor in found.items()}


def embed_labels(
    weights: TextWeights, labels: Sequence[str], width: int, device: torch.device
) -> tuple[Float[Tensor, "labels width"], str]:
    """Embed label names, in float32; the text tower is gone again afterwards.

    Args:
        weights: of the text tower.
        labels: as they stand in the manifest.
        width: that the U-Net's cross-attention takes.
        device: where the embeddings go; they are made on the CPU, so that devices agree.

    Returns:
        One token a label, and the hash of the text tower.

    Raises:
        InputError: embeddings of another width.
        WeightsNotFound, WeightsError: not there, or not an OpenCLIP text tower.
    """
    import open_clip

    config = weights.config()
    _check_config(config, width)
    text = config["text_cfg"]
    gelu = bool(config.get("quick_gelu", False))
    with torch.device("meta"):
        model: Any = open_clip.CLIP(config["embed_dim"], _NO_PICTURES, text, quick_gelu=gelu)
    del model.visual, model.logit_scale
    tensors = weights.tensors(model)
    settings = dataclasses.asdict(open_clip.CLIPTextCfg(**text)) | {"quick_gelu": gelu}
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode())
    hash_tensors(digest, "text", tensors)
    fill(model, {n: t.to(torch.float32) for n, t in tensors.items()}, f"the text tower of {weights.path or 'a seed'}")
    places = text.get("context_length", 77)
    if model.attn_mask is not None:  # the one buffer that no file holds: on the meta device it would stay empty
        model.attn_mask = torch.full((places, places), -torch.inf).triu(1)
    tokenizer = open_clip.SimpleTokenizer(context_length=places)
    with torch.inference_mode():
        embeddings = model.eval().encode_text(tokenizer(list(labels)))
    return embeddings.to(device), digest.hexdigest()


def _check_config(config: Mapping[str, Any], width: int) -> None:
    text = config.get("text_cfg")
    if not isinstance(text, Mapping) or "embed_dim" not in config:
        raise WeightsError(f"{CONFIG} has no text_cfg and embed_dim: it is no configuration of OpenCLIP.")
    if text.get("hf_model_name") or text.get("hf_tokenizer_name"):
        raise WeightsError("Only OpenCLIP's own text towers are read, not those it takes from other libraries.")
    if config["embed_dim"] != width:
        raise InputError(
            f"The U-Net's cross-attention takes tokens of width {width}; this text tower gives {config['embed_dim']}. "
            f"Stable Video Diffusion goes with {ARCHITECTURE} (width 1024)."
        )
