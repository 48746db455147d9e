"""Extraction: every clip of a manifest through a backbone into a store, resuming where an earlier run stopped."""

import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
import torch
from tqdm import tqdm

from actiondiff.extract.backbone import Backbone
from actiondiff.extract.clips import Clip
from actiondiff.extract.errors import ClipError
from actiondiff.extract.planning import Plan, Task, make_plan
from actiondiff.extract.windows import cut_windows
from actiondiff.manifests import Manifest
from actiondiff.store import Failure, FeatureKey, FeatureValueError, Place, StoreWriter, VideoFeatures


@dataclass(frozen=True)
class ExtractReport:
    """How an extraction ended.

    Attributes:
        done: ids extracted in this run.
        skipped: ids whose features were there already.
        failed: one record for every video without features, from this run or an earlier one.
        frames: sampled frames extracted in this run.
        seconds: wall time of this run, without loading weights.
        not_tried: ids that ``on_error="fail"`` left when it stopped.
    """

    done: tuple[str, ...]
    skipped: tuple[str, ...]
    failed: tuple[Failure, ...]
    frames: int
    seconds: float
    not_tried: tuple[str, ...] = ()

    @property
    def frames_per_second(self) -> float:
        """Sampled frames a second."""
        return self.frames / self.seconds if self.seconds else 0.0

    def to_json(self) -> dict[str, Any]:
        """Counts, rates and failures as JSON values."""
        return {
            "done": len(self.done),
            "skipped": len(self.skipped),
            "failed": [asdict(failure) for failure in self.failed],
            "not_tried": len(self.not_tried),
            "frames": self.frames,
            "seconds": round(self.seconds, 3),
            "frames_per_second": round(self.frames_per_second, 3),
        }


def extract(
    manifest: Manifest,
    store: str | Place,
    backbone: Backbone,
    keys: Sequence[FeatureKey],
    *,
    on_error: Literal["skip", "fail"] = "skip",
    retry_failed: bool = False,
    compression: str | None = None,
    progress: bool = False,
) -> ExtractReport:
    """Write the features of every clip at every key; what the store already has is not done again.

    On Ctrl-C the clips that are whole are kept, and the next run goes on from there.

    Args:
        manifest: the clips.
        store: the store's folder or URL, made if it is not there.
        backbone: see :func:`actiondiff.extract.load_backbone`.
        keys: layers and timesteps.
        on_error: ``skip`` notes a clip that cannot be read and goes on; ``fail`` stops there.
        retry_failed: try clips again that failed in an earlier run.
        compression: of a new store, ``none`` or ``zstd``.
        progress: show a bar on stderr.

    Raises:
        RecipeMismatch: the store holds features of another recipe.
    """
    began = time.perf_counter()
    recipe = backbone.recipe
    with StoreWriter(
        store, recipe.to_json(), recipe.store_dtype, notice=backbone.notice, compression=compression
    ) as writer:
        plan = make_plan(manifest, store, recipe, keys, retry_failed=retry_failed)
        done, failed, frames = _run(plan, backbone, writer, on_error, progress)
    tried = {*done, *(failure.video_id for failure in failed)}
    not_tried = tuple(task.video.video_id for task in plan.tasks if task.video.video_id not in tried)
    seconds = time.perf_counter() - began
    return ExtractReport(tuple(done), plan.skipped, (*plan.failed, *failed), frames, seconds, not_tried)


def _run(
    plan: Plan, backbone: Backbone, writer: StoreWriter, on_error: str, progress: bool
) -> tuple[list[str], list[Failure], int]:
    done: list[str] = []
    failed: list[Failure] = []
    frames = 0
    interval_seconds = 0.5 if sys.stderr.isatty() else 30.0
    with tqdm(
        total=len(plan.tasks), unit="clip", disable=not progress, file=sys.stderr, mininterval=interval_seconds
    ) as bar:
        for task in plan.tasks:
            outcome = _extract_task(task, backbone, writer)
            if isinstance(outcome, Failure):
                failed.append(outcome)
                writer.fail(outcome)
                if on_error == "fail":
                    break
            else:
                done.append(task.video.video_id)
                frames += outcome
            rate = frames / max(bar.format_dict["elapsed"], 1e-9)
            bar.set_postfix_str(f"{rate:.1f} frames/s, {len(failed)} failed", refresh=False)
            bar.update()
    return done, failed, frames


def _extract_task(task: Task, backbone: Backbone, writer: StoreWriter) -> int | Failure:
    """Extract one video into the writer; the number of its frames, or why there are none."""
    video_id = task.video.video_id
    try:
        features = extract_clip(video_id, task.clip, backbone, task.keys)
        writer.add(features)
    except (ClipError, FeatureValueError) as error:
        return Failure(video_id, error.code, str(error))
    except Exception as error:
        error.add_note(f"while extracting {video_id!r} from {task.clip.path}")
        raise
    return len(features.frame_index)


def extract_clip(video_id: str, clip: Clip, backbone: Backbone, keys: Sequence[FeatureKey]) -> VideoFeatures:
    """Features of one clip: its windows through the backbone, one after another, rows put together.

    Windows go alone, so that a video's bytes do not depend on which other videos are extracted beside it.

    Raises:
        ClipError: the clip cannot be read to its end.
    """
    rows: dict[FeatureKey, list[torch.Tensor]] = {key: [] for key in keys}
    frame_index, pts_seconds = [], []
    for window in cut_windows(clip, backbone.recipe, video_id):
        for key, features in backbone.features([window], keys)[0].items():
            rows[key].append(features)
        frame_index.append(window.frame_index)
        pts_seconds.append(window.pts_seconds)
    return VideoFeatures(
        video_id,
        clip.source(),
        np.concatenate(frame_index),
        np.concatenate(pts_seconds),
        {key: torch.cat(parts).cpu().numpy() for key, parts in rows.items()},
    )
