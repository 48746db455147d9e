"""Runs a recipe of the paper: its commands in one process, each once, and what came of them beside the paper's numbers.

A row is done when its run's folder is there and was left by the same commands on the same manifest; both are written
beside it before the run begins. So a run that was stopped goes on, and no number is shown for another's.
"""

import hashlib
import json
import os
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from actiondiff import ActionDiffError, InputError
from actiondiff.commands.answering import DONE, SOME_FAILED, note
from actiondiff.commands.extract import extract
from actiondiff.commands.fit import fit
from actiondiff.commands.manifest import manifest
from actiondiff.commands.report import report
from actiondiff.commands.sweep import sweep
from actiondiff.commands.transfer import transfer

if TYPE_CHECKING:
    from actiondiff.manifests import PaperRecipe, RecipeRow
    from actiondiff.manifests.paper_recipes import Words

COMMANDS: Mapping[str, click.Command] = {
    "manifest": manifest,
    "extract": extract,
    "fit": fit,
    "transfer": transfer,
    "sweep": sweep,
    "report": report,
}
NOT_TO_BE_ADDED = ("--json", "--help", "--dry-run", "--manifest", "--store", "--out")
OTHER_OPTIONS = "run with other options, see RUN.commands.json"
"""What is said of a row that was not asked for now."""
SVD_BACKBONES = ("svd-xt", "svd", "sdv2")
SMOKE_EXTRACT = "--backbone svd-tiny --size 64x64 --device cpu"
"""What a smoke run asks of every network: one that needs no download, at a size that takes seconds."""
SMOKE_STORE = "svd-tiny"
"""Where features of networks go that a smoke run has another network for."""
FULL_WINDOW, SMOKE_SHORTER = 25, 6
"""A smoke run's windows are so many times shorter, as its clips are, and still differ where the recipe's do."""
SMOKE_TIMESTEPS = " --t 10,20"
"""In place of any several timesteps."""
SMOKE_FIT = {
    "fit": "--epochs 2 --device cpu",
    "transfer": "--epochs 2 --seeds 1 --device cpu",
    "sweep": "--epochs 2 --device cpu" + SMOKE_TIMESTEPS,
}
SMOKE_SWEEP_OF_TRANSFORMERS = " --layer 3,9"


@dataclass(frozen=True)
class Added:
    """Options that a recipe does not know.

    Attributes:
        manifest: for the first of the commands that make the manifest.
        extract: for every extract.
        weights: for extracts of a backbone.
        fit: for every fit, transfer and sweep.
    """

    manifest: Sequence[str] = ()
    extract: Sequence[str] = ()
    weights: Mapping[str, str] = field(default_factory=dict)
    fit: Sequence[str] = ()

    def __post_init__(self) -> None:
        for words in (self.manifest, self.extract, self.fit):
            if wrong := [word for word in words if word.partition("=")[0] in NOT_TO_BE_ADDED]:
                raise InputError(f"{', '.join(wrong)} cannot be added to a recipe's commands; use reproduce's own.")


@dataclass(frozen=True)
class RowResult:
    """What a row came to.

    Attributes:
        row: of the recipe.
        run: folder of its run.
        reason: why there is none, or that it was run otherwise than now asked for; mostly empty.
        metrics: of its test part, as in metrics.json; empty where it has a picture.
    """

    row: "RecipeRow"
    run: Path
    reason: str = ""
    metrics: Mapping[str, Any] = field(default_factory=dict)

    @property
    def pictures(self) -> list[Path]:
        """The row's pictures that are there."""
        return [self.run / name for name in self.row.pictures if (self.run / name).exists()]

    def percent(self, metric: str) -> float | None:
        """A metric of its test part in percent."""
        value = self.metrics.get(metric)
        return None if value is None else 100 * value

    def interval(self) -> tuple[float, float] | None:
        """The bootstrap interval of the row's metric in percent."""
        found = (self.metrics.get("intervals") or {}).get(self.row.metric)
        return (100 * found[0], 100 * found[1]) if found else None

    def to_dict(self) -> dict[str, Any]:
        """As JSON values."""
        named = {name: getattr(self.row, name) for name in ("name", "metric", "paper", "differs")}
        return {
            **named,
            "here": self.percent(self.row.metric) if self.row.metric else None,
            "interval": self.interval(),
            "map_macro": self.percent("map_macro"),
            "run": str(self.run),
            "reason": self.reason,
            "pictures": [str(path) for path in self.pictures],
        }


@dataclass(frozen=True)
class RecipeResult:
    """What a recipe came to: its rows, the page that shows them, and the exit code."""

    recipe: "PaperRecipe"
    rows: tuple[RowResult, ...]
    folder: Path
    page: Path | None
    code: int


