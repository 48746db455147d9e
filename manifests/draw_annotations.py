"""Small data sets drawn on the spot whose annotation files have the structure of the published ones.

They let every recipe of the paper be run from its first command to its last where the data cannot be had. What is seen
in the clips are the drawn actions of :mod:`~actiondiff.manifests.draw`; only names and files are those of a data set.
"""

import csv
import os
import zlib
from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from actiondiff import InputError
from actiondiff.manifests.animal_kingdom import UNSEEN_SPECIES
from actiondiff.manifests.charades_ego import EGO_SUFFIX
from actiondiff.manifests.draw import ACTIONS, DOMAINS, write_video
from actiondiff.manifests.scenes import draw_frames
from actiondiff.manifests.ucf_hmdb import CLASSES, LISTS, UCF_CLASSES

FRAMES, SIZE_HW, FPS = 16, (48, 64), 12
ANIMAL_ACTIONS = ("Moving", "Eating", "Attending")
HMDB_TAIL = "f_cm_np1_fr_med"
CHARADES_HEADER = ("id", "subject", "scene", "actions", "length", "egocentric")
CHARADES_CLASSES = ("Holding a kite", "Opening a jar", "Looking out of a window", "Putting a hat somewhere")


def draw_dataset(dataset: str, folder: str | os.PathLike[str], seed: int = 0) -> None:
    """Draw a few dozen clips and the annotation files of a data set.

    Args:
        dataset: `animal-kingdom`, `charades-ego` or `ucf-hmdb`.
        folder: where to; files of the same names are replaced.
        seed: the same seed draws the same pixels.

    Raises:
        InputError: another data set.
    """
    if dataset not in DRAWN:
        raise InputError(f"Data sets that can be drawn are {', '.join(DRAWN)}; got {dataset!r}.")
    Path(folder).mkdir(parents=True, exist_ok=True)
    DRAWN[dataset](Path(folder), seed)


def _draw(path: Path, action: int, domain: str, seed: int) -> None:
    rng = np.random.default_rng([seed, zlib.crc32(path.name.encode())])
    write_video(path, draw_frames(ACTIONS[action % len(ACTIONS)], domain, FRAMES, SIZE_HW, rng), FPS)


def _animal_kingdom(folder: Path, seed: int) -> None:
    """Two animals of each class do most actions once; every fourth clip is a test; a few clips show two actions."""
    import openpyxl

    classes = [
        (sub_class, name, DOMAINS[split == "test"])
        for split, names in UNSEEN_SPECIES.items()
        for sub_class, name in names.items()
    ]
    animals = [(f"{which} of the {name}", name, sub, domain) for sub, name, domain in classes for which in "AB"]
    # Some do all but one action, so that labels are not equally frequent everywhere.
    shown: list[tuple[tuple[str, ...], tuple[int, ...]]] = [
        (animal, (action,))
        for (number, animal), action in product(enumerate(animals), range(len(ANIMAL_ACTIONS)))
        if number % 4 != action
    ]
    shown += [(animal, (number % 3, (number + 1) % 3)) for number, animal in enumerate(animals[::2])]
    clips = []
    for number, ((animal, _, _, domain), actions) in enumerate(shown):
        video_id = f"DRAWN{number:03d}"
        _draw(folder / "video" / f"{video_id}.mp4", actions[0], domain, seed)
        pairs = [(animal, ANIMAL_ACTIONS[action]) for action in actions]
        clips.append((video_id, "test" if number % 4 == 3 else "train", ",".join(map(str, actions)), str(pairs)))
    sheets: dict[str, list[Sequence[Any]]] = {
        "AR": [("video_id", "type", "labels", "list_animal_action"), *clips],
        "Action": [("Label", "Action"), *enumerate(ANIMAL_ACTIONS)],
        "Animal": [("Animal", "Parent Class", "Sub-Class"), *((name, parent, sub) for name, parent, sub, _ in animals)],
    }
    book = openpyxl.Workbook()
    book.remove(book.active)
    for title, rows in sheets.items():
        sheet = book.create_sheet(title)
        for row in rows:
            sheet.append(list(row))
    book.save(folder / "AR_metadata.xlsx")


def _charades_ego(folder: Path, seed: int) -> None:
    """Pairs of videos of one script, from both views, with one or two actions, but for one of each part with none."""
    lines = [f"c{code:03d} {name}\n" for code, name in enumerate(CHARADES_CLASSES)]
    (folder / "Charades_v1_classes.txt").write_text("".join(lines), encoding="utf-8")
    seconds = FRAMES / FPS
    for part, numbers in (("train", range(12)), ("test", range(12, 18))):
        rows = []
        for number, (view, domain) in product(numbers, (("No", DOMAINS[0]), ("Yes", DOMAINS[1]))):
            video_id = f"DRW{number:02d}{EGO_SUFFIX if view == 'Yes' else ''}"
            actions = f"c{number % 4:03d} 0.00 {seconds:.2f}"
            if number % 4 == number // 4 % 4:
                actions += f";c{(number + 1) % 4:03d} 0.50 {seconds:.2f}"
            if number == numbers[-1] and view == "Yes":  # as seven of the published videos
                actions = ""
            _draw(folder / "videos" / f"{video_id}.mp4", number, domain, seed)
            rows.append((video_id, f"S{number}", "Drawn", actions, f"{seconds:.2f}", view))
        with (folder / f"CharadesEgo_v1_{part}.csv").open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([CHARADES_HEADER, *rows])


def _ucf_hmdb(folder: Path, seed: int) -> None:
    """Of each class three clips in each data set, two of them to train on, and the four published lists."""
    ucf_names = {label: name for name, label in UCF_CLASSES.items()}
    lists: dict[str, list[str]] = {name: [] for name in LISTS.values()}
    for (number, label), clip in product(enumerate(CLASSES), range(3)):
        split = "test" if clip == 2 else "train"
        ucf = f"v_{ucf_names[label]}_g{clip + 1:02d}_c01"
        hmdb = f"Drawn_{clip}_{label}_{HMDB_TAIL}_0"
        _draw(folder / "UCF-101" / ucf_names[label] / f"{ucf}.avi", number, DOMAINS[0], seed)
        _draw(folder / "hmdb51" / label / f"{hmdb}.avi", number, DOMAINS[1], seed)
        lists[LISTS["ucf", split]].append(f"{ucf},{number}\n")
        lists[LISTS["hmdb", split]].append(f"v_{hmdb},{number}\n")
    for name, lines in lists.items():
        (folder / name).write_text("".join(lines), encoding="utf-8")


DRAWN = {"animal-kingdom": _animal_kingdom, "charades-ego": _charades_ego, "ucf-hmdb": _ucf_hmdb}
