"""Looking at clips before they cost GPU time: every one is decoded to its end, several at once."""

import os
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import Any

from tqdm import tqdm

from actiondiff.extract.clips import Clip, Sampling
from actiondiff.extract.errors import ClipError
from actiondiff.extract.planning import clip_of
from actiondiff.extract.reading import Reading
from actiondiff.manifests import Manifest

_LOOK_EVERY = 25
"""Every so many frames are converted, and it is asked whether to stop; the others are only decoded."""


@dataclass(frozen=True)
class ClipCheck:
    """What decoding a clip found.

    Attributes:
        video_id: of the manifest.
        container: format's name; ``folder`` for a folder of frames.
        codec: its name.
        pixel_format: FFmpeg's name; empty for a folder.
        frames: decoded frames.
        promised: frames that should be there, by the container's count or, for a part of a video, by the times of its
            packets; 0 where there is no count.
        size_hw: height and width of the first, as shown (after turning); (0, 0) without frames.
        frames_per_second: mean rate; 0 where there is no clock.
        variable_rate: frames follow each other at clearly different distances.
        seconds: time of the last frame less that of the first; 0 where there is no clock.
        turn: how frames are turned to be shown: empty, ``90``, ``180``, ``270`` degrees clockwise, ``mirrored``.
        interlaced: frames hold two fields.
        damaged: packets that could not be decoded.
        notes: what is odd about a clip that can be used all the same.
        code: stable code of why it cannot be used, empty where it can.
        fault: the same in words.
    """

    video_id: str
    container: str
    codec: str
    pixel_format: str
    frames: int
    promised: int
    size_hw: tuple[int, int]
    frames_per_second: float
    variable_rate: bool
    seconds: float
    turn: str
    interlaced: bool
    damaged: int
    notes: tuple[str, ...] = ()
    code: str = ""
    fault: str = ""

    @property
    def note(self) -> str:
        """The notes in one line."""
        return "; ".join(self.notes)

    def to_json(self) -> dict[str, Any]:
        """Everything, as JSON values."""
        return {**asdict(self), "note": self.note}


def check_clips(manifest: Manifest, *, workers: int | None = None, progress: bool = False) -> Iterator[ClipCheck]:
    """Decode every clip of a manifest; answers come in its order.

    Leaving the iterator, also by Ctrl-C, stops what is being decoded.

    Args:
        manifest: the clips.
        workers: clips decoded at once; None is one a core.
        progress: show a bar on stderr.
    """
    stop = threading.Event()
    bar = tqdm(total=len(manifest.videos), unit="clip", disable=not progress, file=sys.stderr)
    with bar, ThreadPoolExecutor(workers or _cores()) as pool:
        try:
            futures = [
                pool.submit(check_clip, video.video_id, clip_of(manifest, video), threads=1, stop=stop)
                for video in manifest.videos
            ]
            for future in futures:
                future.add_done_callback(lambda _: bar.update())
            for future in futures:
                yield future.result()
        finally:
            stop.set()
            pool.shutdown(cancel_futures=True)


def check_clip(video_id: str, clip: Clip, *, threads: int = 0, stop: threading.Event | None = None) -> ClipCheck:
    """Decode one clip to its end, or until it is told to stop."""
    # Images are only looked at if they are asked for; of a video every frame is decoded anyway.
    frames = clip.frames(Sampling(1 if clip.path.is_dir() else _LOOK_EVERY), threads=threads)
    code = fault = ""
    try:
        for _ in frames:
            if stop is not None and stop.is_set():
                code, fault = "interrupted", "This clip was not looked at to its end."
                break
    except ClipError as error:
        code, fault = error.code, str(error)
    return _check_of(video_id, frames.reading, code, fault)


def _check_of(video_id: str, reading: Reading, code: str, fault: str) -> ClipCheck:
    elapsed = reading.last_seconds - reading.first_seconds
    return ClipCheck(
        video_id,
        reading.container,
        reading.codec,
        reading.pixel_format,
        reading.decoded,
        max(0, reading.promised - reading.without_picture),
        reading.size_hw,
        round(reading.frames_per_second, 6),
        reading.variable_rate,
        round(elapsed, 6) if elapsed > 0 else 0.0,
        reading.turn,
        reading.interlaced,
        reading.damaged,
        reading.notes,
        code,
        fault,
    )


def _cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
