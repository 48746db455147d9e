"""A fitted head on other data: metrics where labels are known, scores where they are not."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from actiondiff import ActionDiffError, InputError
from actiondiff.heads.bootstrap import DRAWS
from actiondiff.heads.comparing import Comparison, compare
from actiondiff.heads.data import LabelledFeatures, extracted, first_few, load_features
from actiondiff.heads.folders import check_free, new_folder, write_json
from actiondiff.heads.metrics import Metrics, Predictions, write_predictions
from actiondiff.heads.parts import has_split
from actiondiff.heads.reading import Reading, read_result
from actiondiff.heads.runs import Run, RunError
from actiondiff.heads.training import score
from actiondiff.manifests import Manifest
from actiondiff.store import FeatureStore


@dataclass(frozen=True, eq=False)
class Evaluation:
    """How a run does on other data.

    Attributes:
        reading: the metrics with their intervals, by class, confusion and calibration.
        predictions: the scores.
        trained_on: how many of the videos the run was trained on or chose its epoch on; above 0 the metrics flatter.
        groups_trained_on: groups of the other videos here of which the run was trained on some video; likewise.
        cut: how many videos are longer than the head's length and were cut to it.
        comparisons: with other runs on the same videos.
        notes: what the user should know, in sentences.
    """

    reading: Reading
    predictions: Predictions
    trained_on: int
    groups_trained_on: tuple[str, ...] = ()
    cut: int = 0
    comparisons: tuple[Comparison, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def metrics(self) -> Metrics:
        """The headline numbers."""
        return self.reading.metrics

    def to_dict(self) -> dict[str, Any]:
        """Everything but the single scores as JSON values."""
        return {
            **self.reading.to_dict(),
            "trained_on": self.trained_on,
            "groups_trained_on": list(self.groups_trained_on),
            "videos_cut": self.cut,
            "comparisons": [comparison.to_dict() for comparison in self.comparisons],
            "notes": list(self.notes),
        }

    def text(self) -> str:
        """For the terminal."""
        parts = [self.reading.text(), *(comparison.text() for comparison in self.comparisons)]
        return "\n\n".join([*parts, "\n".join(self.notes)] if self.notes else parts)

    def write(self, out: str | Path) -> None:
        """Write ``evaluation.json``, ``predictions.csv`` and the reading's tables and pictures into a new folder.

        Raises:
            InputError: ``out`` is taken.
        """
        with new_folder(out) as folder:
            write_json(folder / "evaluation.json", self.to_dict())
            write_predictions(folder / "predictions.csv", {"test": self.predictions})
            self.reading.write(folder)


def evaluate(
    run: Run,
    store: FeatureStore,
    manifest: Manifest,
    test: str | None = None,
    *,
    against: Mapping[str, Run] | None = None,
    allow_unseen: bool = False,
    device: str = "auto",
    draws: int = DRAWS,
    seed: int = 0,
    out: str | Path | None = None,
) -> Evaluation:
    """Score a run on rows of a manifest.

    Args:
        run: a fitted head.
        store: features by the run's own recipe.
        manifest: labelled videos.
        test: WHERE of the rows; None for ``split=test`` if there is any, else all.
        against: other runs by name, tested against this one on the same videos.
        allow_unseen: count videos whose label the run never saw as wrong, rather than refuse them.
        device: ``auto``, ``cpu`` or ``cuda``.
        draws: of the bootstrap.
        seed: of the bootstrap.
        out: new folder for tables and pictures; None writes nothing.

    Raises:
        RunError: the features were made by another recipe.
        InputError: videos are not in the store, or have labels that the run never saw; ``out`` is taken.
    """
    if out is not None:
        check_free(out)
    part, notes = _rows(store, manifest, test)
    predictions, data = _scored(run, store, part, allow_unseen, device)
    others = {}
    for name, other in (against or {}).items():
        others[name], _ = _scored(other, _store_of(other, store), part, allow_unseen, device)
    comparisons = compare(predictions, others, data.groups, draws=draws, seed=seed)
    cut = data.longer_than(run.head.config.max_length)
    trained_on, groups = _learned(run, data)
    notes += told_of_length(run, map(len, data.features)) + _told_of_training(trained_on, groups, "")
    for name, other in (against or {}).items():
        notes += _told_of_training(*_learned(other, data), f"{name}: ")
    notes += (store.notice,) if store.notice else ()
    reading = read_result(predictions, data.groups, draws=draws, seed=seed)
    evaluation = Evaluation(reading, predictions, trained_on, groups, cut, comparisons, notes)
    if out is not None:
        evaluation.write(out)
    return evaluation


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


def told_of_length(run: Run, lengths: Iterable[int]) -> tuple[str, ...]:
    """A note on videos of more sampled frames than the head takes, if there are any."""
    longest = run.head.config.max_length
    cut = sum(frames > longest for frames in lengths)
    return (f"{cut} videos are longer than {longest} frames; the first {longest} of each were used.",) if cut else ()


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


def _rows(store: FeatureStore, manifest: Manifest, test: str | None) -> tuple[Manifest, tuple[str, ...]]:
    manifest, notes = extracted(store, manifest)
    test = test or ("split=test" if has_split(manifest, "test") else None)
    return (manifest.where(test) if test else manifest), notes


def _scored(
    run: Run, store: FeatureStore, part: Manifest, allow_unseen: bool, device: str
) -> tuple[Predictions, LabelledFeatures]:
    check_recipe(run, store)
    kind = run.config.multilabel
    data = load_features(store, part, run.config.key, run.config.classes, allow_unseen, several=kind)
    if data.multilabel and not run.config.multilabel:
        raise InputError("This run was fitted on one label a video, and some videos here have several.")
    data = data.of_kind(run.config.multilabel)
    return score(run.head, data, run.config.fit.loss or "", device=device), data


def _store_of(run: Run, store: FeatureStore) -> FeatureStore:
    """The store given if the run can use it, else the one that the run was fitted on, if it is still there."""
    if run.config.fingerprint == store.fingerprint:
        return store
    try:
        return FeatureStore(run.config.details.get("store", ""))
    except ActionDiffError:
        return store  # whose recipe the run will be told to differ from


def _learned(run: Run, data: LabelledFeatures) -> tuple[int, tuple[str, ...]]:
    """How many of some videos a run learned from, and which groups of the others it learned from."""
    learned = run.learned_from
    rest = {group for video_id, group in zip(data.video_ids, data.groups, strict=True) if video_id not in learned}
    return len(learned & set(data.video_ids)), tuple(sorted(run.learned_groups & rest))


def _told_of_training(videos: int, groups: tuple[str, ...], run_name: str) -> tuple[str, ...]:
    notes: tuple[str, ...] = ()
    if videos:
        notes += (f"{run_name}{videos} of these videos were trained on or chose the epoch: the numbers flatter.",)
    if groups:
        notes += (
            f"{run_name}{len(groups)} groups of these videos have other videos that were trained on or chose the epoch "
            f"({first_few(groups)}): the numbers flatter.",
        )
    return notes
