"""A linear map of frames one after another, of which a batch of short videos has only the first."""

# ruff: noqa: N803, N806 - letters in names say the axes

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional


class FrameLinear(nn.Linear):
    """As ``nn.Linear`` on frames concatenated and filled up with zeros, without touching the weights of the zeros.

    Its weight can have tens of millions of numbers, of which a batch of short videos uses a quarter. The gradient of
    the used columns is written into ``weight.grad`` in place, the others are zero and stay so; nothing of the weight's
    size is allocated, zeroed or copied at a step. Between steps call :meth:`forget_gradient`, or ``zero_grad``.
    """

    def __init__(self, in_features: int, out_features: int) -> None:
        super().__init__(in_features, out_features)
        self._used = 0  # columns that passes since the last step have added to
        self._stale = 0  # columns that may hold gradients of the step before

    def forward(self, x_BFC: Float[Tensor, "batch frames channels"]) -> Float[Tensor, "batch outputs"]:
        """Outputs for videos of any number of frames up to the layer's."""
        x_BD = x_BFC.flatten(1)
        if not torch.is_grad_enabled() or torch.distributed.is_initialized():  # there gradients go through hooks
            return functional.linear(x_BD, self.weight[:, : x_BD.shape[1]], self.bias)
        kind = x_BD.device.type
        dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else x_BD.dtype
        product_KB = _UsedColumns.apply(x_BD.to(dtype), self.weight, self)
        return product_KB.T + self.bias

    def forget_gradient(self) -> None:
        """Let the next backward pass begin anew."""
        self.bias.grad = None
        if torch.distributed.is_initialized():
            self.weight.grad = None
        self._used, self._stale = 0, max(self._used, self._stale)

    def add_gradient(self, grad_KB: Float[Tensor, "outputs batch"], x_BD: Float[Tensor, "batch inputs"]) -> None:
        """What a backward pass adds to the gradient of the weight."""
        if self.weight.grad is None:
            self.weight.grad, self._used, self._stale = torch.zeros_like(self.weight), 0, 0
        width = x_BD.shape[1]
        first, used = self.weight.grad[:, :width], self._used
        if used == 0:
            self.weight.grad[:, width : self._stale] = 0
            self._stale = 0
        elif used < width:
            self.weight.grad[:, used:width] = 0
        if x_BD.dtype == first.dtype:
            first.addmm_(grad_KB, x_BD, beta=1 if used else 0)
        elif used:
            first += grad_KB @ x_BD
        else:
            first.copy_(grad_KB @ x_BD)
        self._used = max(used, width)


class _UsedColumns(torch.autograd.Function):
    """``weight[:, :D] @ x.T`` whose backward adds to the weight's gradient in place."""

    @staticmethod
    def forward(ctx: Any, x_BD: Tensor, weight_KD: Tensor, layer: FrameLinear) -> Tensor:
        ctx.save_for_backward(x_BD)
        ctx.layer = layer
        return weight_KD.detach()[:, : x_BD.shape[1]].to(x_BD.dtype) @ x_BD.T

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, None, None]:
        [grad_KB], (x_BD,) = gradients, ctx.saved_tensors
        if ctx.needs_input_grad[1]:
            ctx.layer.add_gradient(grad_KB, x_BD)
        if not ctx.needs_input_grad[0]:
            return None, None, None
        weight_KD = ctx.layer.weight.detach()[:, : x_BD.shape[1]]
        return grad_KB.T @ weight_KD.to(x_BD.dtype), None, None
