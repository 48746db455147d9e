"""Animal Kingdom (Ng et al., CVPR 2022): its action recognition clips, from AR_metadata.xlsx.

`unseen_species` is the selection of the paper's table 2: six actions, trained on four classes of animals and tested on
five others, clips with a single label only. It is taken from the sheets AR and Animal, as the published implementation
does; the sheet CARe cannot give it, because its clips bear other names, its eight actions are numbers without a legend,
and its test part holds horses in place of orthopteran insects.
"""

import ast
import os
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from actiondiff.manifests.building import Builder, Built, ClipsOnDisk, counted
from actiondiff.manifests.faults import shortened
from actiondiff.manifests.tables import TableRow, read_sheets

SHEETS = {
    "AR": ("video_id", "type", "labels", "list_animal_action"),
    "Action": ("Label", "Action"),
    "Animal": ("Animal", "Parent Class", "Sub-Class"),
}
SPLITS = ("train", "test")
SEVERAL = "several"

# The workbook's own slips. Letter case never matters. Whatever is not resolved here is listed, not dropped.
# Its number is a broken formula ('=#N/A'); 139 is the only number of sheet AR that no other action has.
ACTION_NUMBERS = {"yawning": 139}
# As sheet AR names them -> as sheet Animal does.
ANIMAL_NAMES = {"common quail": "common quail bird", "cuckoo bird": "common cuckoo bird"}

UNSEEN_ACTIONS = ("moving", "eating", "attending", "swimming", "sensing", "keeping still")
# Column Sub-Class of sheet Animal -> the paper's name for it.
UNSEEN_SPECIES = {
    "train": {"Bird": "birds", "Fish": "fishes", "Frog / Toad": "frogs", "Snake / Cobra / Viper / Python": "snakes"},
    "test": {
        "Lizard / Gecko / Draco / Iguana / Chamelon": "lizards",
        "Primate / Monkey / Macaque / Baboon / Chimpanzee / Gorilla / Orangutan / Langur": "primates",
        "Spider / Tarantula": "spiders",
        "Cricket / Grasshopper / Praying mantis / Leafhopper": "orthopteran insects",
        "Water bird / Duck / Swan / Goose": "water fowl",
    },
}


@dataclass(frozen=True)
class Animal:
    """A row of sheet Animal; its classes are empty where an animal is in no row."""

    name: str
    parent_class: str = ""
    sub_class: str = ""


@dataclass(frozen=True)
class AnimalClip:
    """A row of sheet AR: its actions by their numbers, and its animals as far as they are known."""

    row: TableRow
    labels: tuple[str, ...]
    animals: tuple[Animal, ...]

    @property
    def domain(self) -> str:
        """The class of its animals, or that they are of several."""
        classes = {animal.parent_class for animal in self.animals}
        return SEVERAL if len(classes) > 1 else next(iter(classes), "")

    @property
    def first(self) -> Animal:
        """The animal named first; unnamed where none is."""
        return self.animals[0] if self.animals else Animal("")


def animal_kingdom(
    metadata: str | os.PathLike[str],
    videos: str | os.PathLike[str],
    *,
    unseen_species: bool = False,
    allow_missing: bool = False,
) -> Built:
    """A manifest of Animal Kingdom.

    Args:
        metadata: AR_metadata.xlsx as published, with the sheets AR, Action and Animal.
        videos: folder with `CODE.mp4` files or `CODE/` folders of frames, at any depth.
        unseen_species: only the clips of the paper's unseen-species experiment, split by class of animal. Domain is
            the class then, and group the animal named first. Otherwise domain is the parent class, and there is no
            group, because the published split has the same animals on both sides; column `animals` names them.
        allow_missing: keep rows whose clip is not on disk.

    Raises:
        ManifestError: sheets, columns, cells or clips are missing or broken; all of it is told.
    """
    builder = Builder()
    path = Path(metadata)
    sheets = read_sheets(path, SHEETS, builder.faults)
    disk = ClipsOnDisk(Path(videos), ".mp4", builder.faults)
    # A sheet that is not there would make every row of the others faulty.
    clips = list(_clips(sheets, builder)) if all(sheets.values()) else []
    chosen = _unseen(clips, builder) if unseen_species else [(clip, clip.row["type"], clip.domain) for clip in clips]
    for clip, split, domain in chosen:
        name = clip.row["video_id"]
        extra = {"animals": "; ".join(animal.name for animal in clip.animals)}
        if unseen_species:
            extra["original_split"] = clip.row["type"]
        builder.add(
            clip.row, disk, disk.path(name) if name else "", video_id=name, labels=clip.labels, split=split,
            domain=domain, group=clip.first.name if unseen_species else "", extra=extra,
        )  # fmt: skip
    return builder.finish("Animal Kingdom", [disk], allow_missing=allow_missing)


