"""Clips: video files and folders of frames, read as a stream, one frame in memory at a time."""

import hashlib
import math
import re
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8

from actiondiff.extract.errors import ClipError
from actiondiff.manifests import FRAME_SUFFIXES
from actiondiff.store import Source

WHOLE = 0.9
"""A video that decodes to less than this share of what its container speaks of is cut off or damaged."""

_HASH_BLOCK = 1 << 20


@dataclass(frozen=True, eq=False)
class Frame:
    """One decoded frame.

    Attributes:
        index: position in the source, counted from 0 over every frame, used or not.
        pts_seconds: presentation time from the source's first frame; NaN for folders of frames.
        pixels: RGB.
    """

    index: int
    pts_seconds: float
    pixels: UInt8[np.ndarray, "height width 3"]

    def __repr__(self) -> str:
        return f"Frame(index={self.index}, pts_seconds={self.pts_seconds:.3f}, size={self.pixels.shape[:2]})"


@dataclass(frozen=True)
class Sampling:
    """Which frames of a clip are used, from its first: every ``stride``-th, or ``fps`` a second by the clip's times."""

    stride: int = 1
    fps: float | None = None


@dataclass(frozen=True)
class Clip:
    """A video file or folder of png/jpg frames, or the part of a video between two times.

    Attributes:
        path: the file or folder.
        start_seconds: the part's first frame is the first at or after this time.
        end_seconds: frames from this time on do not belong to the part.
    """

    path: Path
    start_seconds: float | None = None
    end_seconds: float | None = None

    def frames(self, sampling: Sampling = Sampling()) -> Iterator[Frame]:
        """Decode the sampled frames, beginning with the first.

        Raises:
            ClipError: the clip cannot be read to its end, or has no frame (codes ``missing``, ``decode_error``,
                ``truncated``, ``no_video``, ``no_frames``, ``no_clock``).
        """
        if not self.path.exists():
            raise ClipError("missing", f"There is nothing at {self.path}.")
        count = 0
        for frame in self._folder_frames(sampling) if self.path.is_dir() else self._video_frames(sampling):
            count += 1
            yield frame
        if not count:
            raise ClipError("no_frames", f"{self.path} has no frame{self._where()}.")

    def source(self) -> Source:
        """Hash the content: one file, or a folder's names and images in order."""
        digest = hashlib.sha256()
        paths = self.image_paths() if self.path.is_dir() else [self.path]
        for path in paths:
            if self.path.is_dir():
                digest.update(f"{path.name}\0{path.stat().st_size}\0".encode())
            with path.open("rb") as file:
                while block := file.read(_HASH_BLOCK):
                    digest.update(block)
        size_bytes, mtime_ns = self.stat()
        return Source(digest.hexdigest(), size_bytes, mtime_ns, self.start_seconds, self.end_seconds)

    def stat(self) -> tuple[int, int]:
        """Size in bytes and latest modification in nanoseconds, without reading the content."""
        stats = [path.stat() for path in (self.image_paths() if self.path.is_dir() else [self.path])]
        return sum(stat.st_size for stat in stats), max((stat.st_mtime_ns for stat in stats), default=0)

    def image_paths(self) -> list[Path]:
        """A folder's frames in natural order: frame 10 comes after frame 9."""
        try:
            images = [path for path in self.path.iterdir() if path.suffix.lower() in FRAME_SUFFIXES]
        except OSError as error:
            raise ClipError("decode_error", f"{self.path} cannot be listed: {error}.") from error
        return sorted((path for path in images if path.name[0] != "."), key=_natural)

    def _video_frames(self, sampling: Sampling) -> Iterator[Frame]:
        import av

        try:
            with av.open(f"file:{self.path}") as container:  # a colon in a name is no protocol
                if not container.streams.video:
                    raise ClipError("no_video", f"{self.path} has no video stream.")
                stream = container.streams.video[0]
                stream.thread_type = "AUTO"
                decoded = yield from self._sampled(container.decode(stream), stream, sampling)
                if not self._is_cut:
                    self._check_whole(decoded, promised_length(container, stream))
        except (av.FFmpegError, OSError, ValueError) as error:
            raise ClipError("decode_error", f"{self.path} cannot be decoded as a video: {error}.") from error

    def _check_whole(self, decoded: int, promised: int) -> None:
        if decoded < WHOLE * promised:
            raise ClipError(
                "truncated",
                f"{self.path} is cut off or damaged: its container speaks of {promised} frames, {decoded} could be "
                "decoded. Mend the file, or say which part to use with start_seconds and end_seconds.",
            )

    def _sampled(self, decoded: Iterator[Any], stream: Any, sampling: Sampling) -> Generator[Frame, None, int]:
        """Yield the sampled frames; returns how many were decoded."""
        begin, wanted, index = stream.start_time or 0, _Wanted(sampling), -1
        for index, frame in enumerate(decoded):
            pts_seconds = math.nan if frame.pts is None else float((frame.pts - begin) * stream.time_base)
            if math.isnan(pts_seconds) and (self._is_cut or sampling.fps):
                raise ClipError("no_clock", f"{self.path} has frames without a time, to cut or sample by.")
            if self.end_seconds is not None and pts_seconds >= self.end_seconds:
                break
            if self.start_seconds is not None and pts_seconds < self.start_seconds:
                continue
            if wanted(pts_seconds):
                yield Frame(index, pts_seconds, _upright(frame))
        return index + 1

    def _folder_frames(self, sampling: Sampling) -> Iterator[Frame]:
        from PIL import Image, ImageOps, UnidentifiedImageError

        if self._is_cut or sampling.fps:
            raise ClipError("no_clock", f"{self.path} is a folder of frames, which has no times to cut or sample by.")
        for index, path in enumerate(self.image_paths()):
            if index % sampling.stride:
                continue
            try:
                with Image.open(path) as image:
                    pixels = _rgb(ImageOps.exif_transpose(image))
            except (UnidentifiedImageError, Image.DecompressionBombError, OSError, SyntaxError) as error:
                raise ClipError("decode_error", f"{path} cannot be decoded as an image: {error}.") from error
            yield Frame(index, math.nan, pixels)

    @property
    def _is_cut(self) -> bool:
        return self.start_seconds is not None or self.end_seconds is not None

    def _where(self) -> str:
        if not self._is_cut:
            return ""
        end = "its end" if self.end_seconds is None else f"{self.end_seconds:g} s"
        return f" between {self.start_seconds or 0:g} s and {end}"


