"""A linear map of frames one after another, of which a batch of short videos has only the first.

Axes: B batch, F frames, C channels, K outputs.
"""

# ruff: noqa: N803, N806 - letters in names say the axes

import copy
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from actiondiff.heads.lagging_adamw import LaggingAdamW


class FrameLinear(nn.Module):
    """As ``nn.Linear`` on frames concatenated and filled up with zeros, without touching the weights of the zeros.

    The weight can have tens of millions of numbers, of which a batch of short videos uses a quarter: those of the first
    frames. They lie together in memory, frame by frame; in the state dict the weight is that of an ``nn.Linear``.

    Args:
        frames: the most that a video has.
        channels: of each frame.
        outputs: numbers that come of a video.

    Attributes:
        weight: (frames, outputs, channels).
        learner: trains the weight without a gradient of its size; None leaves it to autograd.
    """

    def __init__(self, frames: int, channels: int, outputs: int) -> None:
        super().__init__()
        plain = nn.Linear(frames * channels, outputs)
        self.weight = nn.Parameter(frames_first(plain.weight.detach(), channels))
        self.bias = plain.bias
        self.learner: LaggingAdamW | None = None

    def forward(self, x_BFC: Float[Tensor, "batch frames channels"]) -> Float[Tensor, "batch outputs"]:
        """Outputs for videos of any number of frames up to the layer's."""
        kind = x_BFC.device.type
        dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else x_BFC.dtype
        x_FBC = x_BFC.to(dtype).transpose(0, 1)
        if self.learner is not None:
            self.learner.bring_up(len(x_FBC))
        if self.learner is None or not torch.is_grad_enabled():
            product_KB = _product(x_FBC, self.weight)
        else:
            product_KB = _FirstFrames.apply(x_FBC, self.weight, self.learner)
        return product_KB.T + self.bias

    def _bring_up(self) -> None:
        if self.learner is not None:
            self.learner.bring_up()

    def __deepcopy__(self, memo: dict[int, Any]) -> "FrameLinear":
        """A copy that nothing trains: a learner moves the weight that it was made for."""
        self._bring_up()
        made = FrameLinear.__new__(FrameLinear)
        memo[id(self)] = made
        made.__dict__ = copy.deepcopy({**self.__dict__, "learner": None}, memo)
        return made

    def _save_to_state_dict(self, destination: Any, prefix: str, keep_vars: bool) -> None:
        self._bring_up()
        super()._save_to_state_dict(destination, prefix, keep_vars)
        destination[f"{prefix}weight"] = outputs_first(self.weight if keep_vars else self.weight.detach())

    def _load_from_state_dict(self, state_dict: Any, prefix: str, *rest: Any) -> None:
        self._bring_up()  # what is made up for later would move the weights that are read
        name, channels = f"{prefix}weight", self.weight.shape[2]
        given = state_dict.get(name)
        if given is not None and given.dim() == 2 and given.shape[1] % channels == 0:
            state_dict[name] = frames_first(given, channels)
        super()._load_from_state_dict(state_dict, prefix, *rest)


def frames_first(weight_KD: Float[Tensor, "outputs inputs"], channels: int) -> Float[Tensor, "frames outputs channels"]:
    """The weight of an ``nn.Linear`` frame by frame."""
    return weight_KD.unflatten(1, (-1, channels)).transpose(0, 1).contiguous()


def outputs_first(weight_FKC: Float[Tensor, "frames outputs channels"]) -> Float[Tensor, "outputs inputs"]:
    """The weight as an ``nn.Linear`` has it."""
    return weight_FKC.transpose(0, 1).flatten(1)


def _product(
    x_FBC: Float[Tensor, "used batch channels"], weight_FKC: Float[Tensor, "frames outputs channels"]
) -> Float[Tensor, "outputs batch"]:
    return torch.bmm(weight_FKC[: len(x_FBC)].to(x_FBC.dtype), x_FBC.mT).sum(dim=0)


class _FirstFrames(torch.autograd.Function):
    """The product, whose backward pass hands the weight's gradient to the learner as its two factors."""

    @staticmethod
    def forward(ctx: Any, x_FBC: Tensor, weight_FKC: Tensor, learner: LaggingAdamW) -> Tensor:
        ctx.save_for_backward(x_FBC)
        # Not among the saved tensors: autograd would take what the learner does to other frames for an error.
        ctx.weight_FKC, ctx.learner = weight_FKC.detach(), learner
        return _product(x_FBC, weight_FKC.detach())

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, None, None]:
        [grad_KB], (x_FBC,) = gradients, ctx.saved_tensors
        ctx.learner.learn(grad_KB[None], x_FBC[:, None])
        if not ctx.needs_input_grad[0]:
            return None, None, None
        weight_FKC = ctx.weight_FKC[: len(x_FBC)].to(x_FBC.dtype)
        return torch.bmm(grad_KB.T.expand(len(x_FBC), -1, -1), weight_FKC), None, None
