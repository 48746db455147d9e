"""From a manifest and a store to what a head is trained on: rows in one array with their labels.

Axes: N videos, K classes.
"""

import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
from jaxtyping import Float32

from actiondiff import InputError
from actiondiff.heads.freshness import stale_videos
from actiondiff.heads.metrics import multi_hot
from actiondiff.heads.ragged import Ragged
from actiondiff.manifests import Manifest
from actiondiff.store import FeatureKey, FeatureStore, spell_keys

PAPER_KEY = FeatureKey(9, 20)
IN_MEMORY = 0.5
"""Share of the free memory that features may take; larger ones lie in a temporary file that is mapped."""
_VIDEOS_AT_A_TIME = 256


@dataclass(frozen=True, eq=False)
class LabelledFeatures:
    """Videos with features of one layer and timestep, and their labels.

    Attributes:
        features: a (frames, channels) array for each video, float32 when asked for; :class:`Ragged`, all rows in one
            array, where they come from a store.
        labels: of each video, one or several; some may be no class (then the head never learns them).
        video_ids: unique ids.
        groups: what must not straddle training and validation; empty for a video of its own.
        classes: what the head's logits stand for.
        multilabel: whether a video can have several labels.
    """

    features: Sequence[np.ndarray]
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

    @cached_property
    def ragged(self) -> Ragged:
        """The features as rows of one array."""
        return Ragged.of(self.features)

    @property
    def channels(self) -> int:
        """Of the features."""
        return self.ragged.channels

    @property
    def longest(self) -> int:
        """Frames of the longest video."""
        return int(self.ragged.lengths_N.max())

    @property
    def targets_NK(self) -> Float32[np.ndarray, "videos classes"]:  # noqa: N802
        """1 for each label of a video."""
        return multi_hot(self.labels, self.classes).astype(np.float32)

    def longer_than(self, frames: int) -> int:
        """How many videos have more frames than this."""
        return int((self.ragged.lengths_N > frames).sum())

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
            features=self.ragged.subset(indices),
            labels=tuple(self.labels[index] for index in indices),
            video_ids=tuple(self.video_ids[index] for index in indices),
            groups=tuple(self.groups[index] for index in indices),
        )


def choose_key(store: FeatureStore, layer: int | None, timestep: int | None) -> FeatureKey:
    """The layer and timestep to use: what is given, else the store's only one, else the paper's layer 9 at t 20.

    Raises:
        InputError: the store has no such features, or several and none is said.
    """
    keys = store.keys()
    fitting = [key for key in keys if layer in (None, key.layer) and timestep in (None, key.timestep)]
    if not fitting:
        asked = " and ".join(f"{n} {v}" for n, v in (("layer", layer), ("t", timestep)) if v is not None) or "any"
        usual = PAPER_KEY.layer if layer is None else layer, PAPER_KEY.timestep if timestep is None else timestep
        wanted = FeatureKey(*usual)  # refuses what cannot be
        raise InputError(
            f"{store.path} has no features of {asked}; it has {spell_keys(keys)}. Choose among these with --layer and "
            f"--t, or add them with: {extract_command(store, wanted.layer, wanted.timestep)}"
        )
    if len(fitting) > 1 and PAPER_KEY not in fitting:
        raise InputError(
            f"{store.path} has several layers and timesteps: {spell_keys(keys)}. Choose one with --layer and --t."
        )
    return fitting[0] if len(fitting) == 1 else PAPER_KEY


def extract_command(store: FeatureStore, layer: int | str, timestep: int | str) -> str:
    """What to type for further features in this store."""
    return store.extract_command(layer, timestep)


def load_features(
    store: FeatureStore,
    manifest: Manifest,
    key: FeatureKey,
    classes: Sequence[str] | None = None,
    allow_unseen: bool = False,
    *,
    several: bool = False,
) -> LabelledFeatures:
    """Read the features of a manifest's videos into one array, in memory or, where larger, in a mapped file.

    Args:
        store: where they are.
        manifest: which videos, with their labels.
        key: layer and timestep.
        classes: what the head is trained on; the manifest's own labels if None.
        allow_unseen: take videos whose label is not among the classes (they will count as wrong).
        several: whether videos of other parts have several labels, so that one may have none.

    Raises:
        InputError: a video has no label where none has several, a label outside the classes, or is not in the store.
    """
    videos = list(manifest)
    classes = tuple(manifest.classes if classes is None else classes)
    _check_labels(manifest, classes, allow_unseen, several or manifest.is_multilabel)
    ids = [video.video_id for video in videos]
    _check_stored(store, ids, key)
    return LabelledFeatures(
        features=load_rows(store, ids, key),
        labels=tuple(video.labels for video in videos),
        video_ids=tuple(ids),
        groups=tuple(video.group for video in videos),
        classes=classes,
        multilabel=manifest.is_multilabel,
    )


