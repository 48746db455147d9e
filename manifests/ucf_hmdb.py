"""UCF101 and HMDB51: the clips of the 12 actions that both have, each with its train/test split."""

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from actiondiff.manifests.building import Builder, Built, ClipsOnDisk
from actiondiff.manifests.faults import Fault, ManifestError
from actiondiff.manifests.tables import TableRow, read_text

# In the order of the numbers in the published lists.
CLASSES = (
    "climb", "fencing", "golf", "kick_ball", "pullup", "punch", "pushup", "ride_bike", "ride_horse", "shoot_ball",
    "shoot_bow", "walk",
)  # fmt: skip
# HMDB51 calls its classes so; UCF101's names for them:
UCF_CLASSES = {
    "RockClimbingIndoor": "climb", "RopeClimbing": "climb", "Fencing": "fencing", "GolfSwing": "golf",
    "SoccerPenalty": "kick_ball", "PullUps": "pullup", "BoxingPunchingBag": "punch", "BoxingSpeedBag": "punch",
    "Punch": "punch", "PushUps": "pushup", "Biking": "ride_bike", "HorseRiding": "ride_horse",
    "Basketball": "shoot_ball", "Archery": "shoot_bow", "WalkingWithDog": "walk",
}  # fmt: skip
LISTS = {
    ("ucf", "train"): "ucf101_train_hmdb_ucf.csv",
    ("ucf", "test"): "ucf101_val_hmdb_ucf.csv",
    ("hmdb", "train"): "hmdb51_train_hmdb_ucf.csv",
    ("hmdb", "test"): "hmdb51_val_hmdb_ucf.csv",
}
UCF_SPLIT_FILES = {"train": "trainlist01.txt", "test": "testlist01.txt"}
HMDB_SPLITS = {"1": "train", "2": "test", "0": ""}
UCF_NAME = re.compile(r"v_(?P<class>[A-Za-z]+)_g\d+_c\d+")
SUFFIX = ".avi"


@dataclass(frozen=True)
class ListedClip:
    """A line of a list: which data set and part, which clip, and the class that the list gives it."""

    row: TableRow
    domain: str
    split: str
    name: str
    label: str


def ucf_hmdb(
    ucf: str | os.PathLike[str],
    hmdb: str | os.PathLike[str],
    *,
    lists: str | os.PathLike[str] | None = None,
    allow_missing: bool = False,
) -> Built:
    """A manifest of the 12 classes that UCF101 and HMDB51 share.

    Domain is `ucf` or `hmdb`, so that either can be trained on and the other tested. Group is the recording that clips
    were cut from. The lists' validation part is called test here: it must not choose the epoch.

    Args:
        ucf: folder of UCF101's videos, at any depth.
        hmdb: folder of HMDB51's.
        lists: folder with, at any depth, the published lists (`ucf101_train_hmdb_ucf.csv` and three more), or the data
            sets' official files of split 1 (`trainlist01.txt`, `testlist01.txt`, `climb_test_split1.txt` ...); without
            it the official files are looked for below `ucf` and `hmdb`.
        allow_missing: keep rows whose clip is not on disk.

    Raises:
        ManifestError: lists, names or clips are missing or broken; all of it is told.
    """
    builder = Builder()
    folders = {"ucf": Path(ucf), "hmdb": Path(hmdb)}
    disks = {name: ClipsOnDisk(at, SUFFIX, builder.faults, key=punctuation_free) for name, at in folders.items()}
    for clip in _listed(folders, None if lists is None else Path(lists), builder.faults):
        disk, domain = disks[clip.domain], clip.domain
        builder.add(
            clip.row, disk, disk.path(clip.name), video_id=f"{domain}/{_plain_name(clip)}", labels=(clip.label,),
            split=clip.split, domain=domain, group=f"{domain}/{_recording(clip)}",
        )  # fmt: skip
    return builder.finish("UCF101 and HMDB51", list(disks.values()), allow_missing=allow_missing)


def punctuation_free(name: str) -> str:
    """What is left to compare of a clip's name: the lists have lost punctuation of HMDB51's and put `v_` in front."""
    return re.sub(r"[^a-z0-9]", "", name.lower().removeprefix("v_"))


