"""What decoding a clip found, beside what its container promises."""

import math
from dataclasses import dataclass, field

WHOLE = 0.9
"""A video that decodes to less than this share of what its container speaks of is cut off or damaged."""

_UNEVEN = 1.5
"""Longest over shortest time between frames from which a rate is variable; milliseconds round 8 and 9 to 1.13."""

_OFTEN = 0.02
"""Share of uneven distances from which a rate is variable, and not one with a gap (a frame that was dropped)."""

_LATE_SECONDS = 0.1
"""A picture that begins this much after the sound is worth a note to people who cut by time."""


@dataclass
class Reading:
    """The tally of one pass over a clip; complete once its frames have been read to the end.

    Attributes:
        threads: of the decoder; 0 is one a core.
        short_frames: what has at most so many frames, by its container, is decoded by one thread.
        container: format's name; ``folder`` for a folder of frames.
        codec: its name; the first image's suffix for a folder.
        pixel_format: FFmpeg's name, such as ``yuv420p``; empty for a folder.
        size_hw: height and width of the first frame, as shown (after turning); (0, 0) before it.
        other_sizes_hw: of later frames, where they differ.
        turn: how frames are turned to be shown: empty, ``90``, ``180`` or ``270`` degrees clockwise, ``mirrored``.
        interlaced: frames hold two fields of different times; they are used as they are.
        video_streams: real ones; the first is read.
        promised: frames that the container speaks of, or that the clip's part should have; 0 where that is not said.
        promised_seconds: length that the container speaks of; 0 where that is not said.
        decoded: frames decoded, used or not.
        without_picture: packets that hold no picture and do not pretend to: encoders' placeholders, edited out.
        damaged: packets that the decoder refused, places where the file could not be read on.
        corrupt: frames that the decoder had to guess a part of.
        without_time: frames whose time is not known, or goes backwards.
        first_seconds: time of the first frame; NaN where frames have none.
        last_seconds: time of the last.
        shortest_seconds: shortest time from one frame to the next.
        longest_seconds: longest time from one frame to the next.
        uneven_steps: distances clearly longer than the shortest before.
        late_seconds: how long after the file's beginning (its sound) the picture begins.
        reached_seconds: end of the last packet of any stream, counted like promised_seconds.
    """

    threads: int = 0
    short_frames: int = 0
    container: str = ""
    codec: str = ""
    pixel_format: str = ""
    size_hw: tuple[int, int] = (0, 0)
    other_sizes_hw: list[tuple[int, int]] = field(default_factory=list)
    turn: str = ""
    interlaced: bool = False
    video_streams: int = 1
    promised: int = 0
    promised_seconds: float = 0.0
    decoded: int = 0
    without_picture: int = 0
    damaged: int = 0
    corrupt: int = 0
    without_time: int = 0
    first_seconds: float = math.nan
    last_seconds: float = math.nan
    shortest_seconds: float = math.inf
    longest_seconds: float = 0.0
    uneven_steps: int = 0
    late_seconds: float = 0.0
    reached_seconds: float = 0.0
    faults: list[str] = field(default_factory=list)

    def count(self, pts_seconds: float) -> None:
        """Note one more decoded frame and its time."""
        self.decoded += 1
        if math.isnan(pts_seconds):
            return
        if math.isnan(self.first_seconds):
            self.first_seconds = pts_seconds
        else:
            step = pts_seconds - self.last_seconds
            self.shortest_seconds = min(self.shortest_seconds, step)
            self.longest_seconds = max(self.longest_seconds, step)
            self.uneven_steps += step > _UNEVEN * self.shortest_seconds
        self.last_seconds = pts_seconds

    def see(self, size_hw: tuple[int, int]) -> None:
        """Note a frame's size. Frames are resized one by one, so that sizes may change."""
        if self.size_hw == (0, 0):
            self.size_hw = size_hw
        elif size_hw != self.size_hw and size_hw not in self.other_sizes_hw:
            self.other_sizes_hw.append(size_hw)

    def begin_again(self) -> None:
        """Forget what decoding met: it is tried in another way."""
        self.damaged, self.corrupt, self.size_hw = 0, 0, (0, 0)
        self.faults.clear()
        self.other_sizes_hw.clear()

    def damage(self, error: Exception) -> None:
        """Note a packet that could not be decoded, or a place from which the file could not be read."""
        self.damaged += 1
        words = getattr(error, "strerror", None) or str(error)
        if words not in self.faults:
            self.faults.append(words)

    @property
    def frames_per_second(self) -> float:
        """Mean rate; 0 where frames have no time, or there is only one."""
        elapsed = self.last_seconds - self.first_seconds
        return (self.decoded - 1) / elapsed if elapsed > 0 else 0.0

    @property
    def variable_rate(self) -> bool:
        """Whether frames often follow each other at clearly different distances."""
        return self._is_uneven and self.uneven_steps > _OFTEN * self.decoded

    @property
    def _is_uneven(self) -> bool:
        return self.longest_seconds > _UNEVEN * self.shortest_seconds

    @property
    def missing(self) -> int:
        """How many frames fewer than promised were decoded; negative where there were more; 0 without a promise."""
        return self.promised - self.without_picture - self.decoded if self.promised else 0

    @property
    def is_whole(self) -> bool:
        """Whether enough of what is promised was decoded for the clip to be used."""
        if self.promised:
            return self.decoded >= WHOLE * (self.promised - self.without_picture)
        undamaged = self.decoded >= WHOLE * (self.decoded + self.damaged)
        return undamaged and self.reached_seconds >= WHOLE * self.promised_seconds

    @property
    def shortfall(self) -> str:
        """What is missing, in words."""
        return "; ".join(filter(None, (self._length_note(), self._damage_note())))

    @property
    def notes(self) -> tuple[str, ...]:
        """What is odd about a clip that can be used all the same, each in a few words."""
        return tuple(filter(None, (
            self._length_note(),
            self._damage_note(),
            f"{self.corrupt} frames are damaged in part" if self.corrupt else "",
            f"{self.without_time} frames have no time, or one before the frame before" if self.without_time else "",
            self._rate_note(),
            self._size_note(),
            f"turned to be shown: {self.turn}" if self.turn else "",
            "interlaced: frames are used as they are, with both fields" if self.interlaced else "",
            f"the first of {self.video_streams} video streams is used" if self.video_streams > 1 else "",
            self._late_note(),
        )))  # fmt: skip

    def _length_note(self) -> str:
        if self.missing:
            return f"{self.promised - self.without_picture} frames are promised, {self.decoded} were decoded"
        # Half a second and 1 %: what rounded headers and the sound's last packet are off by.
        short = self.promised_seconds - self.reached_seconds
        if not self.promised and short > 0.5 + 0.01 * self.promised_seconds:
            return f"{self.promised_seconds:.1f} s are promised, {self.reached_seconds:.1f} s were there"
        return ""

    def _damage_note(self) -> str:
        return f"{self.damaged} packets could not be decoded ({'; '.join(self.faults)})" if self.damaged else ""

    def _size_note(self) -> str:
        sizes = [f"{width}x{height}" for height, width in (self.size_hw, *self.other_sizes_hw)]
        return f"frames change their size: {', '.join(sizes)}" if self.other_sizes_hw else ""

    def _rate_note(self) -> str:
        shortest, longest = 1000 * self.shortest_seconds, 1000 * self.longest_seconds
        if self.variable_rate:
            return f"variable frame rate: {shortest:.0f} to {longest:.0f} ms between frames (--fps samples by time)"
        return f"{self.uneven_steps or 1} gaps of up to {longest:.0f} ms between frames" if self._is_uneven else ""

    def _late_note(self) -> str:
        if self.late_seconds <= _LATE_SECONDS:
            return ""
        return f"the picture begins {self.late_seconds:.2f} s into the file; times count from the first frame"
