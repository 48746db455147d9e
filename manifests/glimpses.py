"""A few small pictures of a clip and the length of its file, without decoding it from end to end.

Letters of a name say its axes: F the frames looked at, H height, W width.
"""

# ruff: noqa: N803, N815 - letters of a name say its axes

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float32, Real

from actiondiff.manifests.manifest import Manifest
from actiondiff.manifests.scan import FRAME_SUFFIXES, natural_key
from actiondiff.manifests.video import Video

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream

PARTS = (0.25, 0.5, 0.75)
"""Where in the clip its pictures are taken. Not the ends: titles, fades and cuts are there."""

SIDE, PIXELS_PER_CELL = 9, 8
SMALL = SIDE * PIXELS_PER_CELL
"""A picture is SIDE by SIDE cells, each the mean of so many pixels a side of a frame that was made small before."""

SEEK_BEYOND_SECONDS = 10.0
"""Nearer pictures are reached by decoding on: a seek would mostly go back to the keyframe that was passed already."""

ROWS_AT_ONCE = 50
"""Rows of one file that are looked at together, with the file opened once."""


@dataclass(frozen=True)
class Glimpse:
    """What a look at a clip found.

    Attributes:
        seconds: length of the clip; None where it cannot be told.
        pictures_FHW: grey, 0 to 255, upright, at `PARTS` of the clip; None where not asked for or not to be had.
        fault: why there are none.
    """

    seconds: float | None = None
    pictures_FHW: Float32[np.ndarray, "F H W"] | None = None
    fault: str = ""


def glimpses(
    manifest: Manifest,
    *,
    pictures: bool,
    workers: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, Glimpse]:
    """Look at every clip whose file is there.

    Args:
        manifest: the clips.
        pictures: take pictures too, which decodes some frames; lengths alone only open the file.
        workers: files read at once; None is one a core.
        progress: is told (clips done, all clips).

    Returns:
        By id, in the manifest's order.
    """
    batches = list(_batches(manifest))
    rows, found = sum(len(videos) for _, videos in batches), dict[str, Glimpse]()
    if progress is not None:
        progress(0, rows)
    with ThreadPoolExecutor(workers or _cores()) as pool:
        try:
            for future in as_completed([pool.submit(_look, path, videos, pictures) for path, videos in batches]):
                found |= future.result()
                if progress is not None:
                    progress(len(found), rows)
        finally:
            pool.shutdown(cancel_futures=True)
    return {video.video_id: found[video.video_id] for video in manifest if video.video_id in found}


def _batches(manifest: Manifest) -> Iterator[tuple[Path, list[Video]]]:
    by_path: dict[Path, list[Video]] = {}
    for video in manifest:
        by_path.setdefault(manifest.source(video), []).append(video)
    for path, videos in by_path.items():
        if path.exists():
            videos.sort(key=lambda video: video.start_seconds or 0.0)
            yield from ((path, videos[at : at + ROWS_AT_ONCE]) for at in range(0, len(videos), ROWS_AT_ONCE))


def _look(path: Path, videos: Sequence[Video], pictures: bool) -> dict[str, Glimpse]:
    import av

    if path.is_dir():
        return {video.video_id: _of_folder(path, pictures) for video in videos}
    try:
        with av.open(f"file:{path}") as container:  # a colon in a name is no protocol
            stream = _stream(container)
            seconds = _seconds(container, stream)
            frames = _Frames(container, stream) if pictures else None
            return {video.video_id: _of_video(frames, video, length_of(video, seconds)) for video in videos}
    except (av.FFmpegError, OSError, ValueError) as error:
        fault = f"{path} cannot be read as a video: {error}."
        return {video.video_id: Glimpse(length_of(video), fault=fault) for video in videos}


def _of_folder(path: Path, pictures: bool) -> Glimpse:
    """Pictures of a folder of frames; it has no clock, so no length."""
    from PIL import Image, ImageOps

    names = sorted((f.name for f in path.iterdir() if f.suffix.lower() in FRAME_SUFFIXES), key=natural_key)
    if not names:
        return Glimpse(fault=f"{path} holds no png or jpg frames.")
    if not pictures:
        return Glimpse()
    taken = []
    for name in (names[int(part * len(names))] for part in PARTS):
        try:
            with Image.open(path / name) as image:
                grey = ImageOps.exif_transpose(image if image.mode.startswith("I") else image.convert("L")).convert("F")
                taken.append(_cells(np.asarray(grey.resize((SMALL, SMALL), Image.Resampling.BOX))))
        except (OSError, ValueError, Image.DecompressionBombError) as error:
            return Glimpse(fault=f"{path / name} cannot be read as a picture: {error}.")
    return Glimpse(pictures_FHW=np.stack(taken))


