"""The head inside Lightning: a training step, its optimiser and schedule, and the best epoch kept in memory."""

# ruff: noqa: N806 - letters in names say the axes

from collections.abc import Callable
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from torch import Tensor, distributed

from actiondiff.heads.batch import Batch
from actiondiff.heads.data import LabelledFeatures
from actiondiff.heads.frame_adamw import FrameAdamW
from actiondiff.heads.losses import Loss, build_loss, class_weights, probabilities
from actiondiff.heads.metrics import Predictions, measure
from actiondiff.heads.mixup import epoch_draws, mixup
from actiondiff.heads.models import Head
from actiondiff.heads.presets import FitConfig
from actiondiff.heads.ragged import Gatherer
from actiondiff.heads.resuming import FitState
from actiondiff.heads.schedule import lr_factor, warmup_length


class HeadModule(pl.LightningModule):
    """Trains a head and remembers the weights of its best epoch.

    Lightning hands it indices of videos; batches are gathered here, on the device. Updates are written out
    (Lightning's manual optimisation), several a step of Lightning's: its hooks and its wrappers around optimiser and
    schedule cost more than a small head's arithmetic. Whatever is random in an epoch follows from seed and epoch, so
    that a fit can go on from the end of any epoch.

    With several processes (one batch a step then) each sees every batch whole, blends it alike, and trains on its
    share.

    Args:
        head: with fresh weights.
        config: with nothing left open.
        train: the training part.
        val: the validation part; without one the last epoch is the best.
        state: to go on from.
        watch: told of every epoch's end.

    Attributes:
        best_epoch: counted from 1; the earliest of those with the highest validation metric.
        best_weights: its state dict, on the CPU.
        history: for each epoch its mean training loss and, with a validation part, its metrics.
    """

    def __init__(
        self,
        head: Head,
        config: FitConfig,
        train: LabelledFeatures,
        val: LabelledFeatures | None,
        state: FitState | None = None,
        watch: Callable[["HeadModule"], None] = lambda module: None,
    ) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.head, self.config, self._train, self._val = head, config, train, val
        self._state, self._watch = state, watch
        self._best = float("-inf") if state is None else state.best_value
        self.best_epoch = 0 if state is None else state.best_epoch
        self.best_weights: dict[str, Tensor] = {} if state is None else state.best_weights
        self.history: list[dict[str, Any]] = [] if state is None else list(state.history)
        self._steps_an_epoch = -(-len(train) // config.batch_size)
        self._losses: list[Tensor] = []
        if state is not None:
            head.load_state_dict(state.weights)

    @property
    def epoch(self) -> int:
        """Epochs done, those of an earlier session included."""
        return len(self.history)

    def used_lengths(self) -> np.ndarray:
        """Frames of each training video that are used."""
        return np.minimum(self._train.ragged.lengths_N, self.config.max_length or 1)

    def setup(self, stage: str) -> None:
        """Features, targets and loss on the device."""
        self._gather, self._targets_NK = self._placed(self._train)
        self._gather_val = self._placed(self._val)[0] if self._val is not None else self._gather
        self._loss = self._build_loss()

    def _placed(self, data: LabelledFeatures) -> tuple[Gatherer, Tensor]:
        return Gatherer(data.ragged, self.trainer.strategy.root_device, reuse=True), self._on_device(data.targets_NK)

    def _on_device(self, values: np.ndarray) -> Tensor:
        return torch.from_numpy(values).to(self.trainer.strategy.root_device)

    def _build_loss(self) -> Loss:
        config, weights_K = self.config, None
        if config.class_weights == "balanced":
            weights_K = self._on_device(class_weights(self._train.targets_NK, config.loss or ""))
        return build_loss(config.loss or "", config.focal_alpha, config.focal_gamma, config.label_smoothing, weights_K)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """AdamW, all of an update in one pass over the weights; the schedule is set at every step."""
        # A strategy for several processes has hooks on gradients, with one process too.
        lagging = not distributed.is_initialized()
        optimizer = FrameAdamW(self.head, self.config.lr, self.config.weight_decay, lagging=lagging)
        if self._state is not None:
            optimizer.load_state_dict(self._state.optimizer_state(optimizer))
            self._state = None
        return optimizer

    def transfer_batch_to_device(self, batch: list[np.ndarray], device: torch.device, dataloader_idx: int) -> Any:
        """Indices stay where they are."""
        return batch

    def on_train_epoch_start(self) -> None:
        """Begin the epoch's random numbers; the head's dropout draws from torch's own."""
        self._mixing, seed = epoch_draws(self.config.seed, self.epoch)
        torch.manual_seed(seed + self.global_rank)
        self._optimizer = self.trainer.optimizers[0]

    def training_step(self, batches: list[np.ndarray], batch_index: int) -> None:
        """One update for each of these batches."""
        for videos in batches:
            self._update(videos)

    def _update(self, videos: np.ndarray) -> None:
        """One update from a batch, blended by MixUp after standardisation (padding is zero only then)."""
        batch, weight = self._share(mixup(self._batch(videos), self.config.mixup, self._mixing))
        loss = self._loss(self.head.logits(batch.features_BFC, batch.mask_BF), batch.targets_BK)
        for group in self._optimizer.param_groups:
            group["lr"] = self.config.lr * self._lr_factor()
        self.manual_backward(loss if weight == 1 else weight * loss)
        self._optimizer.step()
        self._optimizer.zero_grad()
        self._losses.append(weight * loss.detach())

    def _batch(self, videos: np.ndarray) -> Batch:
        features_BFC, mask_BF = self._gather.batch(videos, self.config.max_length, self.head.standardize)
        return Batch(features_BFC, mask_BF, self._targets_NK[torch.from_numpy(videos)])

    def _share(self, batch: Batch) -> tuple[Batch, float]:
        """This process's videos of a batch, and their weight: gradients are averaged over processes."""
        world, count = self.trainer.world_size, len(batch)
        if world == 1:
            return batch, 1.0
        own = slice(self.global_rank, None, world) if self.global_rank < count else slice(0, 1)
        videos = len(range(count)[own]) if self.global_rank < count else 0
        part = Batch(batch.features_BFC[own], batch.mask_BF[own], batch.targets_BK[own])
        return part, videos * world / count

    def _lr_factor(self) -> float:
        epochs, steps = self.config.epochs, self._steps_an_epoch
        warmup = warmup_length(self.config.warmup_epochs, epochs, steps)
        return lr_factor(self.epoch * steps + len(self._losses), warmup, epochs * steps)

    def on_train_epoch_end(self) -> None:
        """Close the epoch's record; without a validation part the last epoch is the best."""
        assert isinstance(self._optimizer, FrameAdamW)
        self._optimizer.bring_up()
        losses = self._summed(torch.stack(self._losses)) / self.trainer.world_size
        record: dict[str, Any] = {"epoch": self.epoch + 1, "loss": float(losses.mean())}
        self._losses.clear()
        if self._val is not None:
            record |= self._validated(self._val)
        elif self.epoch + 1 == self.config.epochs:
            self._keep()
        self.history.append(record)
        if self.config.patience is not None and self.epoch - self.best_epoch >= self.config.patience:
            self.trainer.should_stop = True
        if self.logger is not None:
            shown = {name: value for name, value in record.items() if isinstance(value, float)}
            shown["lr"] = self._optimizer.param_groups[0]["lr"]
            self.logger.log_metrics(shown, self.epoch)
        self.trainer.train_dataloader.epoch = self.epoch  # type: ignore[union-attr]
        if self.trainer.is_global_zero:
            self._watch(self)

    @torch.no_grad()
    def _validated(self, val: LabelledFeatures) -> dict[str, Any]:
        """Metrics of the validation part, each video scored once, by one of the processes."""
        self.head.eval()
        logits_NK = torch.zeros(len(val), len(val.classes), device=self.trainer.strategy.root_device)
        by_length = np.argsort(val.ragged.lengths_N, kind="stable")
        batches = [by_length[at : at + 64] for at in range(0, len(val), 64)]
        for videos in batches[self.global_rank :: self.trainer.world_size]:
            features_BFC, mask_BF = self._gather_val.batch(videos, self.config.max_length)
            logits_NK[torch.from_numpy(videos)] = self.head(features_BFC, mask_BF)
        self.head.train()
        scores = probabilities(self._summed(logits_NK).cpu(), self.config.loss or "").numpy()
        metrics = measure(Predictions(val.video_ids, val.labels, val.classes, scores, val.multilabel))
        if metrics.main > self._best:
            self._best = metrics.main
            self._keep()
        values = metrics.to_dict()
        return {f"val_{name}": values[name] for name in ("accuracy", "map_macro", "map_micro") if name in values}

    def _summed(self, values: Tensor) -> Tensor:
        """The sum over all processes."""
        if self.trainer.world_size > 1:
            distributed.all_reduce(values)
        return values

    def _keep(self) -> None:
        self.best_epoch = self.epoch + 1
        self.best_weights = _on_cpu(self.head.state_dict())

    def state(self) -> FitState:
        """Everything that the fit needs to go on from here."""
        return FitState(
            weights=_on_cpu(self.head.state_dict()),
            best_weights=self.best_weights,
            moments=FitState.moments_of(self.trainer.optimizers[0]),
            history=tuple(self.history),
            best_epoch=self.best_epoch,
            best_value=self._best,
        )

    def take(self, state: FitState) -> None:
        """What another process has come to."""
        self.best_weights, self.best_epoch, self.history = state.best_weights, state.best_epoch, list(state.history)

    def release(self, trainer: pl.Trainer) -> None:
        """Let go of what takes memory: trainer and module hold each other, so it would stay until Python looks."""
        for optimizer in trainer.strategy.optimizers:
            assert isinstance(optimizer, FrameAdamW)
            optimizer.detach()
        trainer.strategy.optimizers = []
        self.head.zero_grad(set_to_none=True)
        self.best_weights = {}
        for name in ("_optimizer", "_gather", "_gather_val", "_targets_NK", "_loss"):
            self.__dict__.pop(name, None)
        del self.head, self._train, self._val


def _on_cpu(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: value.detach().cpu().clone() for name, value in weights.items()}