def _clips(sheets: Mapping[str, list[TableRow]], builder: Builder) -> Iterator[AnimalClip]:
    actions = _actions(sheets["Action"], builder)
    animals = {row["Animal"].lower(): row for row in sheets["Animal"]}
    unknown: Counter[str] = Counter()
    renamed: Counter[str] = Counter()
    nameless, differing = [], 0
    for row in sheets["AR"]:
        messages, labels = _labels(row["labels"], actions)
        pairs = _pairs(row["list_animal_action"])
        if row["type"] not in SPLITS:
            messages.append(f"type is {row['type']!r}; it must be train or test.")
        if pairs is None:
            messages.append("list_animal_action is no list of (animal, action) pairs.")
        builder.faults.extend(row.fault(message) for message in messages)
        if messages or pairs is None:
            continue
        named = dict.fromkeys(animal for animal, _ in pairs)
        renamed.update(name for name in named if name.lower() in ANIMAL_NAMES)
        known = tuple(_animal(name, animals) for name in named)
        unknown.update(animal.name for animal in known if not animal.parent_class)
        differing += {label.lower() for label in labels} != {action.lower() for _, action in pairs}
        if not known:
            nameless.append(row["video_id"])
        yield AnimalClip(row, labels, known)
    if renamed:
        builder.notes.append(f"animals found in sheet Animal under another name: {counted(renamed)}.")
    if unknown:
        builder.notes.append(f"animals that sheet Animal does not have, left without a class: {counted(unknown)}.")
    if nameless:
        builder.notes.append(f"{len(nameless)} rows name no animal, so have no domain: {shortened(nameless)}.")
    if differing:
        builder.notes.append(
            f"in {differing} rows the numbered labels are not the actions of the (animal, action) pairs; "
            "the numbers are taken."
        )


def _actions(rows: list[TableRow], builder: Builder) -> dict[str, str]:
    """Name of each action by its number."""
    actions: dict[str, str] = {}
    for row in rows:
        number, name = row["Label"], row["Action"]
        if not number.isdecimal() and name.lower() in ACTION_NUMBERS:
            builder.notes.append(f"action {name!r} has the number {number!r}; {ACTION_NUMBERS[name.lower()]} is taken.")
            number = str(ACTION_NUMBERS[name.lower()])
        if not number.isdecimal():
            builder.faults.append(row.fault(f"action {name!r} has the number {number!r}; give it one."))
        elif number in actions:
            builder.faults.append(row.fault(f"{number} is the number of {actions[number]!r} and of {name!r}."))
        else:
            actions[number] = name
    return actions


def _labels(cell: str, actions: Mapping[str, str]) -> tuple[list[str], tuple[str, ...]]:
    numbers = [number.strip() for number in cell.split(",")]
    unknown = [number for number in numbers if number not in actions]
    messages = (
        [f"labels {cell!r} has {', '.join(map(repr, unknown))}, not a number of sheet Action."] if unknown else []
    )
    return messages, tuple(dict.fromkeys(actions[number] for number in numbers if number in actions))


def _pairs(cell: str) -> list[tuple[str, str]] | None:
    """The (animal, action) pairs of a cell; None where it holds something else.

    Where an animal's name has an apostrophe, the cell is a list of texts that are lists of pairs themselves.
    """
    try:
        listed = ast.literal_eval(cell)
    except (ValueError, SyntaxError):
        return None
    pairs: list[tuple[str, str]] = []
    for entry in listed if isinstance(listed, list) else [None]:
        match entry:
            case (str(animal), str(action)):
                pairs.append((animal.strip(), action.strip()))
            case str():
                if (inner := _pairs(entry)) is None:
                    return None
                pairs.extend(inner)
            case _:
                return None
    return pairs


def _animal(name: str, animals: Mapping[str, TableRow]) -> Animal:
    row = animals.get(ANIMAL_NAMES.get(name.lower(), name.lower()))
    return Animal(row["Animal"], row["Parent Class"], row["Sub-Class"]) if row else Animal(name)


def _unseen(clips: list[AnimalClip], builder: Builder) -> Iterator[tuple[AnimalClip, str, str]]:
    """The clips of the unseen-species experiment, with their split and the paper's name of their animals' class."""
    place = {sub: (split, name) for split, names in UNSEEN_SPECIES.items() for sub, name in names.items()}
    unplaced: list[str] = []
    straddling: list[str] = []
    for clip in clips:
        if len(clip.labels) > 1 or clip.labels[0].lower() not in UNSEEN_ACTIONS:
            continue
        if not clip.first.sub_class:
            unplaced.append(clip.row["video_id"])
        elif clip.first.sub_class in place:
            splits = {place[animal.sub_class][0] for animal in clip.animals if animal.sub_class in place}
            if len(splits) > 1:
                straddling.append(clip.row["video_id"])
            yield clip, *place[clip.first.sub_class]
    if unplaced:
        builder.notes.append(
            f"{len(unplaced)} clips of the six actions are left out because their animal has no class: "
            f"{shortened(unplaced)}."
        )
    if straddling:
        builder.notes.append(
            f"{len(straddling)} clips show animals of both the training and the test classes and go where the animal "
            f"named first belongs: {shortened(straddling)}."
        )
