"""Random weights: the same architecture with nothing learned, the control that tells what training gave."""

import hashlib
import math

import torch
from torch import Tensor, nn


def random_tensors(module: nn.Module, seed: int, part: str) -> dict[str, Tensor]:
    """Draw every parameter of a network, whose own tensors may be on the meta device.

    Weights are normal with variance 1 / fan-in, so that no layer blows up or dies out; norms are the identity; biases
    are zero. Each tensor's values depend on the seed, its part and its name alone: not on what else is loaded, the
    device, or the precision.

    Args:
        module: gives names and shapes.
        seed: any whole number.
        part: name of the network, part of what seeds its tensors.

    Returns:
        float32 tensors by name.
    """
    return {name: _draw(name, like.shape, seed, part) for name, like in module.state_dict().items()}


def _draw(name: str, shape: torch.Size, seed: int, part: str) -> Tensor:
    kind = name.rpartition(".")[2]
    if len(shape) == 1 and kind == "weight":
        return torch.ones(shape)
    if kind == "bias":
        return torch.zeros(shape)
    generator = torch.Generator().manual_seed(_seed(seed, f"{part}.{name}"))
    deviation = 1.0 if kind == "mix_factor" else 1 / math.sqrt(math.prod(shape[1:] if len(shape) > 1 else shape))
    return torch.randn(shape, generator=generator) * deviation


def _seed(seed: int, name: str) -> int:
    return int.from_bytes(hashlib.sha256(f"{seed}\0{name}".encode()).digest()[:8], "little") >> 1
