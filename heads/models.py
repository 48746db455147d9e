"""The heads: features of a video's frames in, one logit a class out, padding without effect.

Axes: B batch, F frames, T tokens (class token and frames), C channels, K classes.
"""

# ruff: noqa: N803, N806, N815 - letters in names say the axes

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32
from torch import Tensor, nn

from actiondiff import InputError

HeadKind = Literal["linear", "mlp", "transformer"]


@dataclass(frozen=True)
class HeadConfig:
    """Everything that decides a head's shape.

    Attributes:
        kind: ``linear``, ``mlp`` or ``transformer``.
        channels: of the features.
        classes: number of logits.
        max_length: frames of a video that are used, from its first.
        layers: encoder layers of the transformer.
        attention_heads: of each of them; they divide the channels.
        dropout: inside the transformer's layers and the MLP.
        hidden: width of the MLP's hidden layer.
        standardize: whether inputs are brought to mean 0 and deviation 1, channel by channel.
    """

    kind: str
    channels: int
    classes: int
    max_length: int
    layers: int = 6
    attention_heads: int = 8
    dropout: float = 0.1
    hidden: int = 512
    standardize: bool = False

    def __post_init__(self) -> None:
        if self.kind not in HEADS:
            raise InputError(f"A head is one of {', '.join(HEADS)}; got {self.kind!r}.")
        sizes = ("channels", "classes", "max_length", "layers", "attention_heads", "hidden")
        if wrong := {name: getattr(self, name) for name in sizes if getattr(self, name) < 1}:
            raise InputError(f"Sizes of a head are 1 or more; got {wrong}.")
        if not 0 <= self.dropout < 1:
            raise InputError(f"Dropout is at least 0 and below 1; got {self.dropout}.")
        if self.kind == "transformer" and self.channels % self.attention_heads:
            raise InputError(
                f"A transformer head's attention heads divide the channels of the features; got {self.attention_heads} "
                f"heads for {self.channels} channels. Choose another number of attention heads, or --head mlp."
            )

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "HeadConfig":
        """The config that a run's ``config.json`` holds; settings that this version does not know are refused."""
        if unknown := sorted(values.keys() - {field.name for field in fields(cls)}):
            raise InputError(f"This version knows no head setting {', '.join(unknown)}; a newer one wrote this run.")
        return cls(**values)


class Standardize(nn.Module):
    """Channels brought to mean 0 and deviation 1, by numbers taken from the training features."""

    mean_C: Tensor
    std_C: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.register_buffer("mean_C", torch.zeros(channels))
        self.register_buffer("std_C", torch.ones(channels))

    def measure(self, features: Sequence[Float32[np.ndarray, "_ channels"]]) -> None:
        """Take mean and deviation over all frames of these videos; channels that never change keep deviation 1."""
        frames = sum(len(array) for array in features)
        mean = sum(array.sum(axis=0, dtype=np.float64) for array in features) / frames
        square = sum(np.square(array - mean).sum(axis=0, dtype=np.float64) for array in features) / frames
        std = np.sqrt(square)
        constant = std <= 1e-6 * np.maximum(np.abs(mean), 1e-6)
        self.mean_C.copy_(torch.from_numpy(np.asarray(mean)))
        self.std_C.copy_(torch.from_numpy(np.where(constant, 1.0, std)))

    def forward(self, features_BFC: Float[Tensor, "batch frames channels"]) -> Float[Tensor, "batch frames channels"]:
        """Standardised features."""
        return (features_BFC - self.mean_C) / self.std_C


class Head(nn.Module):
    """What all heads share: the cut at ``max_length``, standardisation, and silence behind the mask."""

    def __init__(self, config: HeadConfig) -> None:
        super().__init__()
        self.config = config
        self.standardize = Standardize(config.channels) if config.standardize else None

    def forward(
        self, features_BFC: Float[Tensor, "batch frames channels"], mask_BF: Bool[Tensor, "batch frames"]
    ) -> Float[Tensor, "batch classes"]:
        """Logits of each video.

        Args:
            features_BFC: padded features; what stands behind the mask has no effect.
            mask_BF: True on real frames.

        Raises:
            InputError: where the features' channels are not the head's.
        """
        return self.logits(*self.prepare(features_BFC, mask_BF))

    def prepare(
        self, features_BFC: Float[Tensor, "batch frames channels"], mask_BF: Bool[Tensor, "batch frames"]
    ) -> tuple[Float[Tensor, "batch used channels"], Bool[Tensor, "batch used"]]:
        """Features cut, standardised and zero behind the mask, as :meth:`logits` wants them; MixUp comes after this."""
        if features_BFC.shape[-1] != self.config.channels:
            came = features_BFC.shape[-1]
            raise InputError(f"This head takes features of {self.config.channels} channels; got {came}.")
        x_BFC, mask_BF = features_BFC[:, : self.config.max_length], mask_BF[:, : self.config.max_length]
        if self.standardize is not None:
            x_BFC = self.standardize(x_BFC)
        return x_BFC.masked_fill(~mask_BF[..., None], 0.0), mask_BF

    def logits(
        self, x_BFC: Float[Tensor, "batch frames channels"], mask_BF: Bool[Tensor, "batch frames"]
    ) -> Float[Tensor, "batch classes"]:
        """Logits from prepared features."""
        raise NotImplementedError


