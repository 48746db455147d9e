"""``actiondiff reproduce``: a table or figure of the paper, from the data set's files to its numbers beside ours."""

import hashlib
import json
import shlex
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from actiondiff import ActionDiffError, InputError
from actiondiff.commands.answering import DONE, SOME_FAILED, finish, free_folder, note
from actiondiff.commands.extract import extract
from actiondiff.commands.fit import fit
from actiondiff.commands.manifest import manifest
from actiondiff.commands.options import json_option
from actiondiff.commands.report import report
from actiondiff.commands.sweep import sweep
from actiondiff.commands.transfer import transfer

if TYPE_CHECKING:
    from actiondiff.manifests import PaperRecipe, RecipeRow, RecipeStep

COMMANDS: Mapping[str, click.Command] = {
    "manifest": manifest,
    "extract": extract,
    "fit": fit,
    "transfer": transfer,
    "sweep": sweep,
    "report": report,
}
SVD_BACKBONES = ("svd-xt", "svd", "sdv2")
SMOKE_EXTRACT = "--backbone svd-tiny --size 64x64 --device cpu"
"""What a smoke run asks of every network: one that needs no download, at a size that takes seconds."""
SMOKE_STORE = "svd-tiny"
"""Where features of networks go that a smoke run has another network for."""
FULL_WINDOW, SMOKE_WINDOW_PART = 25, 6
"""A smoke run's windows are this many times shorter, as its clips are, and still differ where the recipe's do."""
SMOKE_FIT = {"fit": "--epochs 2 --device cpu", "sweep": "--epochs 2 --device cpu", "transfer": "--epochs 2 --seeds 1"}


@dataclass(frozen=True)
class Measured:
    """A row's number beside the paper's, both in percent."""

    row: "RecipeRow"
    percent: float | None
    pictures: tuple[Path, ...]

    def to_dict(self) -> dict[str, Any]:
        """As JSON values."""
        named = {name: getattr(self.row, name) for name in ("name", "metric", "paper", "differs")}
        return named | {"here": self.percent, "pictures": [str(path) for path in self.pictures]}


@click.command()
@click.argument("name", required=False)
@click.option("--data", type=click.Path(path_type=Path), help="Folder with the data set's files and videos.")
@click.option("--smoke", is_flag=True, help="On clips drawn on the spot, with svd-tiny: does every command run?")
@click.option("--row", "only", multiple=True, help="Only this row of the table; may be given several times.")
@click.option("--out", type=click.Path(path_type=Path), help="Folder of results.  [default: reproduce]")
@click.option("--extract-options", default="", help="Added to every extract, such as '--weights /models/svd-xt'.")
@click.option("--fit-options", default="", help="Added to every fit, transfer and sweep, such as '--seed 1'.")
@click.option("--show", is_flag=True, help="Print the commands and run nothing.")
@json_option
def reproduce(
    name: str | None,
    data: Path | None,
    smoke: bool,
    only: tuple[str, ...],
    out: Path | None,
    extract_options: str,
    fit_options: str,
    show: bool,
) -> None:
    """Run a table or figure of the paper; without NAME, list what there is.

    NAME is a recipe: the commands for a manifest, for features, and for heads. Features are shared by all recipes of a
    data set. Run it again and it goes on where it stopped.

    \b
    Examples:
      actiondiff reproduce
      actiondiff reproduce table1-full --data /data/animal_kingdom
      actiondiff reproduce table1-full --data /data/animal_kingdom --row ActionDiff --show
      actiondiff reproduce figure5-ucf-hmdb --smoke
    """
    from actiondiff.manifests import paper_recipe

    if name is None:
        _list()
    recipe = paper_recipe(name or "")
    if smoke == (data is not None):
        raise click.UsageError("Give the data set's folder with --data, or try it on drawn clips with --smoke.")
    folder = out or (free_folder(Path("reproduce-smoke")) if smoke else Path("reproduce"))
    added = {"extract": extract_options, **dict.fromkeys(("fit", "transfer", "sweep"), fit_options)}
    if smoke:
        _one_thread()
        data = folder / "data" / recipe.dataset
        if not data.exists():
            _draw(recipe, data)
    assert data is not None
    asked = replace(recipe, rows=tuple(map(_smoke_row, recipe.rows))) if smoke else recipe
    steps = [_with_options(step, added, smoke) for step in asked.steps(data, folder, only)]
    if show:
        finish({"commands": [list(step.words) for step in steps]}, "\n".join(map(str, steps)))
    code = _run(steps, folder / recipe.name)
    rows = [_measured(row, folder / recipe.name / row.run) for row in recipe.chosen(only)]
    page = _report(steps, folder / recipe.name)
    result = {"recipe": recipe.name, "out": str(folder / recipe.name), "smoke": smoke, "report": str(page)}
    finish(result | {"rows": [row.to_dict() for row in rows]}, _text(recipe, rows, page, smoke=smoke), code)


def _list() -> None:
    from actiondiff.manifests import paper_recipe, paper_recipe_names

    recipes = [paper_recipe(name) for name in paper_recipe_names()]
    width = max(len(recipe.name) for recipe in recipes)
    lines = [f"  {each.name:{width}}  {each.shows}: {each.title} ({len(each.rows)} rows)" for each in recipes]
    found = [{key: getattr(each, key) for key in ("name", "shows", "title", "dataset", "note")} for each in recipes]
    finish({"recipes": found}, "\n".join(["Recipes:", *lines, "Run one: actiondiff reproduce NAME --data DIR"]))


