"""The head inside Lightning: a training step, the optimiser and its schedule, and the best epoch kept in memory."""

# ruff: noqa: N806 - letters in names say the axes

from dataclasses import replace
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from pytorch_lightning.utilities.types import OptimizerLRScheduler
from torch import Tensor

from actiondiff.heads.batch import Batch
from actiondiff.heads.data import LabelledFeatures
from actiondiff.heads.losses import build_loss, probabilities
from actiondiff.heads.metrics import Predictions, measure
from actiondiff.heads.mixup import mixup
from actiondiff.heads.models import Head
from actiondiff.heads.presets import FitConfig
from actiondiff.heads.schedule import lr_factor, warmup_length


class HeadModule(pl.LightningModule):
    """Trains a head and remembers the weights of its best epoch.

    Args:
        head: with fresh weights.
        config: with loss and ``max_length`` settled.
        val: the validation part; without one the last epoch is the best.

    Attributes:
        best_epoch: counted from 1; the earliest of those with the highest validation metric.
        best_weights: its state dict, on the CPU.
        history: for each epoch its mean training loss and, with a validation part, its metrics.
    """

    def __init__(self, head: Head, config: FitConfig, val: LabelledFeatures | None) -> None:
        super().__init__()
        self.head, self.config, self._val = head, config, val
        self._loss = build_loss(config.loss or "", config.focal_alpha, config.focal_gamma)
        self._mixing = np.random.default_rng([config.seed, 1])
        self._losses: list[Tensor] = []
        self._logits: list[Tensor] = []
        self._best = float("-inf")
        self.best_epoch = 0
        self.best_weights: dict[str, Tensor] = {}
        self.history: list[dict[str, Any]] = []

    def training_step(self, batch: Batch, batch_index: int) -> Tensor:
        """Loss of a batch, blended by MixUp after standardisation (padding is zero only then)."""
        features_BFC, mask_BF = self.head.prepare(batch.features_BFC, batch.mask_BF)
        batch = mixup(replace(batch, features_BFC=features_BFC, mask_BF=mask_BF), self.config.mixup, self._mixing)
        loss = self._loss(self.head.logits(batch.features_BFC, batch.mask_BF), batch.targets_BK)
        self._losses.append(loss.detach())
        return loss

    def on_train_epoch_end(self) -> None:
        """Close the epoch's record (after its validation); without a validation part the last epoch is the best."""
        record: dict[str, Any] = {"epoch": self.current_epoch + 1, "loss": float(torch.stack(self._losses).mean())}
        self._losses.clear()
        if self._val is not None:
            record |= self._validated(self._val)
        elif self.current_epoch + 1 == self.config.epochs:
            self._keep()
        self.history.append(record)
        if self.logger is not None:
            shown = {name: value for name, value in record.items() if isinstance(value, float)}
            shown["lr"] = self.trainer.optimizers[0].param_groups[0]["lr"]
            self.logger.log_metrics(shown, self.current_epoch + 1)

    def validation_step(self, batch: Batch, batch_index: int) -> None:
        """Gather the validation part's logits, in the part's own order."""
        self._logits.append(self.head(batch.features_BFC, batch.mask_BF).cpu())

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """AdamW, with the schedule stepped after every batch."""
        optimizer = torch.optim.AdamW(self.head.parameters(), lr=self.config.lr, weight_decay=self.config.weight_decay)
        total = int(self.trainer.estimated_stepping_batches)
        warmup = warmup_length(self.config.warmup_epochs, self.config.epochs, total // self.config.epochs)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: lr_factor(step, warmup, total))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def release(self) -> None:
        """Let go of what takes memory: trainer and module hold each other, so it would stay until Python looks."""
        self.trainer.strategy.optimizers = []
        self.trainer.strategy.lr_scheduler_configs = []
        self.head.zero_grad(set_to_none=True)
        self.best_weights = {}
        del self.head

    def _validated(self, val: LabelledFeatures) -> dict[str, Any]:
        scores = probabilities(torch.cat(self._logits), self.config.loss or "").numpy()
        self._logits.clear()
        metrics = measure(Predictions(val.video_ids, val.labels, val.classes, scores, val.multilabel))
        if metrics.main > self._best:
            self._best = metrics.main
            self._keep()
        values = metrics.to_dict()
        return {f"val_{name}": values[name] for name in ("accuracy", "map_macro", "map_micro") if name in values}

    def _keep(self) -> None:
        self.best_epoch = self.current_epoch + 1
        self.best_weights = {name: value.detach().cpu().clone() for name, value in self.head.state_dict().items()}