class LinearHead(Head):
    """One linear map of all frames, one after another, zeros where a video is shorter than ``max_length``."""

    def __init__(self, config: HeadConfig) -> None:
        super().__init__(config)
        self.classifier = nn.Linear(config.max_length * config.channels, config.classes)

    def logits(
        self, x_BFC: Float[Tensor, "batch frames channels"], mask_BF: Bool[Tensor, "batch frames"]
    ) -> Float[Tensor, "batch classes"]:
        """As :meth:`Head.logits`."""
        return self.classifier(concatenate(x_BFC, self.config.max_length))


class MLPHead(Head):
    """The same frames through one hidden layer."""

    def __init__(self, config: HeadConfig) -> None:
        super().__init__(config)
        self.hidden = nn.Linear(config.max_length * config.channels, config.hidden)
        self.dropout = nn.Dropout(config.dropout)
        self.classifier = nn.Linear(config.hidden, config.classes)

    def logits(
        self, x_BFC: Float[Tensor, "batch frames channels"], mask_BF: Bool[Tensor, "batch frames"]
    ) -> Float[Tensor, "batch classes"]:
        """As :meth:`Head.logits`."""
        hidden = torch.relu(self.hidden(concatenate(x_BFC, self.config.max_length)))
        return self.classifier(self.dropout(hidden))


class TransformerHead(Head):
    """The paper's head: a class token reads the frames through a post-norm transformer encoder."""

    def __init__(self, config: HeadConfig) -> None:
        super().__init__(config)
        width = config.channels
        self.positions_TC: Tensor
        self.cls_token = nn.Parameter(0.02 * torch.randn(1, 1, width))
        self.register_buffer("positions_TC", sinusoidal_positions(config.max_length + 1, width), persistent=False)
        layers = [
            nn.TransformerEncoderLayer(width, config.attention_heads, 3 * width, config.dropout, batch_first=True)
            for _ in range(config.layers)
        ]
        self.encoder = nn.TransformerEncoder(layers[0], 1, nn.LayerNorm(width), enable_nested_tensor=False)
        self.encoder.layers = nn.ModuleList(layers)  # left to itself it would fill up with copies of one layer
        self.encoder.num_layers = config.layers
        self.classifier = nn.Linear(width, config.classes)

    def logits(
        self, x_BFC: Float[Tensor, "batch frames channels"], mask_BF: Bool[Tensor, "batch frames"]
    ) -> Float[Tensor, "batch classes"]:
        """As :meth:`Head.logits`."""
        tokens_BTC = torch.cat([self.cls_token.expand(len(x_BFC), -1, -1), x_BFC], dim=1)
        padding_BT = torch.cat([torch.zeros_like(mask_BF[:, :1]), ~mask_BF], dim=1)
        encoded_BTC = self.encoder(
            tokens_BTC + self.positions_TC[: tokens_BTC.shape[1]], src_key_padding_mask=padding_BT
        )
        return self.classifier(encoded_BTC[:, 0])


HEADS: dict[str, type[Head]] = {"linear": LinearHead, "mlp": MLPHead, "transformer": TransformerHead}


def build_head(config: HeadConfig) -> Head:
    """A head of this config with fresh weights from torch's global generator."""
    return HEADS[config.kind](config)


def concatenate(
    x_BFC: Float[Tensor, "batch frames channels"], max_length: int
) -> Float[Tensor, "batch max_length_times_channels"]:
    """Frames one after another, zeros up to ``max_length``, whatever the batch was padded to."""
    return nn.functional.pad(x_BFC, (0, 0, 0, max_length - x_BFC.shape[1])).flatten(1)


def sinusoidal_positions(tokens: int, width: int) -> Float[Tensor, "tokens width"]:
    """Sine in even channels, cosine in odd ones, wavelengths from 2 pi to 10,000 x 2 pi (Vaswani et al., 3.5)."""
    position_T1 = torch.arange(tokens)[:, None]
    rate_H = torch.exp(torch.arange(0, width, 2) * (-math.log(10_000.0) / width))
    table = torch.zeros(tokens, width)
    table[:, 0::2] = torch.sin(position_T1 * rate_H)
    table[:, 1::2] = torch.cos(position_T1 * rate_H)[:, : width // 2]
    return table
