"""Training one head on features in memory, with a quiet Lightning trainer that leaves no trace."""

# ruff: noqa: N806 - letters in names say the axes

import logging
import re
import signal
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from pytorch_lightning.loggers import TensorBoardLogger

from actiondiff import InputError
from actiondiff.heads.data import Batches, LabelledFeatures
from actiondiff.heads.losses import probabilities
from actiondiff.heads.metrics import Predictions
from actiondiff.heads.models import Head, build_head
from actiondiff.heads.module import HeadModule
from actiondiff.heads.presets import FitConfig, resolved

Progress = Callable[[int, int], None]
"""Told how much is done and how much there is."""


@dataclass(frozen=True, eq=False)
class TrainedHead:
    """A head after training.

    Attributes:
        head: with the weights of the best epoch, in evaluation mode, on the CPU.
        config: the settings used, with nothing left open.
        best_epoch: counted from 1; the last one where there was no validation part.
        history: loss and validation metrics of each epoch.
    """

    head: Head
    config: FitConfig
    best_epoch: int
    history: tuple[dict[str, Any], ...]


def train_head(
    train: LabelledFeatures,
    val: LabelledFeatures | None,
    config: FitConfig,
    *,
    logs: Path | None = None,
    device: str = "auto",
    progress: Progress | None = None,
) -> TrainedHead:
    """Train a head and keep its best epoch; the caller's random numbers are left alone.

    Args:
        train: what it learns from.
        val: what chooses the epoch; None for the last epoch.
        config: the settings.
        logs: folder for TensorBoard logs; None for none.
        device: ``auto``, ``cpu`` or ``cuda``.
        progress: told after every epoch.

    Raises:
        InputError: settings that do not fit the data.
    """
    config = resolved(config, train.longest, train.multilabel)
    device = pick_device(device)
    with torch.random.fork_rng(), quiet():
        torch.manual_seed(config.seed)
        head = build_head(config.head_config(train.channels, len(train.classes), config.max_length or 1))
        if head.standardize is not None:
            head.standardize.measure([array[: config.max_length] for array in train.features])
        module = HeadModule(head, config, val)
        _fit(_trainer(config, val is not None, logs, device, progress), module, train, val)
    head.load_state_dict(module.best_weights)
    module.release()
    return TrainedHead(head.cpu().eval(), config, module.best_epoch, tuple(module.history))


def score(head: Head, data: LabelledFeatures, loss: str, *, batch_size: int = 64, device: str = "auto") -> Predictions:
    """Score every video of some data once.

    Args:
        head: a trained head; it is put in evaluation mode.
        data: the videos.
        loss: what the head was trained with; it decides between softmax and sigmoids.
        batch_size: videos at a time.
        device: ``auto``, ``cpu`` or ``cuda``; the head returns to the CPU.
    """
    device = pick_device(device)
    head.to(device).eval()
    batches = Batches(data, batch_size, head.config.max_length)
    with torch.inference_mode():
        logits = [head(batch.features_BFC.to(device), batch.mask_BF.to(device)).cpu() for batch in batches]
    head.cpu()
    scores_NK = probabilities(torch.cat(logits), loss).numpy()
    return Predictions(data.video_ids, data.labels, data.classes, scores_NK, data.multilabel)


def pick_device(device: str) -> str:
    """``cuda``, ``cuda:N`` or ``cpu``; ``auto`` takes the first that is there.

    Raises:
        InputError: another name, or a device that is not there.
    """
    if re.fullmatch(r"auto|cpu|cuda(:\d+)?", device) is None:
        raise InputError(f"A device is auto, cpu, cuda or cuda:N; got {device!r}.")
    if device in ("auto", "cpu"):
        return "cuda" if device == "auto" and torch.cuda.is_available() else "cpu"
    number = int(device.partition(":")[2] or 0)
    if number >= torch.cuda.device_count():
        raise InputError(f"There is no CUDA device {number} here, of {torch.cuda.device_count()}. Use --device cpu.")
    return device


class _Ticker(pl.Callback):
    """Passes the end of every epoch on."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._progress(trainer.current_epoch + 1, trainer.max_epochs or 0)


def _trainer(
    config: FitConfig, validates: bool, logs: Path | None, device: str, progress: Progress | None
) -> pl.Trainer:
    return pl.Trainer(
        max_epochs=config.epochs,
        accelerator="cpu" if device == "cpu" else "gpu",
        devices=[int(device.partition(":")[2] or 0)] if device != "cpu" else 1,
        logger=False if logs is None else TensorBoardLogger(logs, name="", version="", default_hp_metric=False),
        callbacks=[_Ticker(progress)] if progress else [],
        limit_val_batches=None if validates else 0,
        num_sanity_val_steps=0,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )


def _fit(trainer: pl.Trainer, module: HeadModule, train: LabelledFeatures, val: LabelledFeatures | None) -> None:
    config = module.config
    length = config.max_length or 1
    order = int(np.random.SeedSequence([config.seed, 0]).generate_state(1)[0])
    batches = Batches(train, config.batch_size, length, seed=order)
    ctrl_c = signal.getsignal(signal.SIGINT)
    try:
        trainer.fit(module, batches, None if val is None else Batches(val, 64, length))
    except SystemExit as error:  # Lightning answers Ctrl-C by ignoring the next one and leaving with a code of its own
        if isinstance(error.__context__, KeyboardInterrupt):
            signal.signal(signal.SIGINT, ctrl_c)
            raise KeyboardInterrupt from error
        raise


@contextmanager
def quiet() -> Iterator[None]:
    """Keep Lightning's notices about hardware, workers and tips to itself; errors come through."""
    loggers = [logging.getLogger(name) for name in ("pytorch_lightning", "lightning_fabric", "lightning.pytorch")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module=r"(pytorch_lightning|lightning_fabric|torch)\b.*")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
