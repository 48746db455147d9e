"""Linear heads for many layers and timesteps trained at once: their weights are one tensor, a step one multiplication.

On a CPU heads are taken by groups whose weights stay near the processor from step to step: small ones by the dozen, so
that Python is called once for all; large ones by twos and threes, as their arithmetic is all there is.

Axes: H heads, B batch, F frames, C channels, K classes, N videos.
"""

# ruff: noqa: N803, N806 - letters in names say the axes

import copy
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Float64
from torch import Tensor

from actiondiff.heads.batch import Batch, Order
from actiondiff.heads.data import LabelledFeatures, free_memory_bytes
from actiondiff.heads.lagging_adamw import AdamWStep, LaggingAdamW
from actiondiff.heads.losses import Loss, build_loss, class_weights, probabilities
from actiondiff.heads.metrics import average_precisions, multi_hot
from actiondiff.heads.mixup import epoch_draws, mixup
from actiondiff.heads.models import LinearHead, build_head
from actiondiff.heads.presets import FitConfig, resolved
from actiondiff.heads.ragged import Gatherer
from actiondiff.heads.schedule import lr_factor, warmup_length
from actiondiff.heads.training import TrainedHead, fast_precision, pick_device
from actiondiff.store import FeatureKey

COPIES_OF_THE_WEIGHTS = 4
"""Weights, AdamW's two moments, the best epoch's weights."""
GROUP_NUMBERS = 1 << 23
"""Weights of a group of heads on a CPU."""


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
    keys = list(train)
    done: dict[FeatureKey, TrainedHead] = {}
    fresh = _fresh_head(first, config)
    many = max(1, GROUP_NUMBERS // fresh.classifier.weight.numel()) if device == "cpu" else len(keys)
    for at in range(0, len(keys), many):
        group = keys[at : at + many]
        chosen_by = [val[key] for key in group] if val else None
        grid = _Grid([train[key] for key in group], chosen_by, config, torch.device(device), fresh)
        while not grid.is_over:
            grid.run_epoch()
        done |= dict(zip(group, grid.trained(), strict=True))
    return done


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
        fresh: LinearHead,
    ) -> None:
        self._config, self._data, self._device = config, train[0], device
        self._heads = [_own_head(fresh, data, config, device) for data in train]
        self._gather = _gatherer(train, device)
        self._gather_val = _gatherer(val, device) if val else None
        self._val = val[0] if val else None
        self._targets_NK = torch.from_numpy(self._data.targets_NK).to(device)
        self._loss = _loss_of(config, self._targets_NK)
        self._weight_FHKC = torch.stack([head.classifier.weight.detach() for head in self._heads], dim=1)
        self._bias_HK = torch.stack([head.classifier.bias.detach() for head in self._heads])
        self._learner = LaggingAdamW(self._weight_FHKC, config.weight_decay)
        self._bias_moments = torch.zeros_like(self._bias_HK), torch.zeros_like(self._bias_HK)
        self._steps = torch.zeros((), device=device)
        self._changes = [head.standardize for head in self._heads] if config.standardize else None
        lengths_N = np.minimum(self._data.ragged.lengths_N, config.max_length or 1)
        self._order = Order(lengths_N, config.batch_size, config.seed)
        self._dtype = torch.bfloat16 if config.precision == "bfloat16" else torch.float32
        self._best_H = np.full(len(train), -np.inf)
        self._best_epoch_H = np.zeros(len(train), dtype=int)
        self._best = (self._weight_FHKC, self._bias_HK)
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
            lr = config.lr * lr_factor(epoch * steps + step, warmup, config.epochs * steps)
            features, mask_BF = self._gather.batch(videos, config.max_length, self._changes)
            batch = Batch(features, mask_BF, self._targets_NK[torch.from_numpy(videos)])
            losses.append(self._update(mixup(batch, config.mixup, mixing), lr))
        self._learner.bring_up()
        values_H = None
        if self._gather_val is not None and self._val is not None:
            values_H = self._validated(self._gather_val, self._val)
            better = (values_H > self._best_H) & ~self._stopped(epoch)
            self._best_H[better], self._best_epoch_H[better] = values_H[better], epoch + 1
            chosen = torch.from_numpy(np.flatnonzero(better)).to(self._device)
            self._best[0][:, chosen] = self._weight_FHKC[:, chosen]
            self._best[1][chosen] = self._bias_HK[chosen]
        else:
            self._best_epoch_H[:] = epoch + 1
        self._history.append((torch.stack(losses).mean(dim=0).cpu().numpy(), values_H))

    def _stopped(self, epoch: int) -> Bool[np.ndarray, " heads"]:
        """Heads that alone would have stopped early: the others may still go on, these keep what they had."""
        patience = self._config.patience
        return np.zeros(len(self._best_H), bool) if patience is None else epoch - self._best_epoch_H >= patience

    def _update(self, batch: Batch, lr: float) -> Float[Tensor, " heads"]:
        """One step of all heads; each one's loss."""
        x_FHBC = batch.features_BFC.permute(2, 0, 1, 3).to(self._dtype)
        self._learner.bring_up(len(x_FHBC))
        logits_HBK = self._logits(x_FHBC).requires_grad_()
        losses_H = self._loss(logits_HBK, batch.targets_BK)
        [grad_HBK] = torch.autograd.grad(losses_H.sum(), logits_HBK)
        self._learner.learn(grad_HBK.mT, x_FHBC)
        self._learner.step(lr)
        first, second = self._bias_moments
        step = AdamWStep(lr, self._config.weight_decay)
        step.move([self._bias_HK], [grad_HBK.sum(dim=1)], [first], [second], [self._steps])
        return losses_H.detach()

    @torch.no_grad()
    def _logits(self, x_FHBC: Float[Tensor, "frames heads batch channels"]) -> Float[Tensor, "heads batch classes"]:
        frames, heads = x_FHBC.shape[:2]
        weight = self._weight_FHKC[:frames].to(x_FHBC.dtype).flatten(0, 1)
        product_HKB = torch.bmm(weight, x_FHBC.flatten(0, 1).mT).unflatten(0, (frames, heads)).sum(dim=0)
        return product_HKB.mT.float() + self._bias_HK[:, None]

    @torch.no_grad()
    def _validated(self, gather: Gatherer, val: LabelledFeatures) -> Float64[np.ndarray, " heads"]:
        """Each head's metric that chooses the epoch; in float32, as :func:`score` has it."""
        logits_HNK = torch.zeros(len(self._heads), len(val), len(val.classes))
        by_length = np.argsort(val.ragged.lengths_N, kind="stable")
        for at in range(0, len(val), 64):
            videos = by_length[at : at + 64]
            features, _ = gather.batch(videos, self._config.max_length, self._changes)
            logits_HNK[:, torch.from_numpy(videos)] = self._logits(features.permute(2, 0, 1, 3)).cpu()
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
                head.classifier.weight.copy_(self._best[0][:, number])
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


