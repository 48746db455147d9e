"""Trust in what was extracted: some videos are extracted again and compared with what the store has of them."""

import random
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from actiondiff import InputError
from actiondiff.extract.backbone import Backbone, load_recipe
from actiondiff.extract.errors import ClipError
from actiondiff.extract.planning import clip_of
from actiondiff.extract.run import extract_clip
from actiondiff.manifests import Manifest, Video
from actiondiff.store import FeatureStore, FeatureValueError, check_recipe

TOLERANCE = 2e-3
"""Of an array's largest value: what another device, or another batch of windows, may differ by in float16."""


@dataclass(frozen=True)
class VideoComparison:
    """One video, extracted again.

    Attributes:
        video_id: which.
        outcome: ``same`` (every byte), ``close`` (within :data:`TOLERANCE`), ``differs``, or ``unreadable`` (its clip
            cannot be extracted any more).
        error: the largest difference, as a share of the largest value of the array that it is in.
        message: what differs, for people.
    """

    video_id: str
    outcome: str
    error: float = 0.0
    message: str = ""


@dataclass(frozen=True)
class SampleCheck:
    """What :func:`compare_sample` found.

    Attributes:
        videos: those that were drawn, in order of id.
        seed: of the draw.
    """

    videos: tuple[VideoComparison, ...]
    seed: int

    @property
    def good(self) -> bool:
        """Whether all are as they were."""
        return all(video.outcome in ("same", "close") for video in self.videos)

    def to_dict(self) -> dict[str, Any]:
        """As JSON values."""
        return {
            "seed": self.seed,
            "tolerance": TOLERANCE,
            "good": self.good,
            "videos": [asdict(video) for video in self.videos],
        }

    def text(self) -> str:
        """A few lines for people."""
        outcomes = [video.outcome for video in self.videos]
        largest = max((video.error for video in self.videos), default=0.0)
        told = ", ".join(f"{outcomes.count(name)} {name}" for name in ("same", "close", "differs", "unreadable"))
        head = (
            f"{len(self.videos)} videos extracted again (seed {self.seed}): {told}; "
            f"the largest difference is {largest:.2g} of the array's largest value (up to {TOLERANCE:g} is close)"
        )
        return "\n".join([head, *(f"  {v.video_id} [{v.outcome}]: {v.message}" for v in self.videos if v.message)])


def backbone_of(store: FeatureStore, **loading: Any) -> Backbone:
    """What a store's features were made with, ready to run again; arguments and errors as :func:`load_recipe`.

    Raises:
        InputError: they were not extracted but imported.
    """
    if store.recipe.get("backbone") == "imported":
        raise InputError(f"The features of {store.path} were imported; how to extract them again is not known.")
    return load_recipe(store.recipe, **loading)


def compare_sample(
    store: FeatureStore, manifest: Manifest, backbone: Backbone, count: int, seed: int = 0
) -> SampleCheck:
    """Extract random videos again, at every layer and timestep that the store has of them, and compare.

    Args:
        store: the store to trust.
        manifest: where its clips are.
        backbone: ready to run by the store's own recipe.
        count: how many videos; all where there are fewer.
        seed: which ones.

    Raises:
        InputError: no video of the manifest is in the store, or ``count`` is none.
        RecipeMismatch: the backbone makes other features.
    """
    if count < 1:
        raise InputError(f"A sample has at least 1 video; got {count}.")
    header = {"fingerprint": store.fingerprint, "recipe": store.recipe}
    check_recipe(store.path, header, backbone.recipe.to_json())
    known = sorted((video for video in manifest.videos if video.video_id in store), key=lambda video: video.video_id)
    if not known:
        raise InputError(
            f"No video of the manifest is in {store.path}. Give the one that it was extracted from: --manifest"
        )
    drawn = random.Random(seed).sample(known, min(count, len(known)))
    videos = sorted(drawn, key=lambda video: video.video_id)
    return SampleCheck(tuple(_compare(store, manifest, backbone, video) for video in videos), seed)


def _compare(store: FeatureStore, manifest: Manifest, backbone: Backbone, video: Video) -> VideoComparison:
    name, keys = video.video_id, store.keys(video.video_id)
    try:
        clip = clip_of(manifest, video)
        if clip.source().sha256 != store.source(name).sha256:
            return VideoComparison(name, "differs", message=f"{clip.path} has other content than was extracted.")
        again = extract_clip(name, clip, backbone, keys)
    except (ClipError, FeatureValueError, OSError) as error:
        return VideoComparison(name, "unreadable", message=str(error))
    if not np.array_equal(again.frame_index, store.frame_index(name)):
        return VideoComparison(name, "differs", message="other frames of the clip are used now.")
    errors, same = [], True
    for key in keys:
        stored = store.read(name, layer=key.layer, timestep=key.timestep)
        now = again.features[key].astype(stored.dtype)
        same &= now.tobytes() == stored.tobytes()
        errors.append((_error(now, stored), key))
    worst, key = max(errors, key=lambda pair: pair[0])
    outcome = "same" if same else "close" if worst <= TOLERANCE else "differs"
    message = f"up to {worst:.2g} of the largest value at {key}" if outcome != "same" else ""
    return VideoComparison(name, outcome, worst, message)


def _error(now: np.ndarray, stored: np.ndarray) -> float:
    """Largest difference as a share of the largest stored value; infinite where shapes differ."""
    if now.shape != stored.shape:
        return float("inf")
    difference = np.abs(now.astype(np.float64) - stored.astype(np.float64)).max()
    largest = np.abs(stored.astype(np.float64)).max()
    return float(difference / largest) if largest else float(difference > 0)