def _plain_name(clip: ListedClip) -> str:
    """The name in the letters that both the published lists and the files have."""
    name = clip.name if clip.domain == "ucf" else clip.name.removeprefix("v_")
    return re.sub(r"[^A-Za-z0-9_-]", "", name)


def _recording(clip: ListedClip) -> str:
    end = "_c" if clip.domain == "ucf" else f"_{clip.label}_"
    return _plain_name(clip).rpartition(end)[0]


def _listed(folders: Mapping[str, Path], lists: Path | None, faults: list[Fault]) -> Iterator[ListedClip]:
    if lists is not None and not lists.is_dir():
        raise ManifestError(f"There is no folder of lists at {lists}.")
    published = [] if lists is None else sorted(path for name in LISTS.values() for path in lists.rglob(name))
    if published:
        for (domain, split), name in LISTS.items():
            yield from _published(published[0].with_name(name), domain, split, faults)
        return
    for split, name in UCF_SPLIT_FILES.items():
        for path in _found(lists or folders["ucf"], name, faults):
            yield from _official_ucf(path, split, faults)
    for label in CLASSES:
        for path in _found(lists or folders["hmdb"], f"{label}_test_split1.txt", faults):
            yield from _official_hmdb(path, label, faults)


def _found(folder: Path, name: str, faults: list[Fault]) -> list[Path]:
    """The file below a folder, or none, with a fault."""
    paths = sorted(folder.rglob(name))[:1]
    if not paths:
        remedy = "name the folder of the published lists or of the official split files with --lists"
        faults.append(Fault(None, f"holds no {name}; {remedy}.", str(folder)))
    return paths


def _lines(path: Path, faults: list[Fault]) -> Iterator[TableRow]:
    for number, line in enumerate((read_text(path, faults) or "").splitlines(), start=1):
        if line.strip():
            yield TableRow(path.name, number, {"line": line.strip()})


def _published(path: Path, domain: str, split: str, faults: list[Fault]) -> Iterator[ListedClip]:
    for row in _lines(path, faults):
        name, _, number = (part.strip() for part in row["line"].rpartition(","))
        if not name or not number.isdecimal() or int(number) >= len(CLASSES):
            faults.append(row.fault(f"{row['line']!r} is no clip and a class from 0 to {len(CLASSES) - 1}."))
            continue
        label = CLASSES[int(number)]
        known = _ucf_label(name) if domain == "ucf" else (label if f"_{label}_" in name else None)
        if known != label:
            faults.append(row.fault(f"{name!r} is not named like a clip of class {number}, {label}."))
        else:
            yield ListedClip(row, domain, split, name, label)


def _ucf_label(name: str) -> str | None:
    match = UCF_NAME.fullmatch(name)
    return UCF_CLASSES.get(match["class"]) if match else None


def _official_ucf(path: Path, split: str, faults: list[Fault]) -> Iterator[ListedClip]:
    """Lines such as `Archery/v_Archery_g08_c01.avi 3`; test lists have no number."""
    for row in _lines(path, faults):
        name = row["line"].split()[0].rpartition("/")[2].removesuffix(SUFFIX)
        if UCF_NAME.fullmatch(name) is None:
            faults.append(row.fault(f"{row['line']!r} is no clip; 'Archery/v_Archery_g08_c01.avi' would be one."))
        elif label := _ucf_label(name):
            yield ListedClip(row, "ucf", split, name, label)


def _official_hmdb(path: Path, label: str, faults: list[Fault]) -> Iterator[ListedClip]:
    """Lines such as `NAME.avi 1`: 1 is train, 2 test, 0 neither."""
    for row in _lines(path, faults):
        name, _, part = row["line"].rpartition(" ")
        if not name or part not in HMDB_SPLITS:
            faults.append(row.fault(f"{row['line']!r} is no clip and 0, 1 or 2."))
        elif HMDB_SPLITS[part]:
            yield ListedClip(row, "hmdb", HMDB_SPLITS[part], name.strip().removesuffix(SUFFIX), label)
