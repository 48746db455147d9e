"""A linear map of frames one after another, of which a batch of short videos has only the first."""

# ruff: noqa: N803, N806 - letters in names say the axes

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional


class FrameLinear(nn.Linear):
    """As ``nn.Linear`` on frames concatenated and filled up with zeros, without touching the weights of the zeros.

    Its weight can have tens of millions of numbers, of which a batch of short videos uses a quarter. The gradient is
    added to the used columns of ``weight.grad`` alone; :meth:`clear_gradient` zeroes these again. So neither a gradient
    of the whole size is allocated at each step, nor are zeros multiplied.
    """

    def __init__(self, in_features: int, out_features: int) -> None:
        super().__init__(in_features, out_features)
        self._used = 0

    def forward(self, x_BFC: Float[Tensor, "batch frames channels"]) -> Float[Tensor, "batch outputs"]:
        """Outputs for videos of any number of frames up to the layer's."""
        x_BD = x_BFC.flatten(1)
        if torch.is_grad_enabled():
            self._used = max(self._used, x_BD.shape[1])
        if not torch.is_grad_enabled() or torch.distributed.is_initialized():  # there gradients go through hooks
            return functional.linear(x_BD, self.weight[:, : x_BD.shape[1]], self.bias)
        kind = x_BD.device.type
        dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else x_BD.dtype
        product_KB = _UsedColumns.apply(x_BD.to(dtype), self.weight)
        return product_KB.T + self.bias

    def clear_gradient(self) -> None:
        """Zero what the last backward passes have added to the weight's gradient."""
        if self.weight.grad is not None:
            self.weight.grad[:, : self._used].zero_()
        self.bias.grad, self._used = None, 0


class _UsedColumns(torch.autograd.Function):
    """``weight[:, :D] @ x.T`` whose backward adds to the weight's gradient in place."""

    @staticmethod
    def forward(ctx: Any, x_BD: Tensor, weight_KD: Tensor) -> Tensor:
        ctx.save_for_backward(x_BD)
        ctx.weight_KD = weight_KD
        return weight_KD.detach()[:, : x_BD.shape[1]].to(x_BD.dtype) @ x_BD.T

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, None]:
        [grad_KB], (x_BD,), weight_KD = gradients, ctx.saved_tensors, ctx.weight_KD
        used = x_BD.shape[1]
        if weight_KD.requires_grad:
            if weight_KD.grad is None:
                weight_KD.grad = torch.zeros_like(weight_KD)
            if x_BD.dtype == weight_KD.dtype:
                weight_KD.grad[:, :used].addmm_(grad_KB, x_BD)
            else:
                weight_KD.grad[:, :used] += grad_KB @ x_BD
        grad_BD = grad_KB.T @ weight_KD.detach()[:, :used].to(x_BD.dtype) if ctx.needs_input_grad[0] else None
        return grad_BD, None
