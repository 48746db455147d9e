"""What a plan will take: frames, windows, bytes, hours, told beforehand."""

import math
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
        decoding_seconds: of one thread that decodes.
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
    recipe = backbone.recipe
    item_bytes = np.dtype(recipe.store_dtype).itemsize
    frames = windows = store_bytes = unknown = 0
    for task in plan.tasks:
        sampled = _sampled_frames(task.clip, recipe)
        unknown += sampled == 0
        frames += sampled
        windows += -(-sampled // recipe.window)
        store_bytes += sampled * item_bytes * sum(backbone.layer_channels[key.layer] for key in task.keys)
    if not plan.tasks:
        return Cost(0, 0, 0, 0, 0.0, 0.0, 0.0, 0)
    probe = _probe(plan.tasks, backbone)
    network_seconds, decoding_seconds = windows * probe.network_seconds, windows * probe.decoding_seconds
    seconds = network_seconds + decoding_seconds
    if workers:
        seconds = max(network_seconds, decoding_seconds / workers)
    return Cost(len(plan.tasks), frames, windows, store_bytes, seconds, network_seconds, decoding_seconds, unknown)


@dataclass(frozen=True)
class _Probe:
    """What one window takes."""

    network_seconds: float
    decoding_seconds: float


def _probe(tasks: Sequence[Task], backbone: Backbone) -> _Probe:
    """Time the first window of a few clips, spread over the plan: decoding each, and the network on the last."""
    recipe = backbone.recipe
    window = Window(
        torch.full((recipe.window, 3, *recipe.size_hw), BLACK), np.arange(recipe.window), np.zeros(recipe.window)
    )
    decoding: list[float] = []
    for task in tasks[:: max(1, len(tasks) // PROBED_CLIPS)][:PROBED_CLIPS]:
        begin = time.perf_counter()
        try:
            window = next(cut_windows(task.clip, recipe, task.video.video_id))
        except ClipError:
            continue
        decoding.append((time.perf_counter() - begin) * recipe.window / window.real_frames)
    keys = tasks[0].keys
    backbone.features([window], keys)  # the first run also pays for allocation and choice of kernels
    together = [window] * backbone.windows_at_once(keys)
    begin = time.perf_counter()
    to_host(backbone.features(together, keys))
    network_seconds = (time.perf_counter() - begin) / len(together)
    return _Probe(network_seconds, statistics.median(decoding) if decoding else 0.0)


def _sampled_frames(clip: Clip, recipe: Recipe) -> int:
    """How many frames of a clip will be used; 0 where its container does not tell, or cannot be opened."""
    try:
        return -(-promised_frames(clip) // recipe.stride) if recipe.fps is None else promised_at(clip, recipe.fps)
    except (ClipError, OSError):
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
