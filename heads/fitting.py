"""From a store and a manifest to a fitted head with its metrics: what ``actiondiff fit`` does."""

import hashlib
import json
import platform
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytorch_lightning
import torch

from actiondiff import __version__
from actiondiff.heads.bootstrap import measure_with_intervals
from actiondiff.heads.data import LabelledFeatures, choose_key, extracted, load_features
from actiondiff.heads.folders import check_free, new_folder, write_json
from actiondiff.heads.metrics import Metrics, Predictions, write_predictions
from actiondiff.heads.parts import Parts, choose_parts
from actiondiff.heads.presets import FitConfig
from actiondiff.heads.resuming import Checkpoint
from actiondiff.heads.runs import Run, RunConfig
from actiondiff.heads.training import Placement, Progress, TrainedHead, score, train_head
from actiondiff.manifests import Manifest
from actiondiff.store import FeatureKey, FeatureStore


@dataclass(frozen=True, eq=False)
class FitResult:
    """A fitted head and how it does.

    Attributes:
        run: the head and everything that decided it.
        metrics: by part: each test set under its name, and ``val`` if there was a validation part.
        predictions: likewise.
        history: loss and validation metrics of each epoch.
        notes: what the user should know, in sentences.
        path: the run's folder, None if it was not written.
    """

    run: Run
    metrics: dict[str, Metrics]
    predictions: dict[str, Predictions]
    history: tuple[dict[str, Any], ...]
    notes: tuple[str, ...]
    path: Path | None

    @property
    def selection(self) -> str:
        """In words, which epoch was taken and why."""
        return self.run.config.selection

    def to_dict(self) -> dict[str, Any]:
        """Metrics, selection and notes as JSON values."""
        config = self.run.config
        return {
            "run": None if self.path is None else str(self.path),
            "head": config.fit.head,
            "layer": config.key.layer,
            "timestep": config.key.timestep,
            "multilabel": config.multilabel,
            "selection": self.selection,
            "metrics": {name: metrics.to_dict() for name, metrics in self.metrics.items()},
            "notes": list(self.notes),
        }

    def text(self) -> str:
        """For the terminal: what was fitted, how it does, and what one should know."""
        config = self.run.config
        kind = "several labels a video" if config.multilabel else "one label a video"
        videos = config.details["videos"]["train"]
        lines = [
            f"{config.fit.head} head on {config.key}: {videos} training videos, {len(config.classes)} classes, {kind}",
            *(f"  {name}: {metrics.text()}" for name, metrics in self.metrics.items()),
            f"  {self.selection}",
            *(f"  {note}" for note in self.notes),
        ]
        if not set(self.metrics) - {"val"}:
            lines.append("  no test part: give --test, or a split column, for a number that chose nothing")
        return "\n".join([*lines, f"-> {self.path}"] if self.path else lines)


def fit(
    store: FeatureStore,
    manifest: Manifest,
    config: FitConfig,
    *,
    layer: int | None = None,
    timestep: int | None = None,
    train: str | None = None,
    val: str | None = None,
    tests: Sequence[str] = (),
    out: str | Path | None = None,
    allow_unseen: bool = False,
    device: str = "auto",
    placement: Placement | None = None,
    resume: bool = False,
    progress: Progress | None = None,
) -> FitResult:
    """Fit a head on features of one layer and timestep.

    Args:
        store: the features.
        manifest: labels and parts.
        config: the settings.
        layer: of the features; None for the store's only one, else 9.
        timestep: likewise, else 20.
        train: WHERE of the training rows, ``column=value[,column=value…]``; None: see :func:`choose_parts`.
        val: WHERE of the rows that choose the epoch; None: ``split=val``, or a part set aside, or the last epoch.
        tests: a WHERE for each test set; they choose nothing.
        out: folder of the run, new; None writes nothing.
        allow_unseen: count test videos of labels never trained on as wrong, rather than refuse them.
        device: ``auto``, ``cpu`` or ``cuda``.
        placement: in place of ``device`` where several are wanted.
        resume: go on from the state that a killed fit has left beside ``out``, ``OUT.unfinished.safetensors``, written
            after an epoch at most once a minute; from the beginning where there is none.
        progress: told after every epoch.

    Raises:
        InputError: parts that overlap, videos without features, labels never trained on, an ``out`` that is taken, the
            state of another fit.
    """
    if out is not None:
        check_free(out)
    placement = placement or Placement(device)
    key = choose_key(store, layer, timestep)
    manifest, notes = extracted(store, manifest)
    parts = choose_parts(manifest, config, train, val, tests)
    notes += parts.notes
    data = _load(store, parts, key, allow_unseen)
    checkpoint = None if out is None else _checkpoint(Path(out), resume, store, key, config, data)
    with nullcontext() if out is None else new_folder(out) as folder:
        logs = None if folder is None else folder / "logs"
        trained = train_head(
            data["train"],
            data.get("val"),
            config,
            logs=logs,
            placement=placement,
            checkpoint=checkpoint,
            progress=progress,
        )
        wheres = {"train": train, "val": val, "tests": list(tests)}
        ids = {name: part.video_ids for name, part in data.items()}
        groups = {video.video_id: video.group for video in manifest if video.group}
        run = Run(trained.head, _run_config(store, parts, key, data, trained, wheres, notes), ids, groups)
        result = _result(run, trained, data, placement.device, None if out is None else Path(out))
        if folder is not None:
            write_result(folder, result)
    if checkpoint is not None:
        checkpoint.remove()
    return result


