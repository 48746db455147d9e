"""UCF101 and HMDB51 from lists of the published structure, drawn here, and from the real ones where they are."""

import json
from pathlib import Path

import pytest

from actiondiff.manifests import Manifest, ManifestError, ucf_hmdb
from actiondiff.manifests.ucf_hmdb import CLASSES

REAL = Path(__file__).parents[3] / "shared" / "annotations" / "ucf_hmdb_lists"
TAIL = "f_cm_np1_fr_med"

UCF = ("Archery/v_Archery_g01_c01", "Archery/v_Archery_g02_c01", "Punch/v_Punch_g01_c03", "Knitting/v_Knitting_g01_c01")
HMDB = (
    f"golf/Tee_&_Green_(9)_golf_{TAIL}_0",
    f"golf/Don't_look;_golf_{TAIL}_1",
    f"walk/A_walk_in_the_park_walk_{TAIL}_2",
    f"wave/Bye_wave_{TAIL}_2",
)
PUBLISHED = {
    "ucf101_train_hmdb_ucf.csv": ("v_Archery_g01_c01,10",),
    "ucf101_val_hmdb_ucf.csv": ("v_Archery_g02_c01,10", "v_Punch_g01_c03,5"),
    "hmdb51_train_hmdb_ucf.csv": (f"v_Tee__Green_9_golf_{TAIL}_0,2", f"v_A_walk_in_the_park_walk_{TAIL}_2,11"),
    "hmdb51_val_hmdb_ucf.csv": (f"v_Dont_look_golf_{TAIL}_1,2",),
}
ROWS = {
    "ucf/v_Archery_g01_c01": ("ucf/Archery/v_Archery_g01_c01.avi", "shoot_bow", "train", "ucf/v_Archery_g01"),
    "ucf/v_Archery_g02_c01": ("ucf/Archery/v_Archery_g02_c01.avi", "shoot_bow", "test", "ucf/v_Archery_g02"),
    "ucf/v_Punch_g01_c03": ("ucf/Punch/v_Punch_g01_c03.avi", "punch", "test", "ucf/v_Punch_g01"),
    f"hmdb/Tee__Green_9_golf_{TAIL}_0": (f"hmdb/{HMDB[0]}.avi", "golf", "train", "hmdb/Tee__Green_9"),
    f"hmdb/A_walk_in_the_park_walk_{TAIL}_2": (f"hmdb/{HMDB[2]}.avi", "walk", "train", "hmdb/A_walk_in_the_park"),
    f"hmdb/Dont_look_golf_{TAIL}_1": (f"hmdb/{HMDB[1]}.avi", "golf", "test", "hmdb/Dont_look"),
}


@pytest.fixture
def data(tmp_path: Path) -> Path:
    for folder, names in (("ucf", UCF), ("hmdb", HMDB)):
        for name in names:
            path = tmp_path / folder / f"{name}.avi"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
    return tmp_path


@pytest.fixture
def published(tmp_path: Path) -> Path:
    folder = tmp_path / "lists"
    folder.mkdir()
    for name, lines in PUBLISHED.items():
        (folder / name).write_text("\n".join(lines) + "\n")
    return folder


def official(folder: Path) -> None:
    (folder / "ucf" / "splits").mkdir()
    (folder / "ucf" / "splits" / "trainlist01.txt").write_text(f"{UCF[0]}.avi 3\r\n{UCF[3]}.avi 55\r\n")
    (folder / "ucf" / "splits" / "testlist01.txt").write_text(f"{UCF[1]}.avi\r\n{UCF[2]}.avi\r\n")
    for label in CLASSES:
        names = [Path(name).name for name in HMDB if name.startswith(f"{label}/")]
        numbers = {HMDB[0]: 1, HMDB[1]: 2, HMDB[2]: 1}
        lines = [f"{name}.avi {numbers[f'{label}/{name}']} " for name in names] + [f"Unused_{label}_{TAIL}_0.avi 0 "]
        (folder / "hmdb" / f"{label}_test_split1.txt").write_text("\n".join(lines) + "\n")


