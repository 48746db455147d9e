"""From a manifest and a store to what a head is trained on: arrays in memory with their labels.

Axes: N videos, K classes.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float32

from actiondiff import InputError
from actiondiff.heads.batch import Batch, collate
from actiondiff.heads.metrics import multi_hot
from actiondiff.manifests import Manifest
from actiondiff.store import FeatureKey, FeatureStore

PAPER_KEY = FeatureKey(9, 20)


@dataclass(frozen=True, eq=False)
class LabelledFeatures:
    """Videos with features of one layer and timestep, and their labels.

    Attributes:
        features: one float32 (frames, channels) array a video.
        labels: of each video, one or several; some may be no class (then the head never learns them).
        video_ids: unique ids.
        groups: what must not straddle training and validation; empty for a video of its own.
        classes: what the head's logits stand for.
        multilabel: whether a video can have several labels.
    """

    features: tuple[Float32[np.ndarray, "_ channels"], ...]
    labels: tuple[tuple[str, ...], ...]
    video_ids: tuple[str, ...]
    groups: tuple[str, ...]
    classes: tuple[str, ...]
    multilabel: bool

    def __post_init__(self) -> None:
        sizes = {len(self.features), len(self.labels), len(self.video_ids), len(self.groups)}
        if len(sizes) != 1:
            raise InputError(f"Every video has features, labels, an id and a group; got {self!r}.")

    def __len__(self) -> int:
        return len(self.features)

    def __repr__(self) -> str:
        return f"LabelledFeatures({len(self.features)} videos, {self.channels} channels, {len(self.classes)} classes)"

    @property
    def channels(self) -> int:
        """Of the features."""
        return self.features[0].shape[1] if self.features else 0

    @property
    def longest(self) -> int:
        """Frames of the longest video."""
        return max((len(array) for array in self.features), default=0)

    @property
    def targets_NK(self) -> Float32[np.ndarray, "videos classes"]:  # noqa: N802
        """1 for each label of a video."""
        return multi_hot(self.labels, self.classes).astype(np.float32)

    def longer_than(self, frames: int) -> int:
        """How many videos have more frames than this."""
        return sum(len(array) > frames for array in self.features)

    def of_kind(self, multilabel: bool) -> "LabelledFeatures":
        """The same videos, taken as having one label each or several."""
        return replace(self, multilabel=multilabel)

    def over(self, classes: tuple[str, ...]) -> "LabelledFeatures":
        """The same videos for a head that knows these classes."""
        return replace(self, classes=classes)

    def subset(self, indices: Sequence[int] | np.ndarray) -> "LabelledFeatures":
        """Some of the videos, in the order of the indices."""
        return replace(
            self,
            features=tuple(self.features[index] for index in indices),
            labels=tuple(self.labels[index] for index in indices),
            video_ids=tuple(self.video_ids[index] for index in indices),
            groups=tuple(self.groups[index] for index in indices),
        )


class Batches:
    """Batches of some videos, one pass at a time; a new order each pass if a seed is given.

    Args:
        data: the videos.
        batch_size: videos a batch; the last may be smaller.
        max_length: frames of a video that are used.
        seed: of the order; None keeps the given order.
    """

    def __init__(self, data: LabelledFeatures, batch_size: int, max_length: int, seed: int | None = None) -> None:
        self._data, self._targets_NK = data, data.targets_NK
        self._batch_size, self._max_length = batch_size, max_length
        self._generator = None if seed is None else np.random.default_rng(seed)

    def __len__(self) -> int:
        return -(-len(self._data) // self._batch_size)

    def __iter__(self) -> Iterator[Batch]:
        count = len(self._data)
        order = np.arange(count) if self._generator is None else self._generator.permutation(count)
        for start in range(0, count, self._batch_size):
            yield self._batch(order[start : start + self._batch_size])

    def _batch(self, rows: np.ndarray) -> Batch:
        features = [self._data.features[row] for row in rows]
        ids = [self._data.video_ids[row] for row in rows]
        return collate(features, self._targets_NK[rows], ids, self._max_length)


def choose_key(store: FeatureStore, layer: int | None, timestep: int | None) -> FeatureKey:
    """The layer and timestep to use: what is given, else the store's only one, else the paper's layer 9 at t 20.

    Raises:
        InputError: the store has no such features, or several and none is said.
    """
    keys = store.keys()
    fitting = [key for key in keys if layer in (None, key.layer) and timestep in (None, key.timestep)]
    there = "; ".join(map(str, keys)) or "nothing yet"
    if not fitting:
        asked = " and ".join(f"{n} {v}" for n, v in (("layer", layer), ("t", timestep)) if v is not None) or "any"
        option = f"actiondiff extract --layer {layer or 9} --t {20 if timestep is None else timestep}"
        raise InputError(f"{store.path} has no features of {asked}; it has {there}. Add them with: {option}")
    if len(fitting) > 1 and PAPER_KEY not in fitting:
        raise InputError(f"{store.path} has several layers and timesteps: {there}. Choose one with --layer and --t.")
    return fitting[0] if len(fitting) == 1 else PAPER_KEY


def load_features(
    store: FeatureStore,
    manifest: Manifest,
    key: FeatureKey,
    classes: Sequence[str] | None = None,
    allow_unseen: bool = False,
) -> LabelledFeatures:
    """Read the features of a manifest's videos.

    Args:
        store: where they are.
        manifest: which videos, with their labels.
        key: layer and timestep.
        classes: what the head is trained on; the manifest's own labels if None.
        allow_unseen: take videos whose label is not among the classes (they will count as wrong).

    Raises:
        InputError: a video has no label, a label outside the classes, or is not in the store.
    """
    videos = list(manifest)
    classes = tuple(manifest.classes if classes is None else classes)
    _check_labels(manifest, classes, allow_unseen)
    ids = [video.video_id for video in videos]
    _check_stored(store, ids, key)
    arrays = store.read_many(ids, layer=key.layer, timestep=key.timestep)
    return LabelledFeatures(
        features=tuple(np.ascontiguousarray(array, dtype=np.float32) for array in arrays),
        labels=tuple(video.labels for video in videos),
        video_ids=tuple(ids),
        groups=tuple(video.group for video in videos),
        classes=classes,
        multilabel=manifest.is_multilabel,
    )


def extracted(store: FeatureStore, manifest: Manifest) -> tuple[Manifest, tuple[str, ...]]:
    """Leave out the videos whose extraction failed, and say so.

    Returns:
        the manifest without them, and notes for the user.
    """
    failed = [video.video_id for video in manifest if video.video_id in store.failures and video.video_id not in store]
    if not failed:
        return manifest, ()
    rest = tuple(video for video in manifest if video.video_id not in set(failed))
    note = f"{len(failed)} videos are left out, their extraction failed: {first_few(failed)}."
    return Manifest(rest, manifest.root), (note,)


def first_few(names: Sequence[str], count: int = 3) -> str:
    """A list for a message: the first few names and how many more there are."""
    more = f" and {len(names) - count} more" if len(names) > count else ""
    return ", ".join(names[:count]) + more


def _check_labels(manifest: Manifest, classes: tuple[str, ...], allow_unseen: bool) -> None:
    if bare := [video.video_id for video in manifest if not video.labels]:
        raise InputError(f"A head is fitted and tested on labelled videos; without label: {first_few(bare)}.")
    unseen = sorted(set(manifest.classes) - set(classes))
    if unseen and not allow_unseen:
        raise InputError(
            f"A head can be tested only on labels it was trained on; never seen in training: {first_few(unseen)}. "
            "Leave these videos out, add such videos to the training part, or allow unseen labels: they count as wrong."
        )


def _check_stored(store: FeatureStore, video_ids: Sequence[str], key: FeatureKey) -> None:
    if absent := [video_id for video_id in video_ids if store.missing(video_id, [key])]:
        failed = sum(video_id in store.failures for video_id in absent)
        why = f" (the extraction of {failed} failed)" if failed else ""
        raise InputError(
            f"{len(absent)} of {len(video_ids)} videos have no features of {key} in {store.path}{why}: "
            f"{first_few(absent)}. Extract them with: actiondiff extract --layer {key.layer} --t {key.timestep}, "
            "or take them out of the manifest."
        )
