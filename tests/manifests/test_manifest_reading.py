import pickle
from pathlib import Path

import pytest

from actiondiff import InputError
from actiondiff.manifests import (
    Fault,
    Manifest,
    ManifestError,
    ManifestNotFound,
    Video,
)

HEADER = "video_id,path,label"


def write_csv(folder: Path, text: str, name: str = "manifest.csv") -> Path:
    path = folder / name
    path.write_bytes(text.encode())
    return path


def read_faults(path: Path, *, check_files: bool = False) -> list[Fault]:
    with pytest.raises(ManifestError) as caught:
        Manifest.read(path, check_files=check_files)
    return list(caught.value.faults)


def test_a_manifest_with_every_column_is_read(tmp_path: Path) -> None:
    text = (
        "\ufeffvideo_id, path,label,split,domain,group,start_seconds,end_seconds,weather\r\n"
        "a,clips/a.mp4,push; hug,train,lawn,g1,0,12.5,rain\r\n"
        "\r\n"
        "b,clips/b.mp4,,,,,,,\r\n"
        ",,,,,,,,\r\n"
    )
    manifest = Manifest.read(write_csv(tmp_path, text), check_files=False)
    first = Video("a", "clips/a.mp4", ("push", "hug"), "train", "lawn", "g1", 0.0, 12.5, {"weather": "rain"})
    assert manifest.videos == (first, Video("b", "clips/b.mp4"))
    assert manifest.source(first) == tmp_path / "clips/a.mp4"


def test_all_faulty_rows_are_told_at_once_with_their_lines(tmp_path: Path) -> None:
    (tmp_path / "here.mp4").touch()
    text = "\n".join(
        [
            f"{HEADER},start_seconds,end_seconds,note",
            "good,here.mp4,push,,,",
            'note,here.mp4,push,,,"two',
            'lines"',
            "gone,missing.mp4,push,,,",
            "",
            "good,here.mp4,hug,,,",
            "/absolute,here.mp4,push,,,",
            "../climbs,here.mp4,push,,,",
            "word,here.mp4,push,soon,,",
            "turned,here.mp4,push,5,2,",
            "short,here.mp4,push",
            "long,here.mp4,push,,,,,",
            "twice,here.mp4,push;push,,,",
            "many/../faults,missing.mp4,;,x,-1,",
        ]
    )
    faults = read_faults(write_csv(tmp_path, text), check_files=True)
    by_line: dict[int | None, str] = {}
    for fault in faults:
        by_line[fault.line] = by_line.get(fault.line, "") + fault.message
    assert sorted(line for line in by_line if line) == [5, 7, 8, 9, 10, 11, 12, 13, 14, 15]
    expected = {
        5: "missing.mp4",
        7: "stands in line 2 too",
        8: "absolute",
        9: "'..'",
        10: "'soon' is not a number",
        11: "not before",
        12: "3 cells, the header 6",
        13: "8 cells, the header 6",
        14: "2 times",
    }
    assert {line for line, words in expected.items() if words not in by_line[line]} == set()
    assert sum(fault.line == 15 for fault in faults) == 5


def test_a_row_of_several_lines_is_named_by_its_first(tmp_path: Path) -> None:
    faults = read_faults(write_csv(tmp_path, f'{HEADER},note\r\na,a.mp4,x,"1\r\n2\r\n3"\r\n/b,b.mp4,x,"1\r\n2"\r\n'))
    assert [fault.line for fault in faults] == [5]


def test_a_long_list_of_faults_is_cut_and_counted(tmp_path: Path) -> None:
    path = write_csv(tmp_path, HEADER + "\n" + "".join(f"{number},gone{number}.mp4,x\n" for number in range(50)))
    with pytest.raises(ManifestError) as caught:
        Manifest.read(path)
    text = str(caught.value)
    assert len(caught.value.faults) == 50
    assert "50 rows break" in text
    assert "line 21: " in text
    assert "line 22: " not in text
    assert "30 more" in text


def test_files_are_looked_for_beside_the_manifest_unless_told_not_to(tmp_path: Path) -> None:
    path = write_csv(tmp_path, f"{HEADER}\na,frames,x\n")
    assert len(Manifest.read(path, check_files=False)) == 1
    assert "frames" in read_faults(path, check_files=True)[0].message
    (tmp_path / "frames").mkdir()
    assert len(Manifest.read(path)) == 1


@pytest.mark.parametrize(
    ("header", "words"),
    [
        ("video_id,path", "lacks label"),
        ("video_id;path;label", "parted by commas"),
        ("video_id,path,label,split,split", "'split' stands 2 times"),
        ("video_id,path,label,", "has no name"),
        ("", "found: nothing"),
    ],
)
def test_a_header_that_is_none_is_refused(tmp_path: Path, header: str, words: str) -> None:
    (fault,) = read_faults(write_csv(tmp_path, header + "\n"))
    assert words in fault.message
    assert fault.line == 1


def test_a_header_without_videos_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match="no videos"):
        Manifest.read(write_csv(tmp_path, HEADER + "\n"))


def test_a_quote_that_is_never_closed_does_not_swallow_the_file(tmp_path: Path) -> None:
    faults = read_faults(write_csv(tmp_path, f'{HEADER}\n/a,a.mp4,x\nb,"b.mp4,x\nc,c.mp4,x\n'))
    assert [fault.line for fault in faults] == [2, 3]
    assert "quote" in faults[1].message


def test_a_file_that_is_not_utf8_is_told_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "latin.csv"
    path.write_bytes(f"{HEADER}\na,caf\u00e9.mp4,x\n".encode("latin-1"))
    (fault,) = read_faults(path)
    assert fault.line == 2
    assert "0xe9" in fault.message


def test_a_missing_manifest_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(ManifestNotFound, match="actiondiff manifest scan DIR") as caught:
        Manifest.read(tmp_path / "manifest.csv")
    assert isinstance(caught.value, FileNotFoundError)
    assert isinstance(caught.value, InputError)
    again = pickle.loads(pickle.dumps(caught.value))  # noqa: S301 - made in the line itself
    assert str(again) == str(caught.value)


def test_a_folder_in_place_of_a_manifest_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match=r"is a folder.*actiondiff manifest scan"):
        Manifest.read(tmp_path)
