"""The report: runs, transfers and sweeps on one page that needs nothing but a browser."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from actiondiff import InputError, __version__
from actiondiff.heads.bootstrap import DRAWS
from actiondiff.heads.report_heat import SweepView, TransferView, view_sweep, view_transfer
from actiondiff.heads.report_runs import RunView, view_run
from actiondiff.heads.tables import number

PAGE = Path(__file__).parent / "page"
EXAMPLES = 8

Thumbnail = Callable[[str], "Picture | None"]
"""A picture of a video by its id; None where there is none."""


@dataclass(frozen=True)
class Picture:
    """An encoded picture, such as a few frames of a clip side by side."""

    data: bytes
    mime: str
    width: int
    height: int


@dataclass(frozen=True)
class Report:
    """What a page holds.

    Attributes:
        path: the page.
        runs: how many.
        transfers: likewise.
        sweeps: likewise.
        pictures: of hardest examples.
        size_bytes: of the page.
    """

    path: Path
    runs: int
    transfers: int
    sweeps: int
    pictures: int
    size_bytes: int

    def to_dict(self) -> dict[str, Any]:
        """As JSON values."""
        return {**vars(self), "path": str(self.path)}

    def text(self) -> str:
        """For the terminal."""
        return (
            f"{self.runs} runs, {self.transfers} transfers, {self.sweeps} sweeps, {self.pictures} examples with "
            f"pictures, {self.size_bytes / 1e6:.1f} MB\n-> {self.path}"
        )


def write_report(
    folders: Sequence[str | Path],
    out: str | Path,
    *,
    thumbnail: Thumbnail | None = None,
    examples: int = EXAMPLES,
    draws: int = DRAWS,
    seed: int = 0,
    title: str = "Action recognition report",
) -> Report:
    """Write a page of what ``fit``, ``transfer`` and ``sweep`` left in their folders.

    The page is one file: style and pictures are inside, there is no script, and its content policy forbids a browser
    to load anything. All names and labels are escaped.

    Args:
        folders: of runs, transfers and sweeps, told apart by what is in them.
        out: the page; replaced if it is there.
        thumbnail: makes pictures of the hardest examples; None shows none.
        examples: how many of the hardest examples of each test set.
        draws: of the bootstrap.
        seed: of the bootstrap.
        title: of the page.

    Raises:
        InputError: a folder is none of the three, or cannot be read.
    """
    runs: list[RunView] = []
    transfers: list[TransferView] = []
    sweeps: list[SweepView] = []
    for folder in map(Path, folders):
        if (folder / "config.json").exists():
            runs.append(view_run(folder, thumbnail or _no_picture, examples, draws, seed))
        elif (folder / "transfer.json").exists():
            transfers.append(view_transfer(folder))
        elif (folder / "sweep.csv").exists():
            sweeps.append(view_sweep(folder))
        else:
            raise InputError(
                f"A report is made of folders that fit, transfer or sweep wrote (with config.json, transfer.json or "
                f"sweep.csv); {folder} is none."
            )
    page = (
        _environment()
        .get_template("report.html.j2")
        .render(
            title=title,
            version=__version__,
            runs=runs,
            transfers=transfers,
            sweeps=sweeps,
            style=(PAGE / "report.css").read_text(encoding="utf-8"),
        )
    )
    path = Path(out)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(page, encoding="utf-8")
    pictures = sum(example.picture is not None for run in runs for part in run.parts for example in part.examples)
    return Report(path, len(runs), len(transfers), len(sweeps), pictures, path.stat().st_size)


def _environment() -> Any:
    import jinja2

    loader = jinja2.FileSystemLoader(PAGE)
    environment = jinja2.Environment(
        loader=loader, autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["number"] = number
    return environment


def _no_picture(_: str) -> None:
    return None
