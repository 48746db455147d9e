"""The paper's tables and figures as recipes: which commands give them, and the numbers that the paper has.

A recipe is a TOML file in ``recipes/``. Its commands are those that a user types, with names in braces for places; this
file reads recipes and puts the places in. Running them is the command line's affair.
"""

import os
import re
import shlex
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from actiondiff import InputError
from actiondiff.manifests.faults import Fault, ManifestError, shortened

RECIPES = Path(__file__).parent / "recipes"
DATASETS = ("animal-kingdom", "charades-ego", "ucf-hmdb")
METRICS = ("accuracy", "map_macro", "map_micro")
FIRST_WORDS = {"manifest": ("manifest",), "row": ("extract", "fit", "transfer", "sweep")}
PLACE = re.compile(r"\{(\w+)\}")
PLACES = ("data", "manifest", "store", "control", "run")
NOT_IN_A_NAME = re.compile(r"[^a-z0-9]+")
OR = " | "
"""Parts the names that a file may have."""
CONTROL = "frame-diff"
"""Name of the store of features that no network has made."""


@dataclass(frozen=True)
class RecipeRow:
    """A row of a table or a picture: the commands that give it, and the paper's number.

    Attributes:
        name: as the paper calls it.
        store: name of the store of its features; rows and recipes of one data set that name the same share it.
        commands: extract, and fit, transfer or sweep, in their order.
        metric: ``accuracy``, ``map_macro`` or ``map_micro``; empty where the paper has a picture.
        paper: the paper's number in percent; None where it has none, as for a control.
        pictures: files of the run to look at.
        differs: in what this is not the paper's, in a sentence.
    """

    name: str
    store: str
    commands: tuple[str, ...]
    metric: str = ""
    paper: float | None = None
    pictures: tuple[str, ...] = ()
    differs: str = ""

    def __post_init__(self) -> None:
        if not self.name or not self.store or not self.commands:
            raise InputError(f"A row of a recipe has a name, a store and commands; {self.name!r} lacks one of them.")
        if self.metric not in ("", *METRICS) or (self.paper is not None and not self.metric):
            raise InputError(f"The metric of row {self.name!r} is one of {', '.join(METRICS)}; got {self.metric!r}.")
        _check_words(self.commands, "row")

    @property
    def run(self) -> str:
        """Name of the folder of its run."""
        return NOT_IN_A_NAME.sub("-", self.name.lower()).strip("-")


Words = tuple[str, ...]
"""A command with every place put in, without ``actiondiff``."""