def _one_thread() -> None:
    """At a smoke run's sizes one thread is three times as fast as two (``benchmarks/LOG.md``)."""
    import torch

    torch.set_num_threads(1)


def _draw(recipe: "PaperRecipe", data: Path) -> None:
    from actiondiff.manifests import draw_dataset

    note(f"drawing clips and annotation files like those of {recipe.dataset} -> {data}")
    draw_dataset(recipe.dataset, data)


def _with_options(step: "RecipeStep", added: Mapping[str, str], smoke: bool) -> "RecipeStep":
    """A step with what is added to it; of an option that is given twice, the last holds."""
    word = step.words[0]
    words = (*step.words, *shlex.split(added.get(word, "")))
    if smoke:
        words = (*words, *shlex.split(_smoke_options(step.words)))
    return replace(step, words=words)


def _smoke_row(row: "RecipeRow") -> "RecipeRow":
    """Rows of other networks share the features of the one that stands in for them all."""
    others = any("--backbone" in command and "frame-diff" not in command for command in row.commands)
    return replace(row, store=SMOKE_STORE) if others else row


def _smoke_options(words: Sequence[str]) -> str:
    if words[0] != "extract":
        return SMOKE_FIT.get(words[0], "")
    asked = {name: words[words.index(name) + 1] for name in ("--backbone", "--window") if name in words}
    backbone = asked.get("--backbone", "svd-xt")
    if backbone == "frame-diff":
        return ""
    # Layers of other networks are numbered otherwise.
    layers = "" if backbone in SVD_BACKBONES else " --layer 9 --t 20"
    window = int(asked.get("--window", FULL_WINDOW)) // SMOKE_WINDOW_PART
    return f"{SMOKE_EXTRACT}{layers} --window {window}"


def _run(steps: Sequence["RecipeStep"], folder: Path) -> int:
    """Run what has not been run; remembers each step that was, with the manifest that it read."""
    folder.mkdir(parents=True, exist_ok=True)
    record = folder / "steps.json"
    done = json.loads(record.read_text(encoding="utf-8")) if record.exists() else []
    codes = [DONE]
    for number, step in enumerate(steps, start=1):
        reads = "" if step.row is None else hashlib.sha256((folder / "manifest.csv").read_bytes()).hexdigest()
        there = [entry for entry in done if entry["command"] == str(step) and entry["manifest_sha256"] == reads]
        if there:
            note(f"[{number}/{len(steps)}] done before: {step}")
            codes.append(there[-1]["exit_code"])
            continue
        note(f"[{number}/{len(steps)}] {step}")
        begin = time.monotonic()
        codes.append(_command(step))
        entry = {"command": str(step), "manifest_sha256": reads, "exit_code": codes[-1]}
        done.append(entry | {"seconds": round(time.monotonic() - begin, 1)})
        partial = record.with_name(".steps.json.partial")
        partial.write_text(json.dumps(done, indent=2) + "\n", encoding="utf-8")
        partial.replace(record)
    return max(codes)


def _command(step: "RecipeStep") -> int:
    """One command, as the command line runs it."""
    command = COMMANDS[step.words[0]]
    try:
        code = command.main(list(step.words[1:]), f"actiondiff {step.words[0]}", standalone_mode=False)
    except click.Abort as error:
        raise KeyboardInterrupt from error
    except (ActionDiffError, OSError) as error:
        error.add_note(f"It came of: {step}")
        raise
    if code not in (None, DONE, SOME_FAILED):
        raise InputError(f"Stopped, because this gave exit code {code}: {step}")
    return int(code or DONE)


def _measured(row: "RecipeRow", run: Path) -> Measured:
    pictures = tuple(run / name for name in row.pictures if (run / name).exists())
    if not row.metric:
        return Measured(row, None, pictures)
    metrics = json.loads((run / "metrics.json").read_text(encoding="utf-8"))
    part = metrics[row.part or "test"]
    value = part[row.metric]
    return Measured(row, None if value is None else 100 * value, pictures)


def _report(steps: Sequence["RecipeStep"], folder: Path) -> Path:
    """All runs on one page, with pictures of the hardest videos."""
    page = folder / "report.html"
    from actiondiff.manifests import RecipeStep

    runs = [str(step.run) for step in steps if step.run is not None]
    manifest_path = str(folder / "manifest.csv")
    words = ("report", *runs, "--out", str(page), "--manifest", manifest_path, "--title", folder.name)
    _command(RecipeStep(words))
    return page


def _text(recipe: "PaperRecipe", rows: Sequence[Measured], page: Path, *, smoke: bool) -> str:
    return "\n".join(_lines(recipe, rows, page, smoke))


def _lines(recipe: "PaperRecipe", rows: Sequence[Measured], page: Path, smoke: bool) -> Iterator[str]:
    yield f"{recipe.shows}: {recipe.title}"
    if smoke:
        yield "Drawn clips, few epochs, and svd-tiny in place of every network: that it runs is all that it says."
    width = max(len(measured.row.name) for measured in rows)
    if any(measured.row.metric for measured in rows):
        yield f"  {'':{width}}  {'metric, %':9}  {'paper':>6}  {'here':>6}"
    for measured in rows:
        row = measured.row
        if row.metric:
            numbers = [
                f"{'-' if value is None else format(value, '.2f'):>6}" for value in (row.paper, measured.percent)
            ]
            yield f"  {row.name:{width}}  {row.metric:9}  {'  '.join(numbers)}  {row.differs}".rstrip()
        else:
            yield f"  {row.name:{width}}  -> {', '.join(map(str, measured.pictures))}"
    if recipe.note:
        yield recipe.note
    yield f"-> {page}"
