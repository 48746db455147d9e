"""The walk: features of the U-Net's layers, block by block, stopping after the deepest layer asked for.

Legend of axes: B windows, T frames of a window, N = B*T, C channels, H W height and width, D conditioning width.

The public forward of diffusers gives one embedding to all frames of a window and runs the whole U-Net. The walk
takes an embedding per frame, needs no hooks, and never touches the up blocks.
"""

from collections.abc import Iterator
from dataclasses import dataclass

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
    """What the U-Net sees of one or more windows at one timestep.

    Attributes:
        sample: scaled clean latents and image latents, one after the other along the channels.
        embedding: cross-attention tokens of every frame.
        noise_label: ln(sigma) / 4.
    """

    sample: Float[Tensor, "B T C H W"]
    embedding: Float[Tensor, "B T tokens D"]
    noise_label: float


def walk(
    unet: UNetSpatioTemporalConditionModel, inputs: DenoiserInput, *, last_layer: int, temporal: bool = True
) -> Iterator[tuple[int, Float[Tensor, "B T C H W"]]]:
    """Yield every layer's activation, from layer 1 (conv in) to ``last_layer``.

    Layers 2 to 12 are the outputs that the down blocks hand to the up blocks, 13 is the middle block's.

    Args:
        unet: the diffusers U-Net; its up blocks may be missing.
        inputs: of one timestep.
        last_layer: the walk stops behind it.
        temporal: False gives every blend of spatial and temporal paths the spatial weight 1 (``sdv2``).
    """
    windows, frames = inputs.sample.shape[:2]
    sample = inputs.sample.flatten(0, 1)
    embedding = inputs.embedding.flatten(0, 1)
    time = _time_embedding(unet, inputs.noise_label, windows, sample).repeat_interleave(frames, dim=0)
    indicator = torch.full((windows, frames), float(not temporal), dtype=sample.dtype, device=sample.device)
    for layer, step in _steps(unet):
        sample = step(sample, time, embedding, indicator)
        yield layer, sample.unflatten(0, (windows, frames))
        if layer == last_layer:
            return


def layer_channels(unet: UNetSpatioTemporalConditionModel) -> dict[int, int]:
    """Channels of every layer, read from the U-Net's configuration."""
    widths = unet.config.block_out_channels
    channels = [widths[0]]
    for level, width in enumerate(widths):
        channels += [width] * (unet.config.layers_per_block + (level < len(widths) - 1))
    return dict(enumerate([*channels, widths[-1]], start=1))


class _Step:
    """One layer of the walk: a convolution, or a residual block with or without attention, or the middle."""

    def __init__(self, *modules: nn.Module) -> None:
        self._modules = modules

    def __call__(self, sample: Tensor, time: Tensor, embedding: Tensor, indicator: Tensor) -> Tensor:
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


def _steps(unet: UNetSpatioTemporalConditionModel) -> Iterator[tuple[int, _Step]]:
    steps = [_Step(unet.conv_in)]
    for block in unet.down_blocks:
        attentions = getattr(block, "attentions", None) or [None] * len(block.resnets)
        for resnet, attention in zip(block.resnets, attentions, strict=True):
            steps.append(_Step(resnet, attention) if attention is not None else _Step(resnet))
        steps += [_Step(downsampler) for downsampler in block.downsamplers or []]
    return enumerate([*steps, _Step(unet.mid_block)], start=1).__iter__()


def _time_embedding(
    unet: UNetSpatioTemporalConditionModel, noise_label: float, windows: int, like: Tensor
) -> Float[Tensor, "B width"]:
    label = torch.full((windows,), noise_label, dtype=torch.float32, device=like.device)
    micro = torch.tensor([FPS_ID, MOTION_BUCKET, NOISE_AUGMENTATION], device=like.device).repeat(windows)
    time = unet.time_embedding(unet.time_proj(label).to(like.dtype))
    return time + unet.add_embedding(unet.add_time_proj(micro).reshape(windows, -1).to(like.dtype))