def recipe_commands(
    recipe: "PaperRecipe", data: Path | None, out: Path, only: Sequence[str], added: Added, *, smoke: bool = False
) -> tuple[list["Words"], dict["RecipeRow", list["Words"]]]:
    """All commands with places and options put in: those of the manifest, and those of each row chosen.

    Raises:
        InputError: a row or a file that is not there, or an option that a command does not take.
    """
    places = recipe.places(data, out)
    first, *others = recipe.manifest_commands(places)
    making = [(*first, *added.manifest), *others]
    rows: dict[RecipeRow, list[Words]] = {}
    for row in recipe.chosen(only):
        asked = _smoke_row(row) if smoke else row
        rows[row] = [_with_options(words, added, smoke) for words in recipe.row_commands(asked, places, out)]
    for words in (*making, *(words for commands in rows.values() for words in commands)):
        check_words(words)
    return making, rows


def run_recipe(
    recipe: "PaperRecipe",
    data: Path,
    out: Path,
    only: Sequence[str] = (),
    added: Added | None = None,
    *,
    smoke: bool = False,
) -> RecipeResult:
    """Run what has not been run of a recipe, and read what came of all its rows.

    A row that fails does not keep the others from running.

    Args:
        recipe: the recipe.
        data: the data set's folder.
        out: where results go.
        only: names of rows; empty for all.
        added: options that the recipe does not know.
        smoke: few epochs, and svd-tiny in place of every network.

    Raises:
        InputError: something that can be known beforehand: files, rows, options, a run that other commands have left.
        ManifestError: the manifest cannot be made.
    """
    data, out = data.absolute(), out.absolute()  # as a record of what was run, wherever it is asked from
    making, rows = recipe_commands(recipe, data, out, (), added or Added(), smoke=smoke)
    chosen, folder = recipe.chosen(only), out / recipe.name
    folder.mkdir(parents=True, exist_ok=True)
    digest = _make_manifest(making, folder / "manifest.csv")
    runs = {row: _Run(folder / row.run, commands, digest) for row, commands in rows.items()}
    if others := [str(runs[row].folder) for row in chosen if runs[row].is_of_others]:
        raise InputError(
            f"Left by other commands, or made on another manifest: {', '.join(others)}. Remove what is to be run anew, "
            "or give another --out."
        )
    failed: dict[RecipeRow, str] = {}
    extracted: dict[Words, int] = {}
    for number, row in enumerate(chosen, start=1):
        run = runs[row]
        note(f"[{number}/{len(chosen)}] {row.name}" + (": done before" if run.is_done else ""))
        if not run.is_done:
            try:
                run.go(extracted)
            except (ActionDiffError, OSError, click.ClickException) as error:
                failed[row] = error.format_message() if isinstance(error, click.ClickException) else str(error)
                note(f"Error: {failed[row]}")
    reasons = {row: OTHER_OPTIONS for row in recipe.rows if runs[row].is_of_others} | failed
    results = tuple(_result(row, folder / row.run, reasons.get(row, "")) for row in recipe.rows)
    page = _report([result.run for result in results if result.run.exists()], folder)
    left_out = any(runs[row].left_out for row in chosen)
    return RecipeResult(recipe, results, folder, page, SOME_FAILED if failed or left_out else DONE)


def check_words(words: "Words") -> None:
    """Refuse a command that cannot be run, before any is.

    Raises:
        InputError: an option that it does not take, or a value that is none.
    """
    command = COMMANDS[words[0]]
    try:
        with command.make_context(words[0], list(words[1:])) as context:
            if isinstance(command, click.Group):
                sub = command.get_command(context, words[1])
                assert sub is not None
                sub.make_context(words[1], list(words[2:])).close()
    except click.ClickException as error:
        raise InputError(f"{error.format_message()} It came of: {spelt(words)}") from error


def spelt(words: "Words") -> str:
    """A command as it is typed."""
    return f"actiondiff {shlex.join(words)}"


def _with_options(words: "Words", added: Added, smoke: bool) -> "Words":
    if words[0] != "extract":
        return (*words, *added.fit, *(shlex.split(_smoke_fit(words)) if smoke else ()))
    backbone = _value(words, "--backbone", "svd-xt")
    if smoke:
        return (*words, *added.extract, *shlex.split(_smoke_extract(words, backbone)))
    weights = ("--weights", added.weights[backbone]) if backbone in added.weights else ()
    return (*words, *weights, *added.extract)


def _value(words: "Words", name: str, default: str) -> str:
    return words[words.index(name) + 1] if name in words else default


def _smoke_row(row: "RecipeRow") -> "RecipeRow":
    """Rows of other networks share the features of the one that stands in for them all."""
    others = any("--backbone" in command and "frame-diff" not in command for command in row.commands)
    return replace(row, store=SMOKE_STORE) if others else row


