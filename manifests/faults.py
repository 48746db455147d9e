"""What can be wrong with a manifest, and how it is told: every fault at once, each with its line."""

from collections.abc import Sequence
from dataclasses import dataclass

from actiondiff import InputError

FAULTS_SHOWN = 20
VALUES_SHOWN = 20


@dataclass(frozen=True)
class Fault:
    """One broken rule.

    Attributes:
        line: line of the CSV file or sheet in which the row begins, counted from 1; None where no file is involved.
        message: the rule, what came instead, and the remedy.
        file: which file, where several are read together.
    """

    line: int | None
    message: str
    file: str = ""

    def __str__(self) -> str:
        place = ", ".join([*([self.file] if self.file else []), *([f"line {self.line}"] if self.line else [])])
        return f"{place}: {self.message}" if place else self.message


class VideoError(InputError):
    """A video breaks its own rules; `broken` holds one sentence for each."""

    def __init__(self, video_id: str, broken: tuple[str, ...]) -> None:
        super().__init__(video_id, broken)
        self.video_id = video_id
        self.broken = broken

    def __str__(self) -> str:
        return f"video {self.video_id!r}: " + " ".join(self.broken)


class ManifestError(InputError):
    """A manifest, or the folder that should become one, breaks rules; `faults` holds all of them."""

    def __init__(self, headline: str, faults: tuple[Fault, ...] = ()) -> None:
        super().__init__(headline, faults)
        self.headline = headline
        self.faults = faults

    def __str__(self) -> str:
        shown = [f"  {fault}" for fault in self.faults[:FAULTS_SHOWN]]
        hidden = len(self.faults) - len(shown)
        return "\n".join([self.headline, *shown, *([f"  … and {hidden} more"] if hidden else [])])


class ManifestNotFound(ManifestError, FileNotFoundError):
    """There is no manifest file, or no folder to scan, at the path given."""


class SelectionError(InputError, LookupError):
    """A `column=value` selection is malformed, names an unknown column, or matches no video."""


class UnknownVideo(InputError, KeyError):
    """A video id is asked for that the manifest does not hold."""

    def __str__(self) -> str:
        # KeyError shows the repr of its argument, which spoils a sentence.
        return str(self.args[0])


def shortened(values: Sequence[str], shown: int = VALUES_SHOWN) -> str:
    """List values for a message: the first ones, and how many more there are."""
    hidden = len(values) - shown
    listed = ", ".join(values[:shown]) or "(nothing)"
    return f"{listed} and {hidden} more" if hidden > 0 else listed
