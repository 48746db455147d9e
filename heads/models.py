"""The heads: features of a video's frames in, one logit a class out, padding without effect.

Axes: B batch, F frames, T tokens (class token and frames), C channels, K classes.
"""

# ruff: noqa: N803, N806, N815 - letters in names say the axes

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from actiondiff import InputError
from actiondiff.heads.attention import Packing, attend_by_query, encode, encode_first
from actiondiff.heads.frame_linear import FrameLinear
from actiondiff.heads.ragged import Ragged

_ROWS_AT_A_TIME = 4096


@dataclass(frozen=True)
class HeadConfig:
    """Everything that decides a head's shape.

    Attributes:
        kind: ``linear``, ``mlp``, ``transformer`` or ``attentive``.
        channels: of the features.
        classes: number of logits.
        max_length: frames of a video that are used, from its first.
        layers: encoder layers of the transformer.
        attention_heads: of each of them, and of the attentive head; they divide the width.
        dropout: inside every head but the linear one.
        hidden: width of the MLP's hidden layer.
        standardize: whether inputs are brought to mean 0 and deviation 1, channel by channel.
        width: channels that each frame is projected to first, by every head but the linear one; None for no projection.
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
    width: int | None = None

    def __post_init__(self) -> None:
        if self.kind not in HEADS:
            raise InputError(f"A head is one of {', '.join(HEADS)}; got {self.kind!r}.")
        sizes = ("channels", "classes", "max_length", "layers", "attention_heads", "hidden", "inner")
        if wrong := {name: getattr(self, name) for name in sizes if getattr(self, name) < 1}:
            raise InputError(f"Sizes of a head are 1 or more; got {wrong}.")
        if not 0 <= self.dropout < 1:
            raise InputError(f"Dropout is at least 0 and below 1; got {self.dropout}.")
        if self.kind in ("transformer", "attentive") and self.inner % self.attention_heads:
            raise InputError(
                f"Attention heads divide the channels of the features, or the width that these are projected to; got "
                f"{self.attention_heads} heads for {self.inner}. Choose --attention-heads or --width, or --head mlp."
            )

    @property
    def inner(self) -> int:
        """Channels of a frame inside the head."""
        return self.channels if self.width is None or self.kind == "linear" else self.width

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

    def measure(self, features: Sequence[np.ndarray], max_length: int | None = None) -> None:
        """Take mean and deviation over the first ``max_length`` frames of these videos; constant channels get 1."""
        videos = Ragged.of(features)
        numbers = videos.row_numbers(max_length)
        chunks = [numbers[at : at + _ROWS_AT_A_TIME] for at in range(0, len(numbers), _ROWS_AT_A_TIME)]
        mean = np.sum([_summed(videos, chunk) for chunk in chunks], axis=0) / len(numbers)
        square = np.sum([_summed(videos, chunk, mean) for chunk in chunks], axis=0) / len(numbers)
        std = np.sqrt(square)
        constant = std <= 1e-6 * np.maximum(np.abs(mean), 1e-6)
        self.mean_C.copy_(torch.from_numpy(np.asarray(mean)))
        self.std_C.copy_(torch.from_numpy(np.where(constant, 1.0, std)))

    def forward(self, features_C: Float[Tensor, "*any channels"]) -> Float[Tensor, "*any channels"]:
        """Standardised features."""
        return (features_C - self.mean_C) / self.std_C


def _summed(videos: Ragged, numbers: np.ndarray, mean: np.ndarray | None = None) -> np.ndarray:
    """Sum of these rows, or of their squared distances from a mean."""
    rows = np.asarray(videos.rows_RC[numbers], dtype=np.float32)
    return rows.sum(axis=0, dtype=np.float64) if mean is None else np.square(rows - mean).sum(axis=0, dtype=np.float64)


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
        self.classifier = FrameLinear(config.max_length, config.channels, config.classes)

    def logits(
        self, x_BFC: Float[Tensor, "batch frames channels"], mask_BF: Bool[Tensor, "batch frames"]
    ) -> Float[Tensor, "batch classes"]:
        """As :meth:`Head.logits`."""
        return self.classifier(x_BFC)


class MLPHead(Head):
    """The same frames through one hidden layer."""

    def __init__(self, config: HeadConfig) -> None:
        super().__init__(config)
        self.project = _projection(config)
        self.hidden = FrameLinear(config.max_length, config.inner, config.hidden)
        self.dropout = nn.Dropout(config.dropout)
        self.classifier = nn.Linear(config.hidden, config.classes)

    def logits(
        self, x_BFC: Float[Tensor, "batch frames channels"], mask_BF: Bool[Tensor, "batch frames"]
    ) -> Float[Tensor, "batch classes"]:
        """As :meth:`Head.logits`."""
        return self.classifier(self.dropout(torch.relu(self.hidden(self.project(x_BFC)))))


class TransformerHead(Head):
    """The paper's head: a class token reads the frames through a post-norm transformer encoder.

    Only the class token is read out, so the last layer computes no other; and of padding only attention is computed.
    Logits are those of ``nn.TransformerEncoder``.
    """

    def __init__(self, config: HeadConfig) -> None:
        super().__init__(config)
        width = config.inner
        self.positions_TC: Tensor
        self.project = _projection(config)
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
        frames = Packing.of(mask_BF)
        packing = frames.behind_first_tokens()
        tokens_RC = torch.cat([self.cls_token[0].expand(len(x_BFC), -1), self.project(frames.pack(x_BFC))])
        tokens_RC = tokens_RC + self.positions_TC[packing.numbers()]
        *layers, last = self.encoder.layers
        for layer in layers:
            tokens_RC = encode(layer, tokens_RC, packing)
        assert self.encoder.norm is not None
        return self.classifier(self.encoder.norm(encode_first(last, tokens_RC, packing)))


class AttentiveHead(Head):
    """One learned query reads the frames by cross-attention, as video self-supervised models are probed.

    A residual block on the query: attention to the normalised frames, then a feed-forward layer of 4 x width with GELU,
    each after LayerNorm (Bardes et al., 2024, attentive probe). Frames get sinusoidal positions: features have none.
    """

    def __init__(self, config: HeadConfig) -> None:
        super().__init__(config)
        width = config.inner
        self.positions_FC: Tensor
        self.project = _projection(config)
        self.frame_norm = nn.LayerNorm(width)
        self.register_buffer("positions_FC", sinusoidal_positions(config.max_length, width), persistent=False)
        self.query = nn.Parameter(0.02 * torch.randn(1, 1, width))
        self.attention = nn.MultiheadAttention(width, config.attention_heads, config.dropout, batch_first=True)
        self.norm = nn.LayerNorm(width)
        self.feed_forward = nn.Sequential(
            nn.Linear(width, 4 * width), nn.GELU(), nn.Dropout(config.dropout), nn.Linear(4 * width, width)
        )
        self.classifier = nn.Linear(width, config.classes)

    def logits(
        self, x_BFC: Float[Tensor, "batch frames channels"], mask_BF: Bool[Tensor, "batch frames"]
    ) -> Float[Tensor, "batch classes"]:
        """As :meth:`Head.logits`."""
        packing = Packing.of(mask_BF)
        frames_RC = self.frame_norm(self.project(packing.pack(x_BFC))) + self.positions_FC[packing.numbers()]
        query_BC = self.query[0].expand(len(x_BFC), -1)
        pooled_BC = query_BC + attend_by_query(self.attention, query_BC, frames_RC, packing)
        return self.classifier(pooled_BC + self.feed_forward(self.norm(pooled_BC)))


def _projection(config: HeadConfig) -> nn.Module:
    """Frames to the head's width; without a bias, so that padding stays zero."""
    return nn.Identity() if config.inner == config.channels else nn.Linear(config.channels, config.inner, bias=False)


HEADS: dict[str, type[Head]] = {
    "linear": LinearHead,
    "mlp": MLPHead,
    "transformer": TransformerHead,
    "attentive": AttentiveHead,
}


def build_head(config: HeadConfig) -> Head:
    """A head of this config with fresh weights from torch's global generator."""
    return HEADS[config.kind](config)


def sinusoidal_positions(tokens: int, width: int) -> Float[Tensor, "tokens width"]:
    """Sine in even channels, cosine in odd ones, wavelengths from 2 pi to 10,000 x 2 pi (Vaswani et al., 3.5)."""
    position_T1 = torch.arange(tokens)[:, None]
    rate_H = torch.exp(torch.arange(0, width, 2) * (-math.log(10_000.0) / width))
    table = torch.zeros(tokens, width)
    table[:, 0::2] = torch.sin(position_T1 * rate_H)
    table[:, 1::2] = torch.cos(position_T1 * rate_H)[:, : width // 2]
    return table
