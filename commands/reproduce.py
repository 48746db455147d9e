"""``actiondiff reproduce``: a table or figure of the paper, from the data set's files to its numbers beside ours."""

import os
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from actiondiff.commands.answering import finish, note
from actiondiff.commands.options import json_option
from actiondiff.commands.reproducing import Added, RecipeResult, RowResult, recipe_commands, run_recipe, spelt

if TYPE_CHECKING:
    from actiondiff.manifests import PaperRecipe


def _words(_: click.Context, __: click.Parameter, value: str) -> list[str]:
    """Callback: options as a shell would part them."""
    try:
        return shlex.split(value)
    except ValueError as error:
        raise click.BadParameter(f"{value!r} cannot be parted into words: {error}.") from error


def _of_backbones(_: click.Context, __: click.Parameter, values: tuple[str, ...]) -> dict[str, str]:
    """Callback: BACKBONE=WEIGHTS."""
    if wrong := [value for value in values if not all(value.partition("="))]:
        raise click.BadParameter(f"{wrong[0]!r} is not BACKBONE=WEIGHTS, such as svd-xt=/models/svd-xt.")
    return {value.partition("=")[0]: value.partition("=")[2] for value in values}


@click.command()
@click.argument("name", required=False)
@click.option("--data", type=click.Path(path_type=Path), help="Folder with the data set's files and videos.")
@click.option("--smoke", is_flag=True, help="On clips drawn on the spot, with svd-tiny: does every command run?")
@click.option("--row", "only", multiple=True, help="Only this row of the table; may be given several times.")
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    default="reproduce",
    show_default=True,
    help="Folder of results; those of a smoke run go into its folder smoke.",
)
@click.option(
    "--weights",
    multiple=True,
    metavar="BACKBONE=WEIGHTS",
    callback=_of_backbones,
    help="As extract's, for one backbone; may be given several times.",
)
@click.option("--extract-options", default="", callback=_words, help="Added to every extract: '--device cuda:1'.")
@click.option("--fit-options", default="", callback=_words, help="Added to every fit, transfer, sweep: '--seed 1'.")
@click.option("--manifest-options", default="", callback=_words, help="Added to manifest: '--allow-missing'.")
@click.option("--show", is_flag=True, help="Print the commands and run nothing.")
@json_option
def reproduce(
    name: str | None,
    data: Path | None,
    smoke: bool,
    only: tuple[str, ...],
    out: Path,
    weights: dict[str, str],
    show: bool,
    **options: list[str],
) -> None:
    """Run a table or figure of the paper; without NAME, list what there is.

    NAME is a recipe: the commands for a manifest, for features, and for heads. Features are shared by all recipes of a
    data set. Run it again and it goes on where it stopped; a row that fails does not keep the others from running.

    \b
    Examples:
      actiondiff reproduce
      actiondiff reproduce table1-full --smoke
      actiondiff reproduce table1-full --show
      actiondiff reproduce table1-full --data /data/animal_kingdom --row ActionDiff --weights svd-xt=/models/svd-xt
    """
    from actiondiff.manifests import paper_recipe

    if name is None:
        return _list()
    recipe = paper_recipe(name)
    added = Added(weights=weights, **{key.removesuffix("_options"): words for key, words in options.items()})
    if show:
        return _show(recipe, data, out, only, added)
    if smoke == (data is not None):
        raise click.UsageError(
            "Give the data set's folder with --data, or try it on drawn clips with --smoke; one of both, not both."
        )
    if smoke:
        out, data = out / "smoke", _drawn(recipe, out / "smoke" / "data" / recipe.dataset)
    assert data is not None
    result = run_recipe(recipe, data, out, only, added, smoke=smoke)
    found = {"recipe": recipe.name, "out": str(result.folder), "smoke": smoke, "report": str(result.page or "")}
    rows = [row.to_dict() for row in result.rows]
    return finish(found | {"rows": rows}, "\n".join(_lines(result, smoke)), result.code)


def _list() -> None:
    from actiondiff.manifests import paper_recipe, paper_recipe_names

    recipes = [paper_recipe(name) for name in paper_recipe_names()]
    width = max(len(recipe.name) for recipe in recipes)
    lines = [f"  {each.name:{width}}  {each.shows}: {each.title} ({len(each.rows)} rows)" for each in recipes]
    found = [{key: getattr(each, key) for key in ("name", "shows", "title", "dataset", "note")} for each in recipes]
    finish({"recipes": found}, "\n".join(["Recipes:", *lines, "Run one: actiondiff reproduce NAME --data DIR"]))


def _show(recipe: "PaperRecipe", data: Path | None, out: Path, only: tuple[str, ...], added: Added) -> None:
    making, rows = recipe_commands(recipe, data, out, only, added)
    commands = list(dict.fromkeys([*making, *(words for of_row in rows.values() for words in of_row)]))
    finish({"commands": [list(words) for words in commands]}, "\n".join(map(spelt, commands)))


def _drawn(recipe: "PaperRecipe", data: Path) -> Path:
    """The drawn data set, made anew unless it is there; it appears when it is whole."""
    import torch

    from actiondiff.manifests import draw_dataset

    torch.set_num_threads(1)  # at a smoke run's sizes three times as fast as two (benchmarks/LOG.md)
    if not data.exists():
        note(f"drawing clips and annotation files like those of {recipe.dataset} -> {data}")
        beside = data.with_name(f".{data.name}-{os.getpid()}")
        draw_dataset(recipe.dataset, beside)
        beside.rename(data)
    return data


def _lines(result: RecipeResult, smoke: bool) -> Iterator[str]:
    recipe = result.recipe
    yield f"{recipe.shows}: {recipe.title}"
    if smoke:
        yield "Drawn clips, few epochs, and svd-tiny in place of every network: that it runs is all that it says."
    width = max(len(row.name) for row in recipe.rows)
    if any(row.metric for row in recipe.rows):
        yield f"  {'':{width}}  {'metric, %':9}  {'paper':>6}  {'here':>6}  95 % interval"
    for row in result.rows:
        yield f"  {row.row.name:{width}}  {_cells(row)}".rstrip()
    if recipe.note:
        yield recipe.note
    if result.page is not None:
        yield f"-> {result.page}"


def _cells(result: RowResult) -> str:
    row = result.row
    if not row.metric:
        return f"-> {', '.join(map(str, result.pictures))}" if result.pictures else f"- ({result.reason})"
    interval = result.interval()
    numbers = [row.paper, result.percent(row.metric)]
    cells = [
        f"{row.metric:9}",
        *(f"{'-' if value is None else format(value, '.2f'):>6}" for value in numbers),
    ]
    cells += [f"{interval[0]:.1f} to {interval[1]:.1f}"] if interval else []
    cells += [f"({result.reason})"] if result.reason else []
    return "  ".join([*cells, row.differs])
