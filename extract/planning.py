"""What is left to do: which videos lack which features."""

from collections.abc import Sequence
from dataclasses import dataclass

from actiondiff.extract.backbone import backbone_spec
from actiondiff.extract.clips import Clip
from actiondiff.extract.errors import ClipError
from actiondiff.extract.recipe import Recipe
from actiondiff.manifests import Manifest, Video
from actiondiff.store import Failure, FeatureKey, FeatureStore, Place, StoreNotFound, check_recipe, read_header


@dataclass(frozen=True)
class Task:
    """One video and the features that are missing of it."""

    video: Video
    clip: Clip
    keys: tuple[FeatureKey, ...]


@dataclass(frozen=True)
class Plan:
    """What an extraction has before it.

    Attributes:
        tasks: videos to extract.
        skipped: ids of videos whose features are all there.
        failed: videos that failed in an earlier run, and videos whose file is no longer the one extracted.
    """

    tasks: tuple[Task, ...]
    skipped: tuple[str, ...]
    failed: tuple[Failure, ...]


def clip_of(manifest: Manifest, video: Video) -> Clip:
    """The clip that a row of the manifest means."""
    return Clip(manifest.source(video), video.start_seconds, video.end_seconds)


def wants_decoder(backbone: str, store: str | Place, keys: Sequence[FeatureKey]) -> bool:
    """Whether the U-Net's up blocks are needed: for layers asked for, or for the recipe of the store that is there."""
    if any(key.layer in backbone_spec(backbone).decoder_layers for key in keys):
        return True
    try:
        return bool(read_header(store)["recipe"].get("decoder_sha256"))
    except StoreNotFound:
        return False


def make_plan(
    manifest: Manifest, store: str | Place, recipe: Recipe, keys: Sequence[FeatureKey], *, retry_failed: bool = False
) -> Plan:
    """Compare a manifest with a store, which need not exist yet.

    Raises:
        RecipeMismatch: the store holds features of another recipe.
    """
    try:
        there = FeatureStore(store)
        check_recipe(store, read_header(store), recipe.to_json())
    except StoreNotFound:
        return Plan(tuple(Task(v, clip_of(manifest, v), tuple(keys)) for v in manifest.videos), (), ())
    failures = there.failures
    tasks, skipped, failed = [], [], []
    for video in manifest.videos:
        clip = clip_of(manifest, video)
        missing = there.missing(video.video_id, keys)
        earlier = failures.get(video.video_id) if missing else None
        if changed := _changed(there, video.video_id, clip):
            failed.append(changed)
        elif earlier and not retry_failed and not _is_back(earlier, clip):
            failed.append(earlier)
        elif missing:
            tasks.append(Task(video, clip, missing))
        else:
            skipped.append(video.video_id)
    return Plan(_gathered(tasks), tuple(skipped), tuple(failed))


def _gathered(tasks: Sequence[Task]) -> tuple[Task, ...]:
    """Tasks that lack the same features one after another: they share batches, and parts of the store."""
    alike: dict[tuple[FeatureKey, ...], list[Task]] = {}
    for task in tasks:
        alike.setdefault(task.keys, []).append(task)
    return tuple(task for group in alike.values() for task in group)


def _is_back(earlier: Failure, clip: Clip) -> bool:
    """Whether a clip failed because nothing was there, and now something is."""
    return earlier.code == "missing" and clip.is_there()


def _changed(store: FeatureStore, video_id: str, clip: Clip) -> Failure | None:
    """A failure where the store's features were made from other content than the clip's, or that cannot be told.

    What was extracted from a file that is gone stays as it is.
    """
    if video_id not in store:
        return None
    source = store.source(video_id)
    cut_alike = (source.start_seconds, source.end_seconds) == (clip.start_seconds, clip.end_seconds)
    try:
        if cut_alike and (source.size_bytes, source.mtime_ns) == clip.stat():
            return None
        if cut_alike and source.sha256 == clip.source().sha256:
            return None
    except ClipError as error:
        return None if error.code == "missing" else Failure(video_id, error.code, str(error))
    what = (
        f"other content than {clip.path} has now" if cut_alike else f"another part of {clip.path} than is asked for now"
    )
    message = f"{video_id!r} was extracted from {what}. Give it a new id, or extract into a new store."
    return Failure(video_id, "source_changed", message)
