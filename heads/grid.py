"""Linear heads for many layers and timesteps trained at once: their weights are one tensor, a step one multiplication.

Axes: H heads, B batch, F frames, C channels, D = frames x channels, K classes, N videos.
"""

# ruff: noqa: N803, N806 - letters in names say the axes

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Float64
from torch import Tensor

from actiondiff.heads.batch import Batch, Order
from actiondiff.heads.data import LabelledFeatures, free_memory_bytes
from actiondiff.heads.losses import Loss, build_loss, class_weights, probabilities
from actiondiff.heads.metrics import average_precisions, multi_hot
from actiondiff.heads.mixup import epoch_draws, mixup
from actiondiff.heads.models import LinearHead, build_head
from actiondiff.heads.presets import FitConfig, resolved
from actiondiff.heads.ragged import Gatherer
from actiondiff.heads.schedule import lr_factor, warmup_length
from actiondiff.heads.training import TrainedHead, fast_precision, pick_device
from actiondiff.store import FeatureKey

COPIES_OF_THE_WEIGHTS = 5
"""Weights, gradient, AdamW's two moments, the best epoch's weights."""


def train_grid(
    train: Mapping[FeatureKey, LabelledFeatures],
    val: Mapping[FeatureKey, LabelledFeatures] | None,
    config: FitConfig,
    *,
    device: str = "auto",
) -> dict[FeatureKey, TrainedHead]:
    """Train a linear head on each of several features of the same videos, all in one computation.

    The heads are those that :func:`train_head` trains one after another, but for rounding: same first weights, order,
    blends, schedule and choice of the epoch.

    Args:
        train: what each learns from: the same videos in the same order, the same channels.
        val: what chooses each one's epoch; None for the last.
        config: the settings, of a linear head.
        device: ``auto``, ``cpu`` or ``cuda``.
    """
    device = pick_device(device)
    first = next(iter(train.values()))
    config = resolved(config, first.longest, first.multilabel, first.channels)
    if config.precision == "auto":
        config = replace(config, precision=fast_precision(device), settled=(*config.settled, "precision"))
    grid = _Grid(list(train.values()), list(val.values()) if val else None, config, torch.device(device))
    while not grid.is_over:
        grid.run_epoch()
    return dict(zip(train, grid.trained(), strict=True))