def _checkpoint(
    out: Path, resume: bool, store: FeatureStore, key: FeatureKey, config: FitConfig, data: dict[str, LabelledFeatures]
) -> Checkpoint:
    """The state beside the run's folder, and what must be the same to go on with it."""
    chosen = {name: part for name, part in data.items() if name in ("train", "val")}
    rows = [[*part.video_ids, *(";".join(labels) for labels in part.labels)] for part in chosen.values()]
    identity = {
        "settings": config.to_dict(),
        "layer": key.layer,
        "timestep": key.timestep,
        "recipe": store.fingerprint,
        "videos and labels": hashlib.sha256(json.dumps(rows).encode()).hexdigest(),
    }
    return Checkpoint(out.with_name(f"{out.name}.unfinished.safetensors"), identity, resume=resume)


def write_result(folder: Path, result: FitResult) -> None:
    """Write everything of a run but its logs into a folder."""
    result.run.save(folder)
    notice = {"notice": result.run.config.details["notice"]} if result.run.config.details["notice"] else {}
    write_json(folder / "metrics.json", {name: part.to_dict() for name, part in result.metrics.items()} | notice)
    tests = {name: part for name, part in result.predictions.items() if name != "val"}
    if tests or result.predictions:
        write_predictions(folder / "predictions.csv", tests or result.predictions)


def _load(store: FeatureStore, parts: Parts, key: FeatureKey, allow_unseen: bool) -> dict[str, LabelledFeatures]:
    """Every part's features, all over the training part's labels."""
    classes = parts.train.classes
    others = {**({"val": parts.val} if parts.val else {}), **parts.tests}
    several = parts.is_multilabel
    data = {"train": load_features(store, parts.train, key, several=several)}
    for name, part in others.items():
        data[name] = load_features(store, part, key, classes, allow_unseen, several=several)
    return with_one_kind(data)


def with_one_kind(data: dict[str, LabelledFeatures]) -> dict[str, LabelledFeatures]:
    """If a video of any part has several labels, all parts are of that kind."""
    several = any(part.multilabel for part in data.values())
    return {name: part.of_kind(several) for name, part in data.items()}


def _result(
    run: Run, trained: TrainedHead, data: dict[str, LabelledFeatures], device: str, path: Path | None
) -> FitResult:
    order = [name for name in data if name not in ("train", "val")] + ["val"] * ("val" in data)
    loss = trained.config.loss or ""
    predictions = {name: score(run.head, data[name], loss, device=device) for name in order}
    metrics = {name: measure_with_intervals(part, data[name].groups) for name, part in predictions.items()}
    return FitResult(run, metrics, predictions, trained.history, tuple(run.config.details["notes"]), path)


def _run_config(
    store: FeatureStore,
    parts: Parts,
    key: FeatureKey,
    data: dict[str, LabelledFeatures],
    trained: TrainedHead,
    wheres: dict[str, Any],
    notes: tuple[str, ...],
) -> RunConfig:
    config, longest = trained.config, trained.config.max_length or 1
    cut = {name: part.longer_than(longest) for name, part in data.items()}
    versions = {"actiondiff": __version__, "torch": torch.__version__, "lightning": pytorch_lightning.__version__}
    details = {
        "versions": {**versions, "python": platform.python_version()},
        "store": str(store.path),
        "where": wheres,
        "videos": {name: len(part) for name, part in data.items()},
        "videos_longer_than_max_length": cut,
        "origins": config.origins(),
        "notice": store.notice,
        "notes": [*notes, *_notes(cut, longest), *([store.notice] if store.notice else [])],
    }
    return RunConfig(
        fit=config,
        head=trained.head.config,
        key=key,
        classes=data["train"].classes,
        multilabel=data["train"].multilabel,
        recipe=store.recipe,
        fingerprint=store.fingerprint,
        selection=parts.selection(trained.best_epoch, len(trained.history)),
        details=details,
    )


def _notes(cut: dict[str, int], longest: int) -> list[str]:
    return [
        f"{count} videos of {name} are longer than {longest} frames; the first {longest} of each were used."
        for name, count in cut.items()
        if count
    ]