def _gatherer(parts: Sequence[LabelledFeatures], device: torch.device) -> Gatherer:
    return Gatherer([each.ragged for each in parts], device, reuse=True, frames_first=True)


def _fresh_head(data: LabelledFeatures, config: FitConfig) -> LinearHead:
    """A head with the first weights that the seed gives to all of them."""
    with torch.random.fork_rng():
        torch.manual_seed(config.seed)
        head = build_head(config.head_config(data.channels, len(data.classes), config.max_length or 1))
    assert isinstance(head, LinearHead)
    return head


def _own_head(fresh: LinearHead, data: LabelledFeatures, config: FitConfig, device: torch.device) -> LinearHead:
    """A copy of it that knows how these features are standardised."""
    head = copy.deepcopy(fresh)
    if head.standardize is not None:
        head.standardize.measure(data.ragged, config.max_length)
    return head.to(device)


def _loss_of(config: FitConfig, targets_NK: Float[Tensor, "videos classes"]) -> Loss:
    loss, weights_K = config.loss or "", None
    if config.class_weights == "balanced":
        weights_K = torch.from_numpy(class_weights(targets_NK.cpu().numpy(), loss)).to(targets_NK.device)
    return build_loss(loss, config.focal_alpha, config.focal_gamma, config.label_smoothing, weights_K)