def _smoke_extract(words: "Words", backbone: str) -> str:
    if backbone == "frame-diff":
        return ""
    layers = "" if backbone in SVD_BACKBONES else " --layer 9 --t 20"  # other networks number theirs otherwise
    layers += SMOKE_TIMESTEPS if "," in _value(words, "--t", "") else ""
    return f"{SMOKE_EXTRACT}{layers} --window {int(_value(words, '--window', str(FULL_WINDOW))) // SMOKE_SHORTER}"


def _smoke_fit(words: "Words") -> str:
    transformers = words[0] == "sweep" and _value(words, "--head", "") == "transformer"
    return SMOKE_FIT[words[0]] + (SMOKE_SWEEP_OF_TRANSFORMERS if transformers else "")


def _make_manifest(commands: Sequence["Words"], path: Path) -> str:
    """Make the manifest beside its place and move it there whole; the hash of its bytes.

    Raises:
        InputError: another one is there, that runs have read.
    """
    beside = path.with_name(f".manifest-{os.getpid()}.csv")
    try:
        for words in commands:
            run_command(tuple(str(beside) if word == str(path) else word for word in words))
        made = beside.read_bytes()
        if path.exists() and path.read_bytes() != made:
            if any(each.is_dir() for each in path.parent.iterdir()):
                raise InputError(
                    f"The data set's files now give another manifest than {path}, which runs in {path.parent} were "
                    "made of. Remove that folder to begin anew, or give another --out."
                )
            path.unlink()
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)
    return hashlib.sha256(made).hexdigest()


@dataclass(frozen=True)
class _Run:
    """A row's run: its folder, its commands, and the hash of the manifest that they read."""

    folder: Path
    commands: Sequence["Words"]
    manifest_sha256: str

    @property
    def _record(self) -> Path:
        return self.folder.with_name(f"{self.folder.name}.commands.json")

    def _read(self) -> dict[str, Any]:
        try:
            return json.loads(self._record.read_text(encoding="utf-8"))
        except (FileNotFoundError, json.JSONDecodeError):
            return {}

    def _identity(self) -> dict[str, Any]:
        return {"commands": [spelt(words) for words in self.commands], "manifest_sha256": self.manifest_sha256}

    @property
    def is_of_others(self) -> bool:
        """Whether something is there that these commands have not left."""
        return self.folder.exists() and not self._identity().items() <= self._read().items()

    @property
    def is_done(self) -> bool:
        """Whether it is there; a sweep knows itself what it lacks, so it is always asked."""
        return self.folder.exists() and not self.is_of_others and self.commands[-1][0] != "sweep"

    @property
    def left_out(self) -> bool:
        """Whether clips could not be extracted, now or when it was run."""
        return self._read().get("exit_code", DONE) != DONE

    def go(self, extracted: dict["Words", int]) -> None:
        """Run its commands, but not an extract that another row has run before."""
        *before, last = self.commands
        for words in before:
            if words not in extracted:
                extracted[words] = run_command(words)
        code = max((extracted[words] for words in before), default=DONE)
        partial = self._record.with_name(f".{self._record.name}.{os.getpid()}")
        partial.write_text(json.dumps(self._identity() | {"exit_code": code}, indent=2) + "\n", encoding="utf-8")
        partial.replace(self._record)
        run_command(last)


def run_command(words: "Words") -> int:
    """One command, as the command line runs it; its exit code."""
    note(spelt(words))
    try:
        code = COMMANDS[words[0]].main(list(words[1:]), f"actiondiff {words[0]}", standalone_mode=False)
    except click.Abort as error:
        raise KeyboardInterrupt from error
    if code not in (None, DONE, SOME_FAILED):
        raise InputError(f"Stopped, because this gave exit code {code}: {spelt(words)}")
    return int(code or DONE)


def _result(row: "RecipeRow", run: Path, reason: str) -> RowResult:
    if not run.exists():
        return RowResult(row, run, reason or "not run")
    if not row.metric:
        return RowResult(row, run, reason)
    parts = json.loads((run / "metrics.json").read_text(encoding="utf-8"))
    if "test" not in parts:
        return RowResult(row, run, "it has several test parts; they stand in its metrics.json")
    return RowResult(row, run, reason, parts["test"])


def _report(runs: Sequence[Path], folder: Path) -> Path | None:
    """All runs on one page, with pictures of the hardest videos."""
    if not runs:
        return None
    page, clips = folder / "report.html", folder / "manifest.csv"
    run_command(
        ("report", *map(str, runs), "--out", str(page), "--manifest", str(clips), "--title", folder.name)
    )  # fmt: skip
    return page
