"""Clips: video files and folders of frames, read as a stream, one frame in memory at a time."""

import hashlib
import math
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from actiondiff.extract.errors import ClipError
from actiondiff.extract.parts import Shown, between, from_beginning
from actiondiff.extract.pixels import rgb_of_image, rgb_of_picture
from actiondiff.extract.promises import promised_length as promised_length
from actiondiff.extract.reading import Reading
from actiondiff.extract.remembered import Remembered
from actiondiff.extract.timeline import timeline_of
from actiondiff.manifests import FRAME_SUFFIXES, natural_key
from actiondiff.store import Source

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


class Frames(Iterator[Frame]):
    """The sampled frames of a clip, decoded one by one, and what reading them found.

    Attributes:
        reading: complete once the frames have been read to the end; its `notes` are what a report should tell.
    """

    def __init__(self, frames: Iterator[Frame], reading: Reading) -> None:
        self._frames, self.reading = frames, reading

    def __next__(self) -> Frame:
        return next(self._frames)


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

    def frames(self, sampling: Sampling = Sampling(), *, threads: int = 0, short_frames: int = 0) -> Frames:
        """Decode the sampled frames, beginning with the first.

        Args:
            sampling: which frames.
            threads: of the decoder; 0 is one a core.
            short_frames: where the container speaks of at most so many frames, one thread decodes: several short clips
                at once want one each.

        Raises:
            ClipError: while iterating, where the clip cannot be used; its code is one of `extract/README.md`'s table.
        """
        reading = Reading(threads=threads, short_frames=short_frames)
        return Frames(self._frames(sampling, reading), reading)

    def source(self) -> Source:
        """Hash the content: one file, or a folder's names and images in order.

        Raises:
            ClipError: nothing is there (``missing``), or it cannot be read (``decode_error``).
        """
        with self._readable():
            digest = self._folder_digest() if self.path.is_dir() else _file_digest(self.path)
            return Source(digest, *self.stat(), self.start_seconds, self.end_seconds)

    def _folder_digest(self) -> str:
        digest = hashlib.sha256()
        for path in self.image_paths():
            digest.update(f"{path.name}\0{path.stat().st_size}\0".encode())
            _feed(digest, path)
        return digest.hexdigest()

    def stat(self) -> tuple[int, int]:
        """Size in bytes and latest modification in nanoseconds, without reading the content.

        Raises:
            ClipError: as :meth:`source`.
        """
        with self._readable():
            stats = [path.stat() for path in (self.image_paths() if self.path.is_dir() else [self.path])]
        return sum(stat.st_size for stat in stats), max((stat.st_mtime_ns for stat in stats), default=0)

    def is_there(self) -> bool:
        """Whether anything lies at the path, as far as the file system tells."""
        try:
            return self.path.exists()
        except OSError:
            return False

    def image_paths(self) -> list[Path]:
        """A folder's frames in natural order: frame 10 comes after frame 9."""
        try:
            images = [path for path in self.path.iterdir() if path.suffix.lower() in FRAME_SUFFIXES]
        except OSError as error:
            raise ClipError("decode_error", f"{self.path} cannot be listed: {error}.") from error
        return sorted((path for path in images if path.name[0] != "."), key=_natural)

    def _frames(self, sampling: Sampling, reading: Reading) -> Iterator[Frame]:
        with self._readable():
            self.path.stat()
            is_folder = self.path.is_dir()
            # Not only opening: what lies on a server may go away at any frame.
            yield from self._folder_frames(sampling, reading) if is_folder else self._video_frames(sampling, reading)
        if not reading.decoded:
            raise ClipError("no_frames", f"{self.path} has no frame{self._where()}.")

    @contextmanager
    def _readable(self) -> Iterator[None]:
        """Turns what the file system or a malformed file raises into an error of this clip: the others go on."""
        try:
            yield
        except (FileNotFoundError, NotADirectoryError) as error:
            raise ClipError("missing", f"There is nothing at {error.filename or self.path}.") from error
        except (OSError, struct.error) as error:
            raise ClipError("decode_error", f"{self.path} cannot be read: {error}.") from error

    def _video_frames(self, sampling: Sampling, reading: Reading) -> Iterator[Frame]:
        import av

        wanted = _Wanted(sampling)
        try:
            for shown in self._shown(reading):
                if math.isnan(shown.pts_seconds) and (self._is_cut or sampling.fps):
                    raise ClipError("no_clock", f"{self.path} has frames without a time, to cut or sample by.")
                reading.count(shown.pts_seconds)
                if wanted(shown.pts_seconds):
                    yield Frame(shown.index, shown.pts_seconds, rgb_of_picture(shown.picture, shown.matrix))
        except (av.FFmpegError, OSError, ValueError, struct.error) as error:
            raise ClipError("decode_error", f"{self.path} cannot be decoded as a video: {error}.") from error
        self._check_whole(reading)

    def _shown(self, reading: Reading) -> Iterator[Shown]:
        """The clip's pictures, sampled or not."""
        if self.start_seconds:
            timeline = timeline_of(self.path)
            if not timeline.doubt:
                first, last = timeline.span(self.start_seconds, self.end_seconds)
                yield from between(self.path, timeline, first, last, reading) if first < last else ()
                return
        for shown in from_beginning(self.path, reading, whole=not self._is_cut):
            if self.end_seconds is not None and shown.pts_seconds >= self.end_seconds:
                return
            if not shown.pts_seconds < (self.start_seconds or 0.0):
                yield shown

    def _check_whole(self, reading: Reading) -> None:
        if reading.damaged and not reading.decoded:
            raise ClipError("decode_error", f"{self.path} cannot be decoded as a video: {'; '.join(reading.faults)}.")
        if not reading.is_whole:
            raise ClipError(
                "truncated",
                f"{self.path} is cut off or damaged{self._where()}: {reading.shortfall}. Mend the file, or say which "
                "part to use with start_seconds and end_seconds.",
            )

    def _folder_frames(self, sampling: Sampling, reading: Reading) -> Iterator[Frame]:
        if self._is_cut or sampling.fps:
            raise ClipError("no_clock", f"{self.path} is a folder of frames, which has no times to cut or sample by.")
        paths = self.image_paths()
        reading.container, reading.promised = "folder", len(paths)
        reading.codec = ", ".join(sorted({path.suffix.lower().lstrip(".") for path in paths}))
        for index, path in enumerate(paths):
            if index % sampling.stride == 0:
                pixels = rgb_of_image(path)
                reading.see((pixels.shape[0], pixels.shape[1]))
                yield Frame(index, math.nan, pixels)
            reading.count(math.nan)

    @property
    def _is_cut(self) -> bool:
        return self.start_seconds is not None or self.end_seconds is not None

    def _where(self) -> str:
        if not self._is_cut:
            return ""
        end = "its end" if self.end_seconds is None else f"{self.end_seconds:g} s"
        return f" between {self.start_seconds or 0:g} s and {end}"


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


def _feed(digest: "hashlib._Hash", path: Path) -> None:
    with path.open("rb") as file:
        while block := file.read(_HASH_BLOCK):
            digest.update(block)


def _hash_file(path: Path) -> str:
    digest = hashlib.sha256()
    _feed(digest, path)
    return digest.hexdigest()


# Hundreds of rows may be parts of one recording, which is hashed once.
_file_digest = Remembered(_hash_file, most=4096)


def _natural(path: Path) -> tuple[list[str | int], str]:
    """By numbers; the name itself decides between frame_1 and frame_01."""
    return natural_key(path.name), path.name