def as_rows(manifest: Manifest) -> dict[str, tuple[str, str, str, str]]:
    assert all(video.domain == video.video_id.partition("/")[0] for video in manifest)
    return {video.video_id: (video.path, video.labels[0], video.split, video.group) for video in manifest}


def test_the_published_lists_find_clips_whose_punctuation_they_have_lost(data: Path, published: Path) -> None:
    built = ucf_hmdb(data / "ucf", data / "hmdb", lists=published)
    assert as_rows(built.manifest) == ROWS
    assert (built.missing, len(built.extra)) == ((), 2)
    assert built.counts() == {"ucf": {"train": 1, "test": 2}, "hmdb": {"train": 2, "test": 1}}


def test_the_official_split_files_give_the_same_rows(data: Path) -> None:
    official(data)
    assert as_rows(ucf_hmdb(data / "ucf", data / "hmdb").manifest) == ROWS


def test_without_any_list_the_way_out_is_told_once_for_each_file(data: Path) -> None:
    with pytest.raises(ManifestError) as caught:
        ucf_hmdb(data / "ucf", data / "hmdb")
    assert "trainlist01.txt" in str(caught.value)
    assert "climb_test_split1.txt" in str(caught.value)
    assert "--lists" in str(caught.value)


def test_everything_wrong_is_told_in_one_message(data: Path, published: Path) -> None:
    (published / "ucf101_train_hmdb_ucf.csv").write_text("v_Archery_g01_c01,10\nv_Archery_g01_c02,4\nv_Archery,x\n")
    (published / "ucf101_val_hmdb_ucf.csv").write_bytes("v_Archery_g02_c01,10\ncaf\u00e9,1\n".encode("latin-1"))
    (published / "hmdb51_val_hmdb_ucf.csv").unlink()
    (data / "hmdb" / f"{HMDB[0]}.avi").unlink()
    twin = data / "hmdb" / f"{HMDB[2].replace('_in_', '-in-')}.avi"
    twin.touch()
    with pytest.raises(ManifestError) as caught:
        ucf_hmdb(data / "ucf", data / "hmdb", lists=published)
    said = str(caught.value)
    for words in (
        "ucf101_train_hmdb_ucf.csv, line 2: 'v_Archery_g01_c02' is not named like a clip of class 4, pullup",
        "line 3: 'v_Archery,x' is no clip and a class from 0 to 11",
        "ucf101_val_hmdb_ucf.csv, line 2: byte 0xe9",
        "hmdb51_val_hmdb_ucf.csv: cannot be read",
        f"1 of 2 clips are missing: v_Tee__Green_9_golf_{TAIL}_0",
        "clips lie there twice",
        "belong to no row",
    ):
        assert words in said


def test_the_command_gives_both_directions(data: Path, published: Path, actiondiff) -> None:
    result = actiondiff(
        "manifest", "ucf-hmdb", "--ucf", "ucf", "--hmdb", "hmdb", "--lists", "lists", "--json", cwd=data
    )
    assert result.exit_code == 0, result.stderr
    assert json.loads(result.stdout)["clips"] == 6
    manifest = Manifest.read(data / "manifest.csv")
    assert len(manifest.where("domain=ucf,split=train")) == 1
    assert len(manifest.where("domain=hmdb,split=test")) == 1


@pytest.mark.skipif(not REAL.exists(), reason="the real lists of UCF101 and HMDB51 are not here")
def test_the_real_lists_give_the_published_counts(tmp_path: Path) -> None:
    built = ucf_hmdb(tmp_path, tmp_path, lists=REAL, allow_missing=True)
    assert built.counts() == {"ucf": {"train": 1_438, "test": 571}, "hmdb": {"train": 840, "test": 360}}
    assert len(built.manifest.classes) == 12