def load_rows(store: FeatureStore, video_ids: Sequence[str], key: FeatureKey, limit_bytes: int | None = None) -> Ragged:
    """The features of some videos in one array, in the store's dtype.

    Args:
        store: where they are.
        video_ids: which, in this order.
        key: layer and timestep.
        limit_bytes: what may lie in memory; more is written to a temporary file, without a name, and mapped. None is
            half of what is free.
    """
    limit_bytes = int(IN_MEMORY * free_memory_bytes()) if limit_bytes is None else limit_bytes
    length_of = {
        part.video_ids[position]: part.row_offsets[position + 1] - part.row_offsets[position]
        for part, positions in store.places_of(key)
        for position in positions
    }
    lengths = [int(length_of[video_id]) for video_id in video_ids]
    offsets = np.cumsum([0, *lengths], dtype=np.int64)
    one = store.read(video_ids[0], layer=key.layer, timestep=key.timestep)
    if int(offsets[-1]) * one[0].nbytes <= limit_bytes:
        return Ragged.of_offsets(store.load(video_ids, layer=key.layer, timestep=key.timestep).features, offsets)
    with tempfile.TemporaryFile(prefix="actiondiff-features-") as file:
        rows = np.memmap(file, one.dtype, "w+", shape=(int(offsets[-1]), one.shape[1]))
    parts = store.batches(video_ids, layer=key.layer, timestep=key.timestep, batch_size=_VIDEOS_AT_A_TIME)
    at = 0
    for part in parts:
        rows[at : at + len(part.features)] = part.features
        at += len(part.features)
    return Ragged.of_offsets(rows, offsets)


def free_memory_bytes() -> int:
    """Memory that can be had without swapping."""
    try:
        with Path("/proc/meminfo").open(encoding="ascii") as file:
            return next(int(line.split()[1]) * 1024 for line in file if line.startswith("MemAvailable"))
    except (OSError, StopIteration):  # not Linux: what is there at all
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def extracted(store: FeatureStore, manifest: Manifest) -> tuple[Manifest, tuple[str, ...]]:
    """Leave out the videos whose extraction failed and those whose features are of something else, and say so.

    Returns:
        the manifest without them, and notes for the user.

    Raises:
        InputError: nothing is left.
    """
    failed = [video.video_id for video in manifest if video.video_id in store.failures and video.video_id not in store]
    stale = stale_videos(store, manifest)
    notes = []
    if failed:
        notes.append(f"{len(failed)} videos are left out, their extraction failed: {first_few(failed)}.")
    if stale:
        reasons = first_few([f"{video_id} ({why})" for video_id, why in stale.items()])
        notes.append(
            f"{len(stale)} videos are left out, their features are not of what the manifest names now: {reasons}. "
            "Give these rows new ids, or extract into a new store."
        )
    out = {*failed, *stale}
    rest = tuple(video for video in manifest if video.video_id not in out)
    if bare := [video.video_id for video in rest if not video.labels and manifest.is_multilabel]:
        notes.append(f"{len(bare)} videos have no label and count as showing none of the actions: {first_few(bare)}.")
    if not notes:
        return manifest, ()
    if not rest:
        raise InputError(f"No video of the manifest has features that can be used. {' '.join(notes)}")
    return Manifest(rest, manifest.root), tuple(notes)


def first_few(names: Sequence[str], count: int = 3) -> str:
    """A list for a message: the first few names and how many more there are."""
    more = f" and {len(names) - count} more" if len(names) > count else ""
    return ", ".join(names[:count]) + more


def _check_labels(manifest: Manifest, classes: tuple[str, ...], allow_unseen: bool, several: bool) -> None:
    bare = [video.video_id for video in manifest if not video.labels]
    if bare and not several:  # else a video may show none of the actions
        raise InputError(
            "Where videos have one label, a head is fitted and tested on labelled ones; without label: "
            f"{first_few(bare)}. Label them, or leave them out with --train and --test."
        )
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
            f"{first_few(absent)}. Extract them with: {extract_command(store, key.layer, key.timestep)}, "
            "or take them out of the manifest."
        )
