"""Training one head on features in memory, with a quiet Lightning trainer that leaves no trace."""

# ruff: noqa: N806 - letters in names say the axes

import logging
import os
import re
import signal
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from pytorch_lightning.loggers import TensorBoardLogger

from actiondiff import InputError
from actiondiff.heads.batch import Order
from actiondiff.heads.data import LabelledFeatures
from actiondiff.heads.losses import probabilities
from actiondiff.heads.metrics import Predictions
from actiondiff.heads.models import Head, build_head
from actiondiff.heads.module import HeadModule
from actiondiff.heads.presets import FitConfig, resolved
from actiondiff.heads.ragged import Gatherer
from actiondiff.heads.resuming import Checkpoint, FitState

BATCHES_AT_A_TIME = 16
"""Updates that Lightning's loop is passed for at once."""
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


@dataclass(frozen=True)
class Placement:
    """Where a head is trained.

    Attributes:
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        devices: how many processes, each with a GPU of its own or on the CPU; they share every batch.
        strategy: one of Lightning's; ``auto`` starts several processes as ``ddp_spawn``.
    """

    device: str = "auto"
    devices: int = 1
    strategy: str = "auto"

    def __post_init__(self) -> None:
        if self.devices < 1:
            raise InputError(f"A head is trained on one device or more; got {self.devices}.")


def train_head(
    train: LabelledFeatures,
    val: LabelledFeatures | None,
    config: FitConfig,
    *,
    logs: Path | None = None,
    device: str = "auto",
    placement: Placement | None = None,
    checkpoint: Checkpoint | None = None,
    progress: Progress | None = None,
) -> TrainedHead:
    """Train a head and keep its best epoch; the caller's random numbers are left alone.

    Args:
        train: what it learns from.
        val: what chooses the epoch; None for the last epoch.
        config: the settings.
        logs: folder for TensorBoard logs; None for none.
        device: ``auto``, ``cpu`` or ``cuda``.
        placement: in place of ``device`` where several are wanted.
        checkpoint: where the state is written after an epoch, and read from to go on; None for nowhere.
        progress: told after every epoch; not where Lightning starts processes of its own.

    Raises:
        InputError: settings that do not fit the data, or a state of another fit.
    """
    placement = placement or Placement(device)
    device = pick_device(placement.device)
    config = resolved(config, train.longest, train.multilabel, train.channels)
    if config.precision == "auto":
        config = replace(config, precision=fast_precision(device), settled=(*config.settled, "precision"))
    if config.patience is not None and val is None:
        raise InputError(
            "Early stopping needs a validation part, and there is none here. Give --val, or no --patience."
        )
    state = checkpoint.found() if checkpoint else None
    with torch.random.fork_rng(), quiet(), tempfile.TemporaryDirectory() as folder:
        torch.manual_seed(config.seed)
        head = build_head(config.head_config(train.channels, len(train.classes), config.max_length or 1))
        if head.standardize is not None and state is None:
            head.standardize.measure(train.ragged, config.max_length)
        spawns = placement.devices > 1 and placement.strategy in ("auto", "ddp_spawn")
        hand_over = Checkpoint(Path(folder) / "trained", {}, every_seconds=0.0) if spawns else None
        watch = _Watch(None if spawns else progress, checkpoint, hand_over)
        module = HeadModule(head, config, train, val, state, watch)
        is_over = _is_over(module)
        if not is_over:
            trainer = _trainer(config, placement, device, module.epoch, logs)
            _fit(trainer, module)
        if hand_over and hand_over.path.exists():
            module.take(FitState.load(hand_over.path, {}))
    head.load_state_dict(module.best_weights)
    best_epoch, history = module.best_epoch, tuple(module.history)
    if not is_over:
        module.release(trainer)
    return TrainedHead(head.cpu().eval(), config, best_epoch, history)


def _is_over(module: HeadModule) -> bool:
    """Whether the state that was found is of a fit that was done but for its last words."""
    waited = module.epoch - module.best_epoch
    patience = module.config.patience
    return module.epoch >= module.config.epochs or (bool(module.epoch) and patience is not None and waited >= patience)


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
    gather = Gatherer(data.ragged, device)
    logits_NK = torch.zeros(len(data), head.config.classes)
    by_length = np.argsort(gather.lengths_N, kind="stable")
    with torch.inference_mode():
        for at in range(0, len(data), batch_size):
            videos = by_length[at : at + batch_size]
            logits_NK[torch.from_numpy(videos)] = head(*gather.batch(videos, head.config.max_length)).cpu()
    head.cpu()
    scores_NK = probabilities(logits_NK, loss).numpy()
    return Predictions(data.video_ids, data.labels, data.classes, scores_NK, data.multilabel)


def fast_precision(device: str) -> str:
    """``bfloat16`` where the hardware multiplies it faster than float32: recent GPUs, CPUs with AMX."""
    if device == "cpu":
        has_tiles = getattr(torch.cpu, "_is_amx_tile_supported", lambda: False)()
        return "bfloat16" if has_tiles else "float32"
    return "bfloat16" if torch.cuda.get_device_capability(device)[0] >= 8 else "float32"


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


@dataclass(frozen=True)
class _Watch:
    """After every epoch: the state on disk, and word of how far it is."""

    progress: Progress | None
    checkpoint: Checkpoint | None
    hand_over: Checkpoint | None

    def __call__(self, module: HeadModule) -> None:
        for checkpoint in (self.checkpoint, self.hand_over):
            if checkpoint is not None and checkpoint.is_due:
                checkpoint.save(module.state())
        if self.progress is not None:
            self.progress(module.epoch, module.config.epochs)


def _trainer(config: FitConfig, place: Placement, device: str, epoch: int, logs: Path | None) -> pl.Trainer:
    several = place.devices > 1
    number = int(device.partition(":")[2] or 0)
    return pl.Trainer(
        max_epochs=config.epochs - epoch,
        accelerator="cpu" if device == "cpu" else "gpu",
        devices=place.devices if several or device == "cpu" else [number],
        strategy="ddp_spawn" if several and place.strategy == "auto" else place.strategy,
        precision="bf16-mixed" if config.precision == "bfloat16" else "32-true",
        logger=False if logs is None else TensorBoardLogger(logs, name="", version="", default_hp_metric=False),
        use_distributed_sampler=False,
        limit_val_batches=0,
        num_sanity_val_steps=0,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )


def _fit(trainer: pl.Trainer, module: HeadModule) -> None:
    config = module.config
    together = BATCHES_AT_A_TIME if trainer.world_size == 1 else 1  # a step of several processes is one of gradients
    batches = Order(module.used_lengths(), config.batch_size, config.seed, together)
    batches.epoch = module.epoch
    ctrl_c = signal.getsignal(signal.SIGINT)
    try:
        trainer.fit(module, batches)
    except SystemExit as error:  # Lightning answers Ctrl-C by ignoring the next one and leaving with a code of its own
        if isinstance(error.__context__, KeyboardInterrupt):
            signal.signal(signal.SIGINT, ctrl_c)
            raise KeyboardInterrupt from error
        raise
    if os.environ.get("LOCAL_RANK", "0") != "0" and trainer.world_size > 1:
        sys.exit(0)  # a strategy such as ddp starts the whole command again for each device; one of them goes on


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
