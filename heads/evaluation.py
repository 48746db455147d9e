"""A fitted head on other data: metrics where labels are known, scores where they are not."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from actiondiff import InputError
from actiondiff.heads.data import LabelledFeatures, extracted, load_features
from actiondiff.heads.metrics import Metrics, Predictions, measure
from actiondiff.heads.parts import has_split
from actiondiff.heads.runs import Run, RunError
from actiondiff.heads.training import score
from actiondiff.manifests import Manifest
from actiondiff.store import FeatureStore


@dataclass(frozen=True, eq=False)
class Evaluation:
    """How a run does on other data.

    Attributes:
        metrics: of the videos scored.
        predictions: their scores.
        trained_on: how many of the videos the run was trained on or chose its epoch on; above 0 the metrics flatter.
        notes: what the user should know, in sentences.
    """

    metrics: Metrics
    predictions: Predictions
    trained_on: int
    notes: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Metrics and notes as JSON values."""
        return {"metrics": self.metrics.to_dict(), "trained_on": self.trained_on, "notes": list(self.notes)}

    def text(self) -> str:
        """For the terminal."""
        lines = [self.metrics.text(), *self.notes]
        if self.trained_on:
            lines.append(f"{self.trained_on} of these videos were trained on or chose the epoch: the numbers flatter.")
        return "\n".join(lines)


def evaluate(
    run: Run,
    store: FeatureStore,
    manifest: Manifest,
    test: str | None = None,
    *,
    allow_unseen: bool = False,
    device: str = "auto",
) -> Evaluation:
    """Score a run on rows of a manifest.

    Args:
        run: a fitted head.
        store: features by the run's own recipe.
        manifest: labelled videos.
        test: WHERE of the rows; None for ``split=test`` if there is any, else all.
        allow_unseen: count videos whose label the run never saw as wrong, rather than refuse them.
        device: ``auto``, ``cpu`` or ``cuda``.

    Raises:
        RunError: the features were made by another recipe.
        InputError: videos are not in the store, or have labels that the run never saw.
    """
    check_recipe(run, store)
    manifest, notes = extracted(store, manifest)
    test = test or ("split=test" if has_split(manifest, "test") else None)
    part = manifest.where(test) if test else manifest
    data = load_features(store, part, run.config.key, run.config.classes, allow_unseen)
    if data.multilabel and not run.config.multilabel:
        raise InputError("This run was fitted on one label a video, and some videos here have several.")
    predictions = score(run.head, data.of_kind(run.config.multilabel), run.config.fit.loss or "", device=device)
    trained = {*run.parts.get("train", ()), *run.parts.get("val", ())}
    notes += (store.notice,) if store.notice else ()
    return Evaluation(measure(predictions), predictions, len(trained & set(data.video_ids)), notes)


def predict(
    run: Run,
    source: FeatureStore | Sequence[np.ndarray],
    video_ids: Sequence[str] | None = None,
    *,
    device: str = "auto",
) -> Predictions:
    """Score videos whose labels are not known.

    Args:
        run: a fitted head.
        source: a store by the run's own recipe, or one (frames, channels) array a video.
        video_ids: which videos of the store (all if None), or the arrays' names.
        device: ``auto``, ``cpu`` or ``cuda``.

    Raises:
        RunError: the store holds features of another recipe.
    """
    if isinstance(source, FeatureStore):
        check_recipe(run, source)
        video_ids = source.video_ids if video_ids is None else video_ids
        arrays = source.read_many(video_ids, layer=run.config.key.layer, timestep=run.config.key.timestep)
    else:
        arrays = list(source)
        video_ids = [str(index) for index in range(len(arrays))] if video_ids is None else video_ids
    unknown: tuple[tuple[str, ...], ...] = tuple(() for _ in arrays)
    features = tuple(np.ascontiguousarray(array, dtype=np.float32) for array in arrays)
    data = LabelledFeatures(
        features, unknown, tuple(video_ids), ("",) * len(arrays), run.config.classes, run.config.multilabel
    )
    return score(run.head, data, run.config.fit.loss or "", device=device)


def check_recipe(run: Run, store: FeatureStore) -> None:
    """Refuse features that were made in another way than those the run was fitted on.

    Raises:
        RunError: naming what differs.
    """
    if run.config.fingerprint == store.fingerprint:
        return
    ours, theirs = run.config.recipe, store.recipe
    names = [name for name in sorted(ours.keys() | theirs.keys()) if ours.get(name) != theirs.get(name)]
    differences = "; ".join(
        f"{name}: {ours.get(name)!r} in the run, {theirs.get(name)!r} in the store" for name in names
    )
    raise RunError(
        f"A head works on features of the recipe it was fitted on; {store.path} differs in {differences}. "
        "Extract the videos by the run's recipe, or fit a head on this store."
    )