def _of_video(frames: "_Frames | None", video: Video, seconds: float | None) -> Glimpse:
    import av

    if frames is None:
        return Glimpse(seconds)
    if seconds is None:
        return Glimpse(fault=f"{video.path} does not tell its length, so that its pictures cannot be placed.")
    if not seconds:
        return Glimpse(0.0, fault=f"{video.path} ends before {video.video_id} begins.")
    start = video.start_seconds or 0.0
    try:
        return Glimpse(seconds, np.stack([frames.picture(start + part * seconds) for part in PARTS]))
    except (av.FFmpegError, OSError, ValueError) as error:
        return Glimpse(seconds, fault=f"{video.path} cannot be decoded: {error}.")


def length_of(video: Video, file_seconds: float | None = None) -> float | None:
    """Seconds of a row's part of its file, which ends with the file at the latest; None where nothing tells its end."""
    ends = [end for end in (video.end_seconds, file_seconds) if end is not None]
    return max(0.0, min(ends) - (video.start_seconds or 0.0)) if ends else None


def _seconds(container: "InputContainer", stream: "VideoStream") -> float | None:
    """Length of a file as its stream tells it, or else its container (Matroska's streams do not)."""
    import av

    if stream.duration and stream.time_base:
        return float(stream.duration * stream.time_base)
    return container.duration / av.time_base if container.duration else None


def _stream(container: "InputContainer") -> "VideoStream":
    import av

    cover = av.stream.Disposition.attached_pic
    stream = next((stream for stream in container.streams.video if not stream.disposition & cover), None)
    if stream is None:
        raise ValueError("it has no video stream")
    return stream


class _Frames:
    """The frames of an open file by time, counted from its first frame as in a manifest's rows."""

    def __init__(self, container: "InputContainer", stream: "VideoStream") -> None:
        self._container, self._stream = container, stream
        if stream.codec_context is None:
            raise ValueError("there is no decoder for its codec")
        stream.codec_context.thread_count = 1
        self._frames = container.decode(stream)
        self._shown = next(self._frames, None)
        if self._shown is None:
            raise ValueError("it holds no picture")
        self._origin, self._at, self._asked = _time(container, self._shown), 0.0, 0.0

    def picture(self, seconds: float) -> Float32[np.ndarray, "H W"]:
        """The first frame at or after a time, or else the last one."""
        if not self._asked <= seconds <= self._at + SEEK_BEYOND_SECONDS:
            self._seek(seconds)
        self._asked = np.inf  # what fails on the way is not gone on with: the next call seeks
        while self._at < seconds and (frame := next(self._frames, None)) is not None:
            self._at, self._shown = _time(self._container, frame) - self._origin, frame
        if self._shown is None:
            raise ValueError(f"no picture at {seconds:.3f} s")
        self._asked = seconds
        return _picture(self._shown)

    def _seek(self, seconds: float) -> None:
        self._container.seek(int((self._origin + seconds) / (self._stream.time_base or 1)), stream=self._stream)
        self._frames, self._shown, self._at = self._container.decode(self._stream), None, -np.inf


def _time(container: "InputContainer", frame: "VideoFrame") -> float:
    # AVI holds times of decoding only; what PyAV calls pts there jumps to and fro where there are B-frames.
    ticks = frame.dts if container.format.name == "avi" or frame.pts is None else frame.pts
    if ticks is None or frame.time_base is None:
        raise ValueError("its frames have no times")
    return float(ticks * frame.time_base)


def _picture(frame: "VideoFrame") -> Float32[np.ndarray, "H W"]:
    small = frame.reformat(SMALL, SMALL, "gray", interpolation="AREA", threads=1).to_ndarray()
    return np.rot90(_cells(small), round(frame.rotation / 90))


def _cells(small_HW: Real[np.ndarray, "H W"]) -> Float32[np.ndarray, "H_cells W_cells"]:
    cells = small_HW.reshape(SIDE, PIXELS_PER_CELL, SIDE, PIXELS_PER_CELL)
    return cells.mean(axis=(1, 3), dtype=np.float32)


def _cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
