"""Attention over videos of different lengths, in which linear maps and norms see real tokens only.

A linear map or a norm does the same to every token, so padding needs none: tokens of all videos lie one after another,
and stand side by side for attention itself, which is a hundredth of a layer's arithmetic at the paper's width.

Axes: B batch, F frames, T tokens, R real tokens of all videos, C width.
"""

# ruff: noqa: N803, N806, N815 - letters in names say the axes

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn
from torch.nn import functional


@dataclass(frozen=True, eq=False)
class Packing:
    """Which tokens of padded videos are real, and in which order they lie.

    Attributes:
        mask_BT: True on real tokens.
        where_R: the place of each in the padded videos, counted video by video.
    """

    mask_BT: Bool[Tensor, "batch tokens"]
    where_R: Int64[Tensor, " real"]

    @classmethod
    def of(cls, mask_BT: Bool[Tensor, "batch tokens"]) -> "Packing":
        """From a mask; tokens lie video by video."""
        return cls(mask_BT, mask_BT.flatten().nonzero()[:, 0])

    def behind_first_tokens(self) -> "Packing":
        """The same with one more token before each video's others; these lie in front of all."""
        batch, tokens = self.mask_BT.shape
        first_B = (tokens + 1) * torch.arange(batch, device=self.where_R.device)
        moved_R = self.where_R + self.where_R // tokens + 1
        mask_BT = torch.cat([torch.ones_like(self.mask_BT[:, :1]), self.mask_BT], dim=1)
        return Packing(mask_BT, torch.cat([first_B, moved_R]))

    def numbers(self) -> Int64[Tensor, " real"]:
        """Each token's number within its video."""
        return self.where_R % self.mask_BT.shape[1]

    def pack(self, x_BTC: Float[Tensor, "batch tokens width"]) -> Float[Tensor, "real width"]:
        """The real tokens, one after another."""
        return x_BTC.flatten(0, 1).index_select(0, self.where_R)

    def unpack(self, x_RC: Float[Tensor, "real width"]) -> Float[Tensor, "batch tokens width"]:
        """Side by side again, zeros for padding."""
        padded = x_RC.new_zeros(self.mask_BT.numel(), x_RC.shape[1]).index_copy(0, self.where_R, x_RC)
        return padded.unflatten(0, self.mask_BT.shape)


def attend_to_itself(
    attention: nn.MultiheadAttention, x_RC: Float[Tensor, "real width"], packing: Packing
) -> Float[Tensor, "real width"]:
    """What every real token reads from those of its video, as ``nn.MultiheadAttention`` computes it."""
    projected = packing.unpack(functional.linear(x_RC, attention.in_proj_weight, attention.in_proj_bias))
    query, key, value = projected.chunk(3, dim=2)
    return attention.out_proj(packing.pack(_read(attention, query, key, value, packing)))


def attend_by_query(
    attention: nn.MultiheadAttention,
    query_BC: Float[Tensor, "batch width"],
    x_RC: Float[Tensor, "real width"],
    packing: Packing,
) -> Float[Tensor, "batch width"]:
    """What one query a video reads from the video's real tokens, as ``nn.MultiheadAttention`` computes it."""
    weight, bias, width = attention.in_proj_weight, attention.in_proj_bias, x_RC.shape[1]
    query_B1C = functional.linear(query_BC, weight[:width], bias[:width])[:, None]
    key, value = packing.unpack(functional.linear(x_RC, weight[width:], bias[width:])).chunk(2, dim=2)
    return attention.out_proj(_read(attention, query_B1C, key, value, packing)[:, 0])


def _read(
    attention: nn.MultiheadAttention,
    query: Float[Tensor, "batch queries width"],
    key: Float[Tensor, "batch tokens width"],
    value: Float[Tensor, "batch tokens width"],
    packing: Packing,
) -> Float[Tensor, "batch queries width"]:
    query, key, value = (each.unflatten(2, (attention.num_heads, -1)).transpose(1, 2) for each in (query, key, value))
    read = functional.scaled_dot_product_attention(
        query,
        key,
        value,
        attn_mask=packing.mask_BT[:, None, None],
        dropout_p=attention.dropout if attention.training else 0.0,
    )
    return read.transpose(1, 2).flatten(2)


def encode(
    layer: nn.TransformerEncoderLayer, x_RC: Float[Tensor, "real width"], packing: Packing
) -> Float[Tensor, "real width"]:
    """A post-norm encoder layer's output at every real token."""
    return _after_reading(layer, x_RC, attend_to_itself(layer.self_attn, x_RC, packing))


def encode_first(
    layer: nn.TransformerEncoderLayer, x_RC: Float[Tensor, "real width"], packing: Packing
) -> Float[Tensor, "batch width"]:
    """A post-norm encoder layer's output at the first tokens, which lie in front of all others."""
    first_BC = x_RC[: len(packing.mask_BT)]
    return _after_reading(layer, first_BC, attend_by_query(layer.self_attn, first_BC, x_RC, packing))


def _after_reading(
    layer: nn.TransformerEncoderLayer, x_RC: Float[Tensor, "tokens width"], read_RC: Float[Tensor, "tokens width"]
) -> Float[Tensor, "tokens width"]:
    x_RC = layer.norm1(x_RC + layer.dropout1(read_RC))
    wide = layer.dropout(torch.relu(layer.linear1(x_RC)))
    return layer.norm2(x_RC + layer.dropout2(layer.linear2(wide)))
