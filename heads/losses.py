"""The losses a head can be trained with, all on logits and targets that MixUp may have made fractional.

Logits of several heads on the same videos may be given at once; there is a loss for each then.
"""

# ruff: noqa: N803, N806 - letters in names say the axes

from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from jaxtyping import Float, Float32
from torch import Tensor
from torch.nn import functional

from actiondiff import InputError

LOSSES = ("cross-entropy", "focal", "bce")
CLASS_WEIGHTS = ("none", "balanced")
Loss = Callable[[Tensor, Tensor], Tensor]


def focal_loss(
    logits_BK: Float[Tensor, "*heads batch classes"],
    targets_BK: Float[Tensor, "batch classes"],
    alpha: float = 0.25,
    gamma: float = 2.0,
    weights_K: Float[Tensor, " classes"] | None = None,
) -> Float[Tensor, "*heads"]:
    """Mean of ``alpha (1 - p)^gamma BCE``, p = exp(-BCE) being the probability given to the truth.

    As in the published code ``alpha`` scales every term; it does not weigh positives against negatives.
    """
    bce_BK = _bce(logits_BK, targets_BK)
    terms_BK = alpha * (1 - torch.exp(-bce_BK)) ** gamma * bce_BK
    return (terms_BK if weights_K is None else terms_BK * weights_K).mean(dim=(-2, -1))


def bce_loss(
    logits_BK: Float[Tensor, "*heads batch classes"],
    targets_BK: Float[Tensor, "batch classes"],
    weights_K: Float[Tensor, " classes"] | None = None,
) -> Float[Tensor, "*heads"]:
    """Binary cross-entropy of sigmoids, mean over videos and classes."""
    terms_BK = _bce(logits_BK, targets_BK)
    return (terms_BK if weights_K is None else terms_BK * weights_K).mean(dim=(-2, -1))


def cross_entropy_loss(
    logits_BK: Float[Tensor, "*heads batch classes"],
    targets_BK: Float[Tensor, "batch classes"],
    weights_K: Float[Tensor, " classes"] | None = None,
) -> Float[Tensor, "*heads"]:
    """Cross-entropy of softmax against one label (or a mixture of labels), mean over videos."""
    terms_BK = -targets_BK * logits_BK.float().log_softmax(dim=-1)  # CPU autocast leaves it in bfloat16
    return (terms_BK if weights_K is None else terms_BK * weights_K).sum(dim=-1).mean(dim=-1)


def _bce(
    logits_BK: Float[Tensor, "*heads batch classes"], targets_BK: Float[Tensor, "batch classes"]
) -> Float[Tensor, "*heads batch classes"]:
    return functional.binary_cross_entropy_with_logits(logits_BK, targets_BK.expand_as(logits_BK), reduction="none")


def build_loss(
    name: str,
    alpha: float = 0.25,
    gamma: float = 2.0,
    smoothing: float = 0.0,
    weights_K: Float[Tensor, " classes"] | None = None,
) -> Loss:
    """A loss of logits and targets.

    Args:
        name: one of :data:`LOSSES`.
        alpha: the focal loss's scale.
        gamma: its exponent.
        smoothing: label smoothing, see :func:`smooth`.
        weights_K: what each class's terms are multiplied by, see :func:`class_weights`.

    Raises:
        InputError: unknown name.
    """
    if name not in LOSSES:
        raise InputError(f"A loss is one of {', '.join(LOSSES)}; got {name!r}.")
    losses: dict[str, Loss] = {
        "cross-entropy": partial(cross_entropy_loss, weights_K=weights_K),
        "focal": partial(focal_loss, alpha=alpha, gamma=gamma, weights_K=weights_K),
        "bce": partial(bce_loss, weights_K=weights_K),
    }
    loss = losses[name]
    if not smoothing:
        return loss
    return lambda logits, targets: loss(logits, smooth(targets, smoothing, name))


def smooth(targets_BK: Float[Tensor, "batch classes"], smoothing: float, loss: str) -> Float[Tensor, "batch classes"]:
    """Targets moved a share of the way to knowing nothing: 1/K for softmax, 1/2 for sigmoids (Szegedy et al., 2016)."""
    nothing = 1 / targets_BK.shape[1] if loss == "cross-entropy" else 0.5
    return (1 - smoothing) * targets_BK + smoothing * nothing


def class_weights(targets_NK: Float32[np.ndarray, "videos classes"], loss: str) -> Float32[np.ndarray, " classes"]:
    """Weights against frequent classes, each inversely proportional to its count in training.

    For softmax scaled so that the mean weight over training videos is 1, ``N / (K n_k)``; for sigmoids so that the mean
    over classes is 1. A class without videos counts as having one.
    """
    inverse_K = 1 / np.maximum(targets_NK.sum(axis=0), 1)
    scale = len(targets_NK) / len(inverse_K) if loss == "cross-entropy" else 1 / inverse_K.mean()
    return (scale * inverse_K).astype(np.float32)


def probabilities(logits_NK: Float[Tensor, "videos classes"], loss: str) -> Float[Tensor, "videos classes"]:
    """Scores from 0 to 1 that fit the loss: softmax for cross-entropy, sigmoids for the others.

    In float64, so that confident scores do not collapse into ties.
    """
    logits_NK = logits_NK.double()
    return logits_NK.softmax(dim=1) if loss == "cross-entropy" else logits_NK.sigmoid()
