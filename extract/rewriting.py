"""The same arithmetic for less: exact rewrites of a loaded U-Net, each held to the untouched one by a test.

Legend of axes: B windows, C channels, T frames of a window, H W height and width, N = B*T, S tokens, D width.
"""

from collections.abc import Callable

import torch.nn.functional as F
from diffusers.models.attention_processor import Attention
from diffusers.models.resnet import ResnetBlock2D, SpatioTemporalResBlock, TemporalResnetBlock
from diffusers.models.transformers.transformer_temporal import TransformerSpatioTemporalModel
from jaxtyping import Float
from torch import Tensor, nn


def rewrite(unet: nn.Module, *, temporal: bool = True) -> None:
    """Rewrite a U-Net in place; its outputs stay what they are, up to rounding.

    Args:
        unet: loaded or on the meta device.
        temporal: False leaves the temporal layers out altogether, which gives every blend of spatial and temporal
            paths the spatial weight 1 (``sdv2``).
    """
    for module in list(unet.modules()):
        if isinstance(module, TemporalResnetBlock):
            for name in ("conv1", "conv2"):
                setattr(module, name, FrameConv(getattr(module, name)))
        elif isinstance(module, Attention) and module.is_cross_attention:
            module.set_processor(OneTokenAttention(module.processor))
        if not temporal and isinstance(module, SpatioTemporalResBlock):
            module.forward = _spatial_residual(module)
        elif not temporal and isinstance(module, TransformerSpatioTemporalModel):
            module.forward = _spatial_transformer(module)


def compile_blocks(unet: nn.Module, encoder: nn.Module) -> None:
    """Compile block by block, where they stand: blocks alike share a compilation, and a whole network takes minutes."""
    kinds = (SpatioTemporalResBlock, TransformerSpatioTemporalModel, ResnetBlock2D)
    for module in (*unet.modules(), *encoder.modules()):
        if isinstance(module, kinds):
            module.compile()


class FrameConv(nn.Module):
    """A convolution over time alone, as a 2D one over (frames, height x width).

    PyTorch takes a slow path for ``Conv3d`` with a (3, 1, 1) kernel on a CPU.
    """

    def __init__(self, conv: nn.Conv3d) -> None:
        super().__init__()
        self.weight, self.bias = conv.weight, conv.bias

    def forward(self, x: Float[Tensor, "B C T H W"]) -> Float[Tensor, "B D T H W"]:
        """Convolve with zeros before the first and behind the last frame."""
        out = F.conv2d(x.flatten(3), self.weight[..., 0], self.bias, padding=(1, 0))
        return out.unflatten(3, x.shape[3:])


class OneTokenAttention:
    """Cross-attention to a single token: all weight falls on it, so queries, keys and softmax change nothing."""

    def __init__(self, several: Callable[..., Tensor]) -> None:
        self._several = several

    def __call__(
        self,
        attn: Attention,
        hidden_states: Float[Tensor, "N S D"],
        encoder_hidden_states: Float[Tensor, "N tokens E"] | None = None,
        attention_mask: Tensor | None = None,
        **others: Tensor,
    ) -> Float[Tensor, "N S D"]:
        """What the attention block gives; several tokens take the usual way."""
        if encoder_hidden_states is None or encoder_hidden_states.shape[1] != 1:
            return self._several(attn, hidden_states, encoder_hidden_states, attention_mask, **others)
        value = attn.to_out[0](attn.to_v(encoder_hidden_states))
        return value.expand(-1, hidden_states.shape[1], -1)


def _spatial_residual(block: SpatioTemporalResBlock) -> Callable[..., Tensor]:
    def forward(hidden_states: Tensor, temb: Tensor, image_only_indicator: Tensor | None = None) -> Tensor:
        return block.spatial_res_block(hidden_states, temb)

    return forward


def _spatial_transformer(model: TransformerSpatioTemporalModel) -> Callable[..., tuple[Tensor]]:
    def forward(
        hidden_states: Float[Tensor, "N C H W"],
        encoder_hidden_states: Float[Tensor, "N tokens D"],
        image_only_indicator: Tensor | None = None,
        return_dict: bool = False,
    ) -> tuple[Tensor]:
        height, width = hidden_states.shape[-2:]
        tokens = model.proj_in(model.norm(hidden_states).flatten(2).transpose(1, 2))
        for block in model.transformer_blocks:
            tokens = block(tokens, encoder_hidden_states=encoder_hidden_states)
        return (model.proj_out(tokens).transpose(1, 2).unflatten(2, (height, width)) + hidden_states,)

    return forward
