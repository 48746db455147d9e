"""What a plan will take: frames, windows, bytes, hours, told beforehand."""

import math
import os
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from actiondiff.extract.backbone import Backbone
from actiondiff.extract.clips import Clip, promised_length
from actiondiff.extract.errors import ClipError
from actiondiff.extract.planning import Plan, Task
from actiondiff.extract.prefetch import check_workers, most_frames_at_once
from actiondiff.extract.recipe import Recipe
from actiondiff.extract.rows import to_host
from actiondiff.extract.windows import BLACK, Window, cut_windows

PROBED_CLIPS = 3


@dataclass(frozen=True)
class Cost:
    """What a plan will take, from the clips' containers and a few measured windows.

    Attributes:
        clips: videos to extract.
        frames: sampled frames, as far as the containers tell the truth.
        windows: runs of the backbone.
        store_bytes: on disk.
        seconds: expected on this device, where decoding goes on beside the network.
        network_seconds: of the network alone.
        decoding_seconds: of decoding alone, short clips beside each other, long ones one after another on all cores.
        unknown: clips that cannot be opened or whose container does not tell a length.
    """

    clips: int
    frames: int
    windows: int
    store_bytes: int
    seconds: float
    network_seconds: float
    decoding_seconds: float
    unknown: int


def estimate_cost(plan: Plan, backbone: Backbone, *, workers: int = 1) -> Cost:
    """Estimate what a plan will take, from what the containers say and a probe of a few windows; writes nothing.

    Args:
        plan: what is left to do.
        backbone: the first window that can be decoded goes through it.
        workers: threads that would decode ahead.
    """
    check_workers(workers)
    recipe = backbone.recipe
    item_bytes = np.dtype(recipe.store_dtype).itemsize
    short = most_frames_at_once(recipe, workers)
    frames = store_bytes = unknown = short_windows = long_windows = short_clips = 0
    for task in plan.tasks:
        promised, sampled = _promised_and_sampled(task.clip, recipe)
        unknown += sampled == 0
        frames += sampled
        is_short = 0 < promised <= short
        short_clips += is_short
        windows = -(-sampled // recipe.window)
        short_windows, long_windows = short_windows + is_short * windows, long_windows + (not is_short) * windows
        store_bytes += sampled * item_bytes * sum(backbone.layer_channels[key.layer] for key in task.keys)
    if not plan.tasks:
        return Cost(0, 0, 0, 0, 0.0, 0.0, 0.0, 0)
    probe = _probe(plan.tasks, backbone, short)
    windows = short_windows + long_windows
    network_seconds = windows * probe.network_seconds
    beside = max(1, min(workers, os.cpu_count() or 1, short_clips))
    decoding_seconds = short_windows * probe.short_seconds / beside + long_windows * probe.long_seconds
    seconds = max(network_seconds, decoding_seconds) if workers else network_seconds + decoding_seconds
    return Cost(len(plan.tasks), frames, windows, store_bytes, seconds, network_seconds, decoding_seconds, unknown)


@dataclass(frozen=True)
class _Probe:
    """What one window takes: of the network, of decoding a short clip by one thread, a long one by all cores."""

    network_seconds: float
    short_seconds: float
    long_seconds: float


def _probe(tasks: Sequence[Task], backbone: Backbone, short: int) -> _Probe:
    """Time the first window of a few clips, spread over the plan: decoding each, and the network on the last."""
    recipe = backbone.recipe
    window = Window(
        torch.full((recipe.window, 3, *recipe.size_hw), BLACK), np.arange(recipe.window), np.zeros(recipe.window)
    )
    decoding: dict[bool, list[float]] = {True: [], False: []}
    for task in tasks[:: max(1, len(tasks) // PROBED_CLIPS)][:PROBED_CLIPS]:
        is_short = 0 < _promised_and_sampled(task.clip, recipe)[0] <= short
        begin = time.perf_counter()
        try:
            decoded = task.clip.frames(recipe.sampling, short_frames=short)
            window = next(cut_windows(task.clip, recipe, task.video.video_id, decoded))
        except ClipError:
            continue
        decoding[is_short].append((time.perf_counter() - begin) * recipe.window / window.real_frames)
    keys = tasks[0].keys
    backbone.features([window], keys)  # the first run also pays for allocation and choice of kernels
    together = [window] * backbone.windows_at_once(keys)
    begin = time.perf_counter()
    to_host(backbone.features(together, keys))
    network_seconds = (time.perf_counter() - begin) / len(together)
    either = [*decoding[True], *decoding[False]] or [0.0]
    return _Probe(network_seconds, *(statistics.median(decoding[is_short] or either) for is_short in (True, False)))


def _promised_and_sampled(clip: Clip, recipe: Recipe) -> tuple[int, int]:
    """How many frames a clip has and how many are used; 0 where its container does not tell, or cannot be opened."""
    try:
        promised = promised_frames(clip)
        return promised, -(-promised // recipe.stride) if recipe.fps is None else promised_at(clip, recipe.fps)
    except (ClipError, OSError):
        return 0, 0


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