def promised_length(container: Any, stream: Any) -> int:
    """How many frames a container says that a stream has; 0 where it does not say."""
    seconds = float((container.duration or 0) / 1_000_000)  # containers count in microseconds
    return stream.frames or round(seconds * float(stream.average_rate or 0))


def _rgb(image: Any) -> np.ndarray:
    """8-bit RGB of an image; 16-bit grey is scaled, where Pillow would cut it off."""
    if image.mode.startswith("I"):
        grey = np.clip(np.asarray(image, np.float32) / 257, 0, 255).astype(np.uint8)
        return np.repeat(grey[..., None], 3, axis=-1)
    return np.array(image.convert("RGB"))


class _Wanted:
    """Answers for one frame after another whether it is used."""

    def __init__(self, sampling: Sampling) -> None:
        self._sampling, self._seen, self._first, self._taken = sampling, 0, math.nan, 0

    def __call__(self, pts_seconds: float) -> bool:
        if self._sampling.fps is None:
            self._seen += 1
            return (self._seen - 1) % self._sampling.stride == 0
        if math.isnan(self._first):
            self._first = pts_seconds
        # Counted from the first frame, so that rounding never adds up; half a tick's grace for rounded times.
        due = math.floor((pts_seconds - self._first) * self._sampling.fps + 1e-3)
        if due < self._taken:
            return False
        self._taken = due + 1
        return True


def _upright(frame: Any) -> np.ndarray:
    """RGB pixels, turned as the container says that they are to be shown (phones record sideways)."""
    pixels = frame.to_ndarray(format="rgb24")
    quarter_turns = round(frame.rotation / 90) % 4
    return np.ascontiguousarray(np.rot90(pixels, quarter_turns)) if quarter_turns else pixels


def _natural(path: Path) -> tuple[list[tuple[str, int]], str]:
    """By numbers; the name itself decides between frame_1 and frame_01."""
    return [(text, int(number or 0)) for text, number in re.findall(r"(\D*)(\d*)", path.name)], path.name
