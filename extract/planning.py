"""What is left to do: which videos lack which features, and what doing them will take."""

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from actiondiff.extract.backbone import Backbone
from actiondiff.extract.clips import Clip, promised_length
from actiondiff.extract.errors import ClipError
from actiondiff.extract.recipe import Recipe
from actiondiff.extract.windows import BLACK, Window
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


@dataclass(frozen=True)
class Cost:
    """What a plan will take, from the clips' containers and one measured window.

    Attributes:
        clips: videos to extract.
        frames: sampled frames, as far as the containers tell the truth.
        windows: runs of the backbone.
        store_bytes: on disk.
        seconds: expected on this device, without decoding.
        unknown: clips that cannot be opened or whose container does not tell a length.
    """

    clips: int
    frames: int
    windows: int
    store_bytes: int
    seconds: float
    unknown: int


def clip_of(manifest: Manifest, video: Video) -> Clip:
    """The clip that a row of the manifest means."""
    return Clip(manifest.source(video), video.start_seconds, video.end_seconds)


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
    tasks, skipped, failed = [], [], []
    for video in manifest.videos:
        clip = clip_of(manifest, video)
        missing = there.missing(video.video_id, keys)
        earlier = there.failures.get(video.video_id) if missing else None
        if changed := _changed(there, video.video_id, clip):
            failed.append(changed)
        elif earlier and not retry_failed:
            failed.append(earlier)
        elif missing:
            tasks.append(Task(video, clip, missing))
        else:
            skipped.append(video.video_id)
    return Plan(tuple(tasks), tuple(skipped), tuple(failed))


def _changed(store: FeatureStore, video_id: str, clip: Clip) -> Failure | None:
    """A failure where the store's features were made from other content than the clip's."""
    if video_id not in store:
        return None
    source = store.source(video_id)
    cut_alike = (source.start_seconds, source.end_seconds) == (clip.start_seconds, clip.end_seconds)
    if cut_alike and (source.size_bytes, source.mtime_ns) == clip.stat():
        return None
    if cut_alike and source.sha256 == clip.source().sha256:
        return None
    what = (
        f"other content than {clip.path} has now" if cut_alike else f"another part of {clip.path} than is asked for now"
    )
    message = f"{video_id!r} was extracted from {what}. Give it a new id, or extract into a new store."
    return Failure(video_id, "source_changed", message)


def estimate_cost(plan: Plan, backbone: Backbone) -> Cost:
    """Estimate what a plan will take; runs the backbone on one black window and writes nothing."""
    recipe = backbone.recipe
    item_bytes = np.dtype(recipe.store_dtype).itemsize
    frames = windows = store_bytes = unknown = 0
    for task in plan.tasks:
        sampled = _sampled_frames(task.clip, recipe)
        unknown += sampled == 0
        frames += sampled
        windows += -(-sampled // recipe.window)
        store_bytes += sampled * item_bytes * sum(backbone.layer_channels[key.layer] for key in task.keys)
    seconds = windows * _seconds_per_window(backbone, plan.tasks[0].keys) if plan.tasks else 0.0
    return Cost(len(plan.tasks), frames, windows, store_bytes, seconds, unknown)


def _sampled_frames(clip: Clip, recipe: Recipe) -> int:
    """How many frames of a clip will be used; 0 where its container does not tell, or cannot be opened."""
    try:
        return -(-promised_frames(clip) // recipe.stride) if recipe.fps is None else promised_at(clip, recipe.fps)
    except ClipError:
        return 0


def promised_frames(clip: Clip) -> int:
    """How many frames a container says that it has (0: it does not say), without decoding."""
    if clip.path.is_dir():
        return len(clip.image_paths())
    frames, rate, duration_seconds = _promises(clip)
    if clip.start_seconds is None and clip.end_seconds is None:
        return frames
    return round(_span_seconds(clip, duration_seconds) * rate)


def promised_at(clip: Clip, fps: float) -> int:
    """How many frames a clip has at a sampling rate, as far as its container tells."""
    if clip.path.is_dir():
        return 0
    return math.ceil(_span_seconds(clip, _promises(clip)[2]) * fps)


def _promises(clip: Clip) -> tuple[int, float, float]:
    """A container's count of frames, frames a second, and length in seconds; 0 for what it does not say."""
    import av

    try:
        with av.open(f"file:{clip.path}") as container:
            if not container.streams.video:
                return 0, 0.0, 0.0
            stream = container.streams.video[0]
            rate, seconds = float(stream.average_rate or 0), (container.duration or 0) / av.time_base
            return promised_length(container, stream), rate, seconds
    except (av.FFmpegError, OSError) as error:
        raise ClipError("decode_error", f"{clip.path} cannot be opened as a video: {error}.") from error


def _span_seconds(clip: Clip, duration_seconds: float) -> float:
    end = duration_seconds if clip.end_seconds is None else min(clip.end_seconds, duration_seconds)
    return max(0.0, end - (clip.start_seconds or 0.0))


def _seconds_per_window(backbone: Backbone, keys: Sequence[FeatureKey]) -> float:
    recipe = backbone.recipe
    pixels = torch.full((recipe.window, 3, *recipe.size_hw), BLACK)
    window = Window(pixels, np.arange(recipe.window), np.zeros(recipe.window))
    backbone.features([window], keys)  # the first run also pays for allocation and choice of kernels
    begin = time.perf_counter()
    backbone.features([window], keys)
    return time.perf_counter() - begin
