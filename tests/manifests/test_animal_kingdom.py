"""Animal Kingdom from a workbook of the published structure, drawn here, and from the real one where it is at hand."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from actiondiff.manifests import Manifest, ManifestError, animal_kingdom

REAL = Path(__file__).parents[3] / "shared" / "annotations" / "animal_kingdom" / "AR_metadata.xlsx"

ACTIONS = ((0, "x", "Attending"), (1, "x", "Eating"), (2, "x", "Keeping still"), (3, "x", "Shaking head"))
ANIMALS = (
    ("Grey Heron", "Bird", "Bird", "Bird"),
    ("Common Quail Bird", "Bird", "Bird", "Bird"),
    ("Green iguana", "Reptile", "Reptile", "Lizard / Gecko / Draco / Iguana / Chamelon"),
    ("Mandarin Duck", "Bird", "Bird", "Water bird / Duck / Swan / Goose"),
    ("Old Viper", "Reptile", "Reptile / Snake", "Snake / Cobra / Viper / Python"),
    ("O'Hara's Frog", "Amphibian", "Amphibian", "Frog / Toad"),
    ("Horse", "Mammal", "Mammal", "Horse"),
)
CLIPS = (
    ("AAAA", "train", "0", "[('Grey Heron', 'Attending')]"),
    ("AAAB", "test", "1,0", "[('Common Quail', 'Eating'), ('Grey Heron', 'Attending')]"),
    ("AAAC", "train", 2, "[('Green Iguana', 'Keeping still')]"),
    ("AAAD", "test", "1", "[('Common Quail', 'Eating')]"),
    ("AAAE", "train", "0", repr(["[(\"O'Hara's Frog\", 'Attending')]"])),
    ("AAAF", "train", "3", "[('Old Viper', 'Shaking Head')]"),
    ("AAAG", "train", "1", "[('Horse', 'Eating')]"),
    ("AAAH", "train", "2", "[('Yeti', 'Keeping still')]"),
    ("AAAI", "train", "1", "[('Old Viper', 'Eating'), ('Mandarin Duck', 'Eating')]"),
    ("AAAJ", "test", "0", "[]"),
    ("AAAK", "test", "139", "[('Horse', 'Eating')]"),
)


def write_workbook(path: Path, sheets: Mapping[str, Sequence[Sequence[Any]]]) -> Path:
    import openpyxl

    workbook = openpyxl.Workbook()
    workbook.remove(workbook.active)
    for name, rows in sheets.items():
        sheet = workbook.create_sheet(name)
        for row in rows:
            sheet.append(list(row))
    workbook.save(path)
    return path


def sheets(clips: Sequence[Sequence[Any]] = CLIPS) -> dict[str, list[Sequence[Any]]]:
    return {
        "AR": [("S/N", "video_id", "type", "labels", "list_animal_action"), *((n, *c) for n, c in enumerate(clips))],
        "CARe": [("S/N", "train_test"), (1, "train_fish")],
        "Action": [("Label", "Category", "Action"), *ACTIONS, ("=#N/A", "x", "Yawning")],
        "Animal": [("Animal", "Parent Class", "Class", "Sub-Class"), *ANIMALS, (None, None, None, None)],
    }


def videos_of(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / "video").mkdir(parents=True, exist_ok=True)
        (folder / "video" / f"{name}.mp4").touch()
    return folder


@pytest.fixture
def metadata(tmp_path: Path) -> Path:
    return write_workbook(tmp_path / "AR_metadata.xlsx", sheets())


@pytest.fixture
def videos(tmp_path: Path) -> Path:
    return videos_of(tmp_path / "data", *(row[0] for row in CLIPS))


def test_every_clip_comes_with_its_labels_class_and_animals_which_are_no_groups(metadata: Path, videos: Path) -> None:
    built = animal_kingdom(metadata, videos)
    rows = {v.video_id: (v.labels, v.split, v.domain, v.group, v.extra.get("animals")) for v in built.manifest}
    frog = "O'Hara's Frog"
    assert rows == {
        "AAAA": (("Attending",), "train", "Bird", "", "Grey Heron"),
        "AAAB": (("Eating", "Attending"), "test", "Bird", "", "Common Quail Bird; Grey Heron"),
        "AAAC": (("Keeping still",), "train", "Reptile", "", "Green iguana"),
        "AAAD": (("Eating",), "test", "Bird", "", "Common Quail Bird"),
        "AAAE": (("Attending",), "train", "Amphibian", "", frog),
        "AAAF": (("Shaking head",), "train", "Reptile", "", "Old Viper"),
        "AAAG": (("Eating",), "train", "Mammal", "", "Horse"),
        "AAAH": (("Keeping still",), "train", "", "", "Yeti"),
        "AAAI": (("Eating",), "train", "several", "", "Old Viper; Mandarin Duck"),
        "AAAJ": (("Attending",), "test", "", "", None),
        "AAAK": (("Yawning",), "test", "Mammal", "", "Horse"),
    }
    assert built.counts()["Bird"] == {"train": 1, "test": 2}
    assert built.manifest.source(built.manifest.videos[0]) == videos / "video" / "AAAA.mp4"


def test_what_the_sheets_disagree_on_is_said(metadata: Path, videos: Path) -> None:
    notes = "\n".join(animal_kingdom(metadata, videos).notes)
    assert "'Yawning' has the number '=#N/A'; 139 is taken" in notes
    assert "under another name: Common Quail (2)" in notes
    assert "does not have, left without a class: Yeti (1)" in notes
    assert "name no animal, so have no domain: AAAJ" in notes
    assert "in 2 rows the numbered labels are not" in notes


def test_unseen_species_takes_single_labels_of_six_actions_by_class_of_animal(metadata: Path, videos: Path) -> None:
    built = animal_kingdom(metadata, videos, unseen_species=True)
    rows = {v.video_id: (v.split, v.domain, v.group, v.extra["original_split"]) for v in built.manifest}
    assert rows == {
        "AAAA": ("train", "birds", "Grey Heron", "train"),
        "AAAC": ("test", "lizards", "Green iguana", "train"),
        "AAAD": ("train", "birds", "Common Quail Bird", "test"),
        "AAAE": ("train", "frogs", "O'Hara's Frog", "train"),
        "AAAI": ("train", "snakes", "Old Viper", "train"),
    }
    notes = "\n".join(built.notes)
    assert "2 clips of the six actions are left out because their animal has no class: AAAH, AAAJ" in notes
    assert "both the training and the test classes" in notes
    assert "AAAI" in notes


def test_all_that_is_missing_or_broken_is_told_in_one_message(tmp_path: Path) -> None:
    broken = [
        *CLIPS[:2],
        ("AAAA", "train", "0", "[('Grey Heron', 'Attending')]"),
        ("BAAA", "validation", "77", "[('Grey Heron', 'Attending')]"),
        ("BAAB", "train", "0", "[('Grey Heron', 'Atte"),
        ("", "train", "0", "[('Grey Heron', 'Attending')]"),
    ]
    path = write_workbook(tmp_path / "m.xlsx", sheets(broken))
    with pytest.raises(ManifestError) as caught:
        animal_kingdom(path, videos_of(tmp_path / "data", "AAAA", "ZZZZ"))
    said = str(caught.value)
    for words in (
        "sheet AR, line 4: clip 'AAAA' stands in line 2",
        "sheet AR, line 5: labels '77'",
        "line 5: type is 'validation'",
        "line 6: list_animal_action is no list",
        "line 7: video_id is empty",
        "1 of 2 clips are missing: AAAB",
        "--allow-missing",
        "1 clips in",
        "video/ZZZZ.mp4",
    ):
        assert words in said


def test_a_wrong_sheet_a_renamed_column_and_a_missing_folder_are_told_together(tmp_path: Path) -> None:
    tables = sheets()
    tables["AR_count"] = tables.pop("AR")
    tables["Animal"][0] = ("Animal", "Parent", "Class", "Subclass")
    path = write_workbook(tmp_path / "m.xlsx", tables)
    with pytest.raises(ManifestError) as caught:
        animal_kingdom(path, tmp_path / "nowhere")
    said = str(caught.value)
    assert "has no sheet 'AR'; it has: CARe, Action, Animal, AR_count" in said
    assert "lacks Parent Class, Sub-Class; found: Animal, Parent, Class, Subclass" in said
    assert "no such folder of videos" in said


@pytest.mark.parametrize("content", [b"no workbook", b"PK\x03\x04 cut off"])
def test_a_file_that_is_no_workbook_is_told(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "m.xlsx").write_bytes(content)
    with pytest.raises(ManifestError, match="not an Excel workbook"):
        animal_kingdom(tmp_path / "m.xlsx", tmp_path)
    with pytest.raises(ManifestError, match="cannot be read"):
        animal_kingdom(tmp_path / "gone.xlsx", tmp_path)


def test_a_folder_of_frames_will_do_and_the_file_goes_before_it(metadata: Path, tmp_path: Path) -> None:
    videos = videos_of(tmp_path / "data", *(row[0] for row in CLIPS[1:]))
    for name in ("AAAA", "AAAB"):
        (videos / "image" / name).mkdir(parents=True)
        (videos / "image" / name / "0001.jpg").touch()
    paths = {v.video_id: v.path for v in animal_kingdom(metadata, videos).manifest}
    assert (paths["AAAA"], paths["AAAB"]) == ("image/AAAA", "video/AAAB.mp4")


def test_a_clip_that_lies_there_twice_is_refused(metadata: Path, videos: Path) -> None:
    (videos / "old").mkdir()
    (videos / "old" / "AAAA.avi").touch()
    with pytest.raises(ManifestError, match=r"lie there twice: old/AAAA.avi = video/AAAA.mp4"):
        animal_kingdom(metadata, videos)


def test_the_command_writes_the_manifest_and_says_what_it_found(metadata, videos, tmp_path, actiondiff) -> None:
    (videos / "video" / "AAAC.mp4").unlink()
    arguments = ("manifest", "animal-kingdom", "--metadata", metadata, "--videos", videos, "--out", "ak.csv")
    result = actiondiff(*arguments, cwd=tmp_path)
    assert result.exit_code == 2
    assert "AAAC" in result.stderr
    assert not (tmp_path / "ak.csv").exists()
    result = actiondiff(*arguments, "--unseen-species", "--allow-missing", "--json")
    assert result.exit_code == 0, result.stderr
    assert '"missing": ["AAAC"]' in result.stdout
    manifest = Manifest.read(tmp_path / "ak.csv", check_files=False)
    assert [video.path for video in manifest][:2] == ["data/video/AAAA.mp4", "data/AAAC.mp4"]


@pytest.mark.skipif(not REAL.exists(), reason="the real AR_metadata.xlsx is not here")
def test_the_real_workbook_gives_the_published_counts(tmp_path: Path) -> None:
    built = animal_kingdom(REAL, tmp_path, allow_missing=True)
    splits = [video.split for video in built.manifest]
    assert (splits.count("train"), splits.count("test"), len(built.manifest.classes)) == (24_004, 6_096, 140)
    unseen = animal_kingdom(REAL, tmp_path, unseen_species=True, allow_missing=True)
    splits = [video.split for video in unseen.manifest]
    assert (splits.count("train"), splits.count("test"), len(unseen.manifest.classes)) == (4_710, 1_039, 6)
    assert len(unseen.counts()) == 9
