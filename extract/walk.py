"""The walk: features of the U-Net's layers, block by block, stopping after the deepest layer asked for.

Legend of axes: B windows, T frames of a window, N = B*T, C channels, H W height and width, D conditioning width.

The public forward of diffusers gives one embedding to all frames of a window and runs the whole U-Net. The walk
takes an embedding per frame, needs no hooks, and never touches the up blocks.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from diffusers import UNetSpatioTemporalConditionModel
from jaxtyping import Float
from torch import Tensor, nn

FPS_ID = 6.0
MOTION_BUCKET = 127.0
NOISE_AUGMENTATION = 0.02
"""Micro-conditioning of every window (what diffusers' pipeline makes of its defaults fps 7, bucket 127, 0.02)."""


@dataclass(frozen=True)
class DenoiserInput:
    """What the U-Net sees of one or more windows, each at a timestep of its own.

    Attributes:
        sample: scaled clean latents and image latents, one after the other along the channels.
        embedding: cross-attention tokens of every frame.
        noise_label: ln(sigma) / 4 of each window.
    """

    sample: Float[Tensor, "B T C H W"]
    embedding: Float[Tensor, "B T tokens D"]
    noise_label: Float[Tensor, " B"]


def walk(
    unet: UNetSpatioTemporalConditionModel, inputs: DenoiserInput, *, last_layer: int
) -> Iterator[tuple[int, Float[Tensor, "B T C H W"]]]:
    """Yield every layer's activation, from layer 1 (conv in) to ``last_layer``.

    Layers 2 to 12 are the outputs that the down blocks hand to the up blocks, 13 is the middle block's, and those from
    14 on are of the up blocks: each residual block with its attention, at the size of the down block's output that it
    takes in.

    Args:
        unet: the diffusers U-Net; its up blocks may be missing where no layer behind 13 is asked for.
        inputs: windows, each at one timestep.
        last_layer: the walk stops behind it.
    """
    windows, frames = inputs.sample.shape[:2]
    # The layout in which GPUs convolve half precision; it goes from layer to layer by itself.
    sample = inputs.sample.flatten(0, 1).contiguous(memory_format=torch.channels_last)
    embedding = inputs.embedding.flatten(0, 1)
    time = _time_embedding(unet, inputs.noise_label, sample).repeat_interleave(frames, dim=0)
    indicator = sample.new_zeros(windows, frames)
    middle = middle_layer(unet)
    handed_up: list[Tensor] = []
    for layer, step in enumerate(_steps(unet, decoder=last_layer > middle), start=1):
        sample = step(sample, time, embedding, indicator, handed_up)
        yield layer, sample.unflatten(0, (windows, frames))
        if layer == last_layer:
            return
        if layer < middle < last_layer:
            handed_up.append(sample)


def middle_layer(unet: UNetSpatioTemporalConditionModel) -> int:
    """Number of the middle block: the last layer before the up blocks."""
    levels = len(unet.config.block_out_channels)
    return 1 + levels * (unet.config.layers_per_block + 1)


def layer_channels(unet: UNetSpatioTemporalConditionModel) -> dict[int, int]:
    """Channels of every layer, up blocks included, read from the U-Net's configuration."""
    widths, blocks = unet.config.block_out_channels, unet.config.layers_per_block
    channels = [widths[0]]
    for level, width in enumerate(widths):
        channels += [width] * (blocks + (level < len(widths) - 1))
    channels.append(widths[-1])
    for width in reversed(widths):
        channels += [width] * (blocks + 1)
    return dict(enumerate(channels, start=1))


class _Step:
    """One layer of the walk: a convolution, or a residual block with or without attention, or the middle.

    Args:
        modules: that the sample goes through, one after another.
        joins: whether the last output that is still handed up is put beside the sample first.
        upsampler: of the level below, which the sample goes through before.
    """

    def __init__(self, *modules: nn.Module, joins: bool = False, upsampler: nn.Module | None = None) -> None:
        self._modules, self._joins, self._upsampler = modules, joins, upsampler

    def __call__(
        self, sample: Tensor, time: Tensor, embedding: Tensor, indicator: Tensor, handed_up: list[Tensor]
    ) -> Tensor:
        if self._joins:
            beside = handed_up.pop()
            if self._upsampler is not None:
                doubled = tuple(2 * side for side in sample.shape[-2:]) == beside.shape[-2:]
                sample = self._upsampler(sample, None if doubled else beside.shape[-2:])
            sample = torch.cat([sample, beside], dim=1)
        for module in self._modules:
            kind = type(module).__name__
            if kind == "SpatioTemporalResBlock":
                sample = module(sample, time, image_only_indicator=indicator)
            elif kind == "TransformerSpatioTemporalModel":
                sample = module(
                    sample, encoder_hidden_states=embedding, image_only_indicator=indicator, return_dict=False
                )[0]
            elif kind == "UNetMidBlockSpatioTemporal":
                sample = module(sample, temb=time, encoder_hidden_states=embedding, image_only_indicator=indicator)
            else:
                sample = module(sample)
        return sample


def _steps(unet: UNetSpatioTemporalConditionModel, *, decoder: bool) -> Iterator[_Step]:
    yield _Step(unet.conv_in)
    for block in unet.down_blocks:
        for modules in _blocks(block):
            yield _Step(*modules)
        for downsampler in block.downsamplers or []:
            yield _Step(downsampler)
    yield _Step(unet.mid_block)
    upsampler = None
    for block in unet.up_blocks if decoder else []:
        for modules in _blocks(block):
            yield _Step(*modules, joins=True, upsampler=upsampler)
            upsampler = None
        upsampler = block.upsamplers[0] if block.upsamplers else None


def _blocks(block: Any) -> Iterator[tuple[nn.Module, ...]]:
    """Residual blocks of a level, each with its attention where the level has any."""
    attentions = getattr(block, "attentions", None)
    yield from zip(block.resnets, attentions, strict=True) if attentions else ((resnet,) for resnet in block.resnets)


def _time_embedding(
    unet: UNetSpatioTemporalConditionModel, noise_label: Float[Tensor, " B"], like: Tensor
) -> Float[Tensor, "B width"]:
    windows = len(noise_label)
    micro = torch.tensor([FPS_ID, MOTION_BUCKET, NOISE_AUGMENTATION], device=like.device).repeat(windows)
    time = unet.time_embedding(unet.time_proj(noise_label.float()).to(like.dtype))
    return time + unet.add_embedding(unet.add_time_proj(micro).reshape(windows, -1).to(like.dtype))