def heads_at_once(data: LabelledFeatures, config: FitConfig, device: str) -> int:
    """How many heads on such features may be trained together in half of the memory that is free."""
    device = pick_device(device)
    free = free_memory_bytes() if device == "cpu" else torch.cuda.mem_get_info(device)[0]
    frames = config.max_length or data.longest
    weights = COPIES_OF_THE_WEIGHTS * 4 * len(data.classes) * frames * data.channels
    rows = int(data.ragged.lengths_N.sum()) * data.channels * data.ragged.rows_RC.itemsize
    batch = 3 * 4 * config.batch_size * frames * data.channels
    return max(1, free // 2 // (weights + rows + batch))


class _Grid:
    """The heads while they are trained."""

    def __init__(
        self,
        train: Sequence[LabelledFeatures],
        val: Sequence[LabelledFeatures] | None,
        config: FitConfig,
        device: torch.device,
    ) -> None:
        self._config, self._data, self._device = config, train[0], device
        self._heads = _fresh_heads(train, config, device)
        self._gather = Gatherer([each.ragged for each in train], device, reuse=True)
        self._gather_val = Gatherer([each.ragged for each in val], device, reuse=True) if val else None
        self._val = val[0] if val else None
        self._targets_NK = torch.from_numpy(self._data.targets_NK).to(device)
        self._loss = torch.vmap(_loss_of(config, self._targets_NK), in_dims=(0, None))
        self._weight_HKD = torch.stack([head.classifier.weight.detach() for head in self._heads]).requires_grad_()
        self._bias_HK = torch.stack([head.classifier.bias.detach() for head in self._heads]).requires_grad_()
        self._grad_HKD = self._weight_HKD.grad = torch.zeros_like(self._weight_HKD)
        self._used = 0
        self._changes = [head.standardize for head in self._heads] if config.standardize else None
        self._optimizer = torch.optim.AdamW(
            [self._weight_HKD, self._bias_HK], lr=config.lr, weight_decay=config.weight_decay, fused=True
        )
        lengths_N = np.minimum(self._data.ragged.lengths_N, config.max_length or 1)
        self._order = Order(lengths_N, config.batch_size, config.seed)
        self._dtype = torch.bfloat16 if config.precision == "bfloat16" else torch.float32
        self._best_H = np.full(len(train), -np.inf)
        self._best_epoch_H = np.zeros(len(train), dtype=int)
        self._best = (self._weight_HKD.detach(), self._bias_HK.detach())
        if val:
            self._best = (self._best[0].clone(), self._best[1].clone())
        self._history: list[tuple[np.ndarray, np.ndarray | None]] = []

    @property
    def is_over(self) -> bool:
        """Whether the last epoch was run, or no head has got better for as long as the settings wait."""
        epoch, patience = len(self._history), self._config.patience
        waited = patience is not None and epoch > 0 and bool((epoch - self._best_epoch_H >= patience).all())
        return epoch >= self._config.epochs or waited

    def run_epoch(self) -> None:
        """One pass over the training videos, and what validation says of it."""
        config, epoch = self._config, len(self._history)
        mixing, _ = epoch_draws(config.seed, epoch)
        self._order.epoch = epoch
        steps = self._order.batches
        warmup = warmup_length(config.warmup_epochs, config.epochs, steps)
        losses = []
        for step, [videos] in enumerate(self._order):
            for group in self._optimizer.param_groups:
                group["lr"] = config.lr * lr_factor(epoch * steps + step, warmup, config.epochs * steps)
            features, mask_BF = self._gather.batch(videos, config.max_length, self._changes)
            batch = Batch(features, mask_BF, self._targets_NK[torch.from_numpy(videos)])
            losses.append(self._update(mixup(batch, config.mixup, mixing)))
        values_H = None
        if self._gather_val is not None and self._val is not None:
            values_H = self._validated(self._gather_val, self._val)
            better = (values_H > self._best_H) & ~self._stopped(epoch)
            self._best_H[better], self._best_epoch_H[better] = values_H[better], epoch + 1
            chosen = torch.from_numpy(np.flatnonzero(better)).to(self._device)
            self._best[0][chosen], self._best[1][chosen] = (
                self._weight_HKD.detach()[chosen],
                self._bias_HK.detach()[chosen],
            )
        else:
            self._best_epoch_H[:] = epoch + 1
        self._history.append((torch.stack(losses).mean(dim=0).cpu().numpy(), values_H))

    def _stopped(self, epoch: int) -> Bool[np.ndarray, " heads"]:
        """Heads that alone would have stopped early: the others may still go on, these keep what they had."""
        patience = self._config.patience
        return np.zeros(len(self._best_H), bool) if patience is None else epoch - self._best_epoch_H >= patience

    def _update(self, batch: Batch) -> Float[Tensor, " heads"]:
        """One step of all heads; each one's loss."""
        x_HBD = batch.features_BFC.flatten(2).to(self._dtype)
        used = x_HBD.shape[2]
        logits_HBK = self._logits(x_HBD).requires_grad_()
        losses_H = self._loss(logits_HBK, batch.targets_BK)
        [grad_HBK] = torch.autograd.grad(losses_H.sum(), logits_HBK)
        if self._dtype == torch.float32:  # written where it belongs: four times as fast as a copy of it
            self._grad_HKD[:, :, :used].baddbmm_(grad_HBK.mT, x_HBD, beta=0)
        else:
            self._grad_HKD[:, :, :used] = torch.bmm(grad_HBK.mT.to(self._dtype), x_HBD)
        self._bias_HK.grad = grad_HBK.sum(dim=1)
        self._grad_HKD[:, :, used : self._used].zero_()  # what the batch before has left
        self._used = used
        self._optimizer.step()
        return losses_H.detach()

    @torch.no_grad()
    def _logits(self, x_HBD: Float[Tensor, "heads batch inputs"]) -> Float[Tensor, "heads batch classes"]:
        weight_HKD = self._weight_HKD[:, :, : x_HBD.shape[2]].to(self._dtype)
        return torch.bmm(weight_HKD, x_HBD.mT).mT.float() + self._bias_HK[:, None]

    @torch.no_grad()
    def _validated(self, gather: Gatherer, val: LabelledFeatures) -> Float64[np.ndarray, " heads"]:
        """Each head's metric that chooses the epoch; in float32, as :func:`score` has it."""
        logits_HNK = torch.zeros(len(self._heads), len(val), len(val.classes))
        by_length = np.argsort(val.ragged.lengths_N, kind="stable")
        dtype, self._dtype = self._dtype, torch.float32
        for at in range(0, len(val), 64):
            videos = by_length[at : at + 64]
            features, _ = gather.batch(videos, self._config.max_length, self._changes)
            logits_HNK[:, torch.from_numpy(videos)] = self._logits(features.flatten(2)).cpu()
        self._dtype = dtype
        truth_NK = multi_hot(val.labels, val.classes)
        if not val.multilabel:
            best_HN = logits_HNK.argmax(dim=2).numpy()
            return np.array([truth_NK[np.arange(len(val)), best_N].mean() for best_N in best_HN])
        scores = [probabilities(logits_NK, self._config.loss or "").numpy() for logits_NK in logits_HNK]
        return np.array([average_precisions(scores_NK, truth_NK)[0] or 0.0 for scores_NK in scores])

    def trained(self) -> list[TrainedHead]:
        """The heads with the weights of their best epochs."""
        done = []
        for number, head in enumerate(self._heads):
            with torch.no_grad():
                head.classifier.weight.copy_(self._best[0][number])
                head.classifier.bias.copy_(self._best[1][number])
            best_epoch = int(self._best_epoch_H[number])
            done.append(TrainedHead(head.cpu().eval(), self._config, best_epoch, tuple(self._records(number))))
        return done

    def _records(self, number: int) -> list[dict[str, Any]]:
        chooses = "val_map_macro" if self._data.multilabel else "val_accuracy"
        return [
            {"epoch": epoch, "loss": float(losses_H[number])}
            | ({} if values_H is None else {chooses: float(values_H[number])})
            for epoch, (losses_H, values_H) in enumerate(self._history, 1)
        ]


def _fresh_heads(train: Sequence[LabelledFeatures], config: FitConfig, device: torch.device) -> list[LinearHead]:
    """A head for each of the features, all with the same first weights, as one seed gives them."""
    heads = []
    for data in train:
        with torch.random.fork_rng():
            torch.manual_seed(config.seed)
            head = build_head(config.head_config(data.channels, len(data.classes), config.max_length or 1))
        assert isinstance(head, LinearHead)
        if head.standardize is not None:
            head.standardize.measure(data.ragged, config.max_length)
        heads.append(head.to(device))
    return heads


def _loss_of(config: FitConfig, targets_NK: Float[Tensor, "videos classes"]) -> Loss:
    loss, weights_K = config.loss or "", None
    if config.class_weights == "balanced":
        weights_K = torch.from_numpy(class_weights(targets_NK.cpu().numpy(), loss)).to(targets_NK.device)
    return build_loss(loss, config.focal_alpha, config.focal_gamma, config.label_smoothing, weights_K)
