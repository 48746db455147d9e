"""The losses a head can be trained with, all on logits and targets that MixUp may have made fractional."""

# ruff: noqa: N803, N806 - letters in names say the axes

from collections.abc import Callable
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from actiondiff import InputError

LOSSES = ("cross-entropy", "focal", "bce")
Loss = Callable[[Tensor, Tensor], Tensor]


def focal_loss(
    logits_BK: Float[Tensor, "batch classes"],
    targets_BK: Float[Tensor, "batch classes"],
    alpha: float = 0.25,
    gamma: float = 2.0,
) -> Float[Tensor, ""]:
    """Mean of ``alpha (1 - p)^gamma BCE``, p = exp(-BCE) being the probability given to the truth.

    As in the published code ``alpha`` scales every term; it does not weigh positives against negatives.
    """
    bce_BK = functional.binary_cross_entropy_with_logits(logits_BK, targets_BK, reduction="none")
    return (alpha * (1 - torch.exp(-bce_BK)) ** gamma * bce_BK).mean()


def bce_loss(
    logits_BK: Float[Tensor, "batch classes"], targets_BK: Float[Tensor, "batch classes"]
) -> Float[Tensor, ""]:
    """Binary cross-entropy of sigmoids, mean over videos and classes."""
    return functional.binary_cross_entropy_with_logits(logits_BK, targets_BK)


def cross_entropy_loss(
    logits_BK: Float[Tensor, "batch classes"], targets_BK: Float[Tensor, "batch classes"]
) -> Float[Tensor, ""]:
    """Cross-entropy of softmax against one label (or a mixture of labels), mean over videos."""
    return functional.cross_entropy(logits_BK, targets_BK)


def build_loss(name: str, alpha: float = 0.25, gamma: float = 2.0) -> Loss:
    """The loss of this name; ``alpha`` and ``gamma`` are the focal loss's.

    Raises:
        InputError: unknown name.
    """
    if name not in LOSSES:
        raise InputError(f"A loss is one of {', '.join(LOSSES)}; got {name!r}.")
    losses: dict[str, Loss] = {
        "cross-entropy": cross_entropy_loss,
        "focal": partial(focal_loss, alpha=alpha, gamma=gamma),
        "bce": bce_loss,
    }
    return losses[name]


def probabilities(logits_NK: Float[Tensor, "videos classes"], loss: str) -> Float[Tensor, "videos classes"]:
    """Scores from 0 to 1 that fit the loss: softmax for cross-entropy, sigmoids for the others.

    In float64, so that confident scores do not collapse into ties.
    """
    logits_NK = logits_NK.double()
    return logits_NK.softmax(dim=1) if loss == "cross-entropy" else logits_NK.sigmoid()
