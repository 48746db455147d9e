"""Extraction: every clip of a manifest through a backbone into a store, resuming where an earlier run stopped."""

import sys
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from tqdm import tqdm

from actiondiff.extract.backbone import Backbone
from actiondiff.extract.behind import Behind
from actiondiff.extract.clips import Clip
from actiondiff.extract.errors import ClipError
from actiondiff.extract.planning import Task, make_plan
from actiondiff.extract.prefetch import Stream, check_workers, streams
from actiondiff.extract.rows import Rows, to_host
from actiondiff.extract.windows import Window, cut_windows
from actiondiff.manifests import Manifest, Video
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
        notes: what is odd about clips that were extracted all the same, by id.
    """

    done: tuple[str, ...]
    skipped: tuple[str, ...]
    failed: tuple[Failure, ...]
    frames: int
    seconds: float
    not_tried: tuple[str, ...] = ()
    notes: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

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
            "notes": {video_id: list(notes) for video_id, notes in self.notes.items()},
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
    workers: int = 1,
    compression: str | None = None,
    progress: bool = False,
) -> ExtractReport:
    """Write the features of every clip at every key; what the store already has is not done again.

    Clips are decoded ahead and videos are written behind the backbone, each on threads of their own. On Ctrl-C the
    clips that are whole are kept, and the next run goes on from there.

    Args:
        manifest: the clips.
        store: the store's folder or URL, made if it is not there.
        backbone: see :func:`actiondiff.extract.load_backbone`.
        keys: layers and timesteps.
        on_error: ``skip`` notes a clip that cannot be read and goes on; ``fail`` stops there.
        retry_failed: try clips again that failed in an earlier run.
        workers: threads that decode ahead; 0 decodes between the windows.
        compression: of a new store, ``none`` or ``zstd``.
        progress: show a bar on stderr.

    Raises:
        RecipeMismatch: the store holds features of another recipe.
    """
    began = time.perf_counter()
    recipe = backbone.recipe
    check_workers(workers)
    writer = StoreWriter(store, recipe.to_json(), recipe.store_dtype, notice=backbone.notice, compression=compression)
    plan = make_plan(manifest, store, recipe, keys, retry_failed=retry_failed)
    ledger = _Ledger(len(plan.tasks), progress)
    with Behind(writer) as behind, closing(streams(plan.tasks, recipe, workers)) as found, ledger:
        for rows in _settled(found, backbone):
            ledger.note(rows, behind)
            if rows.failure and on_error == "fail":
                break
    tried = {*ledger.done, *(failure.video_id for failure in ledger.failed)}
    not_tried = tuple(task.video.video_id for task in plan.tasks if task.video.video_id not in tried)
    seconds = time.perf_counter() - began
    failed = (*plan.failed, *ledger.failed)
    return ExtractReport(tuple(ledger.done), plan.skipped, failed, ledger.frames, seconds, not_tried, ledger.notes)


class _Ledger:
    """What became of the videos of a run, and the bar that shows it."""

    def __init__(self, total: int, progress: bool) -> None:
        self.done: list[str] = []
        self.failed: list[Failure] = []
        self.notes: dict[str, tuple[str, ...]] = {}
        self.frames = 0
        interval_seconds = 0.5 if sys.stderr.isatty() else 30.0
        self._bar = tqdm(total=total, unit="clip", disable=not progress, file=sys.stderr, mininterval=interval_seconds)

    def __enter__(self) -> None:
        return None

    def __exit__(self, *_: object) -> None:
        self._bar.close()

    def note(self, rows: Rows, writer: Behind) -> None:
        """Hand a settled video, or why there is none, to the writer."""
        if rows.failure is not None:
            self.failed.append(rows.failure)
            writer.fail(rows.failure)
        else:
            writer.add(rows.video())
            self.done.append(rows.task.video.video_id)
            self.frames += rows.frames
            if rows.notes:
                self.notes[rows.task.video.video_id] = rows.notes
        rate = self.frames / max(self._bar.format_dict["elapsed"], 1e-9)
        self._bar.set_postfix_str(f"{rate:.1f} frames/s, {len(self.failed)} failed", refresh=False)
        self._bar.update()


def _settled(found: Iterator[Stream], backbone: Backbone) -> Iterator[Rows]:
    """Videos in order, each as soon as its last window is through the backbone, or its failure is known."""
    batch = _Batch(backbone)
    open_rows: deque[Rows] = deque()
    for stream in found:
        rows = Rows(stream.task, backbone.recipe.store_dtype)
        open_rows.append(rows)
        _decode(stream, rows, batch)
        while open_rows and open_rows[0].settled:
            yield open_rows.popleft()
    batch.run()
    yield from open_rows


def _decode(stream: Stream, rows: Rows, batch: "_Batch") -> None:
    video_id, path = stream.task.video.video_id, stream.task.clip.path
    try:
        for window in stream:
            batch.add(rows, window)
            if rows.failure is not None:
                return
        rows.source, rows.notes = stream.source, stream.notes
    except ClipError as error:
        rows.fail(error.code, str(error))
    except Exception as error:
        error.add_note(f"while extracting {video_id!r} from {path}")
        raise


class _Batch:
    """Windows of one or several videos that go through the backbone together."""

    def __init__(self, backbone: Backbone) -> None:
        self._backbone = backbone
        self._waiting: list[tuple[Rows, Window]] = []

    def add(self, rows: Rows, window: Window) -> None:
        """Put a window in; runs the batch when it is full, or when the video wants other features."""
        if self._waiting and self._waiting[0][0].task.keys != rows.task.keys:
            self.run()
        rows.expect()
        self._waiting.append((rows, window))
        if len(self._waiting) >= self._backbone.windows_at_once(rows.task.keys):
            self.run()

    def run(self) -> None:
        """Send what waits through the backbone and its features to their videos."""
        waiting = [(rows, window) for rows, window in self._waiting if rows.failure is None]
        self._waiting = []
        if not waiting:
            return
        windows = [window for _, window in waiting]
        features = to_host(self._backbone.features(windows, waiting[0][0].task.keys))
        for (rows, window), found in zip(waiting, features, strict=True):
            if rows.failure is None:
                try:
                    rows.take(window, found)
                except FeatureValueError as error:
                    rows.fail(error.code, str(error))


def extract_clip(video_id: str, clip: Clip, backbone: Backbone, keys: Sequence[FeatureKey]) -> VideoFeatures:
    """Features of one clip, as they would be stored.

    Raises:
        ClipError: the clip cannot be read to its end.
        FeatureValueError: a value is not finite, or overflows the store's dtype.
    """
    rows = Rows(Task(Video(video_id, str(clip.path)), clip, tuple(keys)), backbone.recipe.store_dtype)
    for window in cut_windows(clip, backbone.recipe, video_id):
        rows.expect()
        rows.take(window, to_host(backbone.features([window], keys))[0])
    rows.source = clip.source()
    return rows.video()