@dataclass(frozen=True)
class PaperRecipe:
    """A table or figure of the paper.

    Attributes:
        name: of the recipe, such as ``table1-full``.
        title: what it shows.
        shows: which of the paper's tables or figures it is.
        dataset: whose files and videos it needs.
        files: what is looked for below the data set's folder, by a name; `a.csv | b.csv` is the first that is there.
        manifest: the commands that make the manifest.
        rows: what it gives.
        note: what should be known when reading it.
    """

    name: str
    title: str
    shows: str
    dataset: str
    files: Mapping[str, str]
    manifest: tuple[str, ...]
    rows: tuple[RecipeRow, ...]
    note: str = ""

    def __post_init__(self) -> None:
        if self.dataset not in DATASETS:
            raise InputError(f"The data set of {self.name} is one of {', '.join(DATASETS)}; got {self.dataset!r}.")
        if not self.rows or len({row.run for row in self.rows}) < len(self.rows):
            raise InputError(f"The rows of {self.name} each need a name of their own.")
        _check_words(self.manifest, "manifest")
        commands = [*self.manifest, *(command for row in self.rows for command in row.commands)]
        named = {name for command in commands for name in PLACE.findall(command)}
        if unknown := named - set(PLACES) - self.files.keys():
            raise InputError(f"{self.name} names {', '.join(sorted(unknown))}, which is neither a file nor a place.")

    def chosen(self, only: Sequence[str]) -> tuple[RecipeRow, ...]:
        """Rows of these names (or of the names of their runs' folders); all where none is named.

        Raises:
            InputError: there is no such row.
        """
        wanted = {NOT_IN_A_NAME.sub("-", name.lower()).strip("-") for name in only}
        if unknown := wanted - {row.run for row in self.rows}:
            listed = ", ".join(row.run for row in self.rows)
            raise InputError(f"{self.name} has the rows {listed}; {', '.join(sorted(unknown))} is none of them.")
        return tuple(row for row in self.rows if not wanted or row.run in wanted)

    def places(self, data: Path | None, out: Path) -> dict[str, str]:
        """What the names in braces stand for, but for those of a row.

        Args:
            data: the data set's folder, whose files are looked for at any depth; None to call it DIR.
            out: where results go: ``OUT/DATASET/STORE.zarr`` for features, ``OUT/RECIPE/`` for everything else.

        Raises:
            ManifestError: files that are not there, or are there twice; all of them are named.
        """
        places = {
            "data": "DIR" if data is None else str(data),
            "manifest": str(out / self.name / "manifest.csv"),
            "control": str(out / self.dataset / f"{CONTROL}.zarr"),
        }
        if data is None:
            return places | {name: f"DIR/{file.split(OR)[0]}" for name, file in self.files.items()}
        return places | self._found(data)

    def manifest_commands(self, places: Mapping[str, str]) -> tuple[Words, ...]:
        """The commands that make the manifest."""
        return tuple(_put_in(command, places) for command in self.manifest)

    def row_commands(self, row: RecipeRow, places: Mapping[str, str], out: Path) -> tuple[Words, ...]:
        """A row's commands."""
        own = {"store": str(out / self.dataset / f"{row.store}.zarr"), "run": str(out / self.name / row.run)}
        return tuple(_put_in(command, {**places, **own}) for command in row.commands)

    def _found(self, data: Path) -> dict[str, str]:
        if not data.is_dir():
            raise ManifestError(f"There is no folder at {data}; give the one that holds {self.dataset} with --data.")
        wanted = {name for file in self.files.values() for name in file.split(OR)}
        there: dict[str, list[str]] = {name: [] for name in wanted}
        seen: set[str] = set()
        for folder, below, names in os.walk(data, followlinks=True) if wanted else ():
            if (real := os.path.realpath(folder)) in seen:  # a link that leads round in a circle
                below.clear()
                continue
            seen.add(real)
            for name in wanted.intersection(names):
                there[name].append(str(Path(folder, name)))
        found: dict[str, str] = {}
        faults: list[Fault] = []
        for name, file in self.files.items():
            paths = next((there[each] for each in file.split(OR) if there[each]), [])
            if len(paths) == 1:
                found[name] = paths[0]
            else:
                what = f"there {len(paths)} times ({shortened(sorted(paths), 3)})" if paths else "not there"
                faults.append(Fault(None, f"{file} is {what}; it is needed once, at any depth."))
        if faults:
            raise ManifestError(f"{data} does not hold the files of {self.dataset} as published:", tuple(faults))
        return found


def paper_recipe(name: str) -> PaperRecipe:
    """The recipe of this name.

    Raises:
        InputError: there is none.
    """
    if name not in paper_recipe_names():
        raise InputError(f"There is no recipe {name!r}; there are {', '.join(paper_recipe_names())}.")
    return read_paper_recipe(RECIPES / f"{name}.toml")


def paper_recipe_names() -> tuple[str, ...]:
    """Names of all recipes that come with the package."""
    return tuple(sorted(path.stem for path in RECIPES.glob("*.toml")))


def read_paper_recipe(path: str | os.PathLike[str]) -> PaperRecipe:
    """A recipe from its file.

    Raises:
        InputError: it is no TOML, or breaks a rule of recipes.
    """
    path = Path(path)
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{path} is no recipe: {error}.") from error
    rows = tuple(_record(RecipeRow, row, f"row of {path.name}") for row in document.pop("row", []))
    return _record(PaperRecipe, {"name": path.stem, "files": {}, **document, "rows": rows}, path.name)


def _record(kind: type, values: dict[str, Any], what: str) -> Any:
    known = {each.name for each in fields(kind)}
    if unknown := values.keys() - known:
        raise InputError(f"A {what} has no {', '.join(sorted(unknown))}; there are {', '.join(sorted(known))}.")
    try:
        return kind(**{name: tuple(value) if isinstance(value, list) else value for name, value in values.items()})
    except TypeError as error:
        raise InputError(f"A {what} lacks something: {error}.") from error


def _check_words(commands: Sequence[str], kind: str) -> None:
    allowed = FIRST_WORDS[kind]
    for command in commands:
        if (command.split() or [""])[0] not in allowed:
            raise InputError(f"A {kind}'s commands begin with {' or '.join(allowed)}; {command!r} does not.")


def _put_in(command: str, places: Mapping[str, str]) -> Words:
    return tuple(_words(command, places))


def _words(command: str, places: Mapping[str, str]) -> Iterator[str]:
    """Parted before places are put in, so that a folder's name may hold blanks."""
    for word in shlex.split(command):
        yield PLACE.sub(lambda match: places[match[1]], word)
