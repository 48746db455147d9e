"""Attention over videos of different lengths, in which only real tokens are computed.

A linear map or a norm does the same to every token, so padding needs none: tokens of all videos lie one after another,
and stand side by side for attention itself only, which is a hundredth of a layer's arithmetic at the paper's width.

Axes: B batch, T tokens, R real tokens of all videos, C width.
"""

# ruff: noqa: N803, N806, N815 - letters in names say the axes

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn
from torch.nn import functional


@dataclass(frozen=True, eq=False)
class Packing:
    """Which tokens of padded videos are real.

    Attributes:
        mask_BT: True on real tokens.
        where_R: their places, counted video by video.
    """

    mask_BT: Bool[Tensor, "batch tokens"]
    where_R: Int64[Tensor, " real"]

    @classmethod
    def of(cls, mask_BT: Bool[Tensor, "batch tokens"]) -> "Packing":
        """From a mask."""
        return cls(mask_BT, mask_BT.flatten().nonzero()[:, 0])

    def pack(self, x_BTC: Float[Tensor, "batch tokens width"]) -> Float[Tensor, "real width"]:
        """The real tokens, one after another."""
        return x_BTC.flatten(0, 1).index_select(0, self.where_R)

    def unpack(self, x_RC: Float[Tensor, "real width"]) -> Float[Tensor, "batch tokens width"]:
        """Side by side again, zeros for padding."""
        padded = x_RC.new_zeros(self.mask_BT.numel(), x_RC.shape[1]).index_copy(0, self.where_R, x_RC)
        return padded.unflatten(0, self.mask_BT.shape)


def attend(
    attention: nn.MultiheadAttention,
    query_BQC: Float[Tensor, "batch queries width"] | None,
    x_RC: Float[Tensor, "real width"],
    packing: Packing,
) -> Float[Tensor, "batch queries width"]:
    """What queries read from the real tokens, as ``nn.MultiheadAttention`` computes it.

    Args:
        attention: the weights.
        query_BQC: the queries of each video; None for its tokens themselves.
        x_RC: keys and values.
        packing: where they are.
    """
    weight, bias, width = attention.in_proj_weight, attention.in_proj_bias, x_RC.shape[1]
    if query_BQC is None:
        query, key, value = packing.unpack(functional.linear(x_RC, weight, bias)).chunk(3, dim=2)
    else:
        query = functional.linear(query_BQC, weight[:width], bias[:width])
        key, value = packing.unpack(functional.linear(x_RC, weight[width:], bias[width:])).chunk(2, dim=2)
    query, key, value = (each.unflatten(2, (attention.num_heads, -1)).transpose(1, 2) for each in (query, key, value))
    read = functional.scaled_dot_product_attention(
        query,
        key,
        value,
        attn_mask=packing.mask_BT[:, None, None],
        dropout_p=attention.dropout if attention.training else 0.0,
    )
    return attention.out_proj(read.transpose(1, 2).flatten(2))


def encode(
    layer: nn.TransformerEncoderLayer, x_RC: Float[Tensor, "real width"], packing: Packing
) -> Float[Tensor, "real width"]:
    """A post-norm encoder layer's output at every real token."""
    return _after_reading(layer, x_RC, packing.pack(attend(layer.self_attn, None, x_RC, packing)))


def encode_first(
    layer: nn.TransformerEncoderLayer, x_RC: Float[Tensor, "real width"], packing: Packing
) -> Float[Tensor, "batch width"]:
    """A post-norm encoder layer's output at each video's first token."""
    first_BC = packing.unpack(x_RC)[:, 0]
    return _after_reading(layer, first_BC, attend(layer.self_attn, first_BC[:, None], x_RC, packing)[:, 0])


def _after_reading(layer: nn.TransformerEncoderLayer, x_C: Tensor, read_C: Tensor) -> Tensor:
    x_C = layer.norm1(x_C + layer.dropout1(read_C))
    wide = layer.dropout(torch.relu(layer.linear1(x_C)))
    return layer.norm2(x_C + layer.dropout2(layer.linear2(wide)))
