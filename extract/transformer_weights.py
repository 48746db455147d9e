"""Weights of video transformers: a folder, a file or a seed; the encoder alone is loaded."""

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from actiondiff.extract.errors import WeightsError
from actiondiff.extract.random_weights import random_tensors
from actiondiff.extract.tensors import fill, hash_tensors, read_json, read_tensors, tensor_files
from actiondiff.extract.video_transformer import IMAGENET_DEVIATION, IMAGENET_MEAN

STEM = "model"
PREPROCESSING = ("preprocessor_config.json", "video_preprocessor_config.json")


@dataclass(frozen=True)
class TransformerWeights:
    """Where a video transformer's weights come from.

    Attributes:
        path: a folder with ``config.json`` and ``model.safetensors`` (or its shards), or a file; None draws them.
        config_folder: a folder whose ``config.json`` holds, instead of the one beside the weights.
        seed: of random weights, where ``path`` is None.
    """

    path: Path | None
    config_folder: Path | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if self.path and self.path.is_file() and self.path.suffix != ".safetensors":
            raise WeightsError(f"Only safetensors are read, never a pickle; {self.path} is another file.")

    @property
    def what(self) -> str:
        """What they are called in messages."""
        return str(self.path) if self.path else f"random weights {self.seed}"

    def config(self, built_in: Mapping[str, Any]) -> Mapping[str, Any]:
        """The architecture: of the folder, or the built-in one where there is none.

        Raises:
            WeightsNotFound, WeightsError: no ``config.json``, or one that is no JSON object.
        """
        folder = self._folder()
        bare_file = self.config_folder is None and self.path is not None and self.path.is_file()
        if folder is None or (bare_file and not (folder / "config.json").is_file()):
            return built_in
        return read_json(
            folder / "config.json",
            f"A weights folder has config.json and {STEM}.safetensors; {folder / 'config.json'} is missing.",
        )

    def normalisation(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Mean and deviation of the colours: those that lie beside the weights, else ImageNet's.

        Raises:
            WeightsError: not three numbers each.
        """
        folder = self._folder()
        for path in [folder / name for name in PREPROCESSING] if folder else []:
            if path.is_file():
                document = read_json(path, "")
                mean = tuple(document.get("image_mean", IMAGENET_MEAN))
                deviation = tuple(document.get("image_std", IMAGENET_DEVIATION))
                if len(mean) != 3 or len(deviation) != 3 or not all(value > 0 for value in deviation):
                    raise WeightsError(f"{path} gives no mean and deviation of three colours: {mean}, {deviation}.")
                return mean, deviation
        return IMAGENET_MEAN, IMAGENET_DEVIATION

    def _folder(self) -> Path | None:
        if self.config_folder or self.path is None:
            return self.config_folder
        return self.path.parent if self.path.is_file() else self.path


def load_encoder(
    encoder: nn.Module,
    weights: TransformerWeights,
    rename: Callable[[Mapping[str, Tensor]], Mapping[str, Tensor]],
    wanted: tuple[str, ...],
    identity: Mapping[str, Any],
    precision: torch.dtype,
    device: torch.device,
) -> str:
    """Fill an encoder made on the meta device, and hash what it was filled with.

    Args:
        encoder: without the parts that features do not need.
        weights: where its tensors come from.
        rename: published names to the encoder's.
        wanted: beginnings of the published names that are read; the rest (heads, decoders) is not.
        identity: what the shapes of tensors do not tell, such as the number of heads.
        precision: of the arithmetic.
        device: where it goes.

    Returns:
        The hash of tensors and identity.

    Raises:
        WeightsNotFound, WeightsError: not there, or not those of the encoder's configuration.
    """
    if weights.path is None:
        tensors: Mapping[str, Tensor] = random_tensors(encoder, weights.seed, "encoder")
    else:
        half = precision != torch.float32
        files = [weights.path] if weights.path.is_file() else tensor_files(weights.path, STEM, half)
        tensors = rename(read_tensors(files, lambda name: name.startswith(wanted)))
    digest = hashlib.sha256(json.dumps(identity, sort_keys=True).encode())
    hash_tensors(digest, "encoder", tensors)
    fill(encoder, {name: tensor.to(precision) for name, tensor in tensors.items()}, f"the encoder of {weights.what}")
    encoder.to(device).eval().requires_grad_(False)
    return digest.hexdigest()
