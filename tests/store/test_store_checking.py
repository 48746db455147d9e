"""Checking: whatever is changed, cut, missing or strange is named, with the videos that it touches."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from store_helpers import GRID, KEY, RECIPE, contents_of, contents_told, draw_failure, draw_video, files_of, parts_of

from actiondiff.store import FeatureStore, StoreBusy, StoreNotFound, StoreWriter, checking, compact, verify
from actiondiff.store.places import sizes_beneath
from actiondiff.store.staging import only_one

SMALL = draw_video("s", frames=2, channels=2)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "features.zarr"
    with StoreWriter(path, RECIPE, notice="Drawn.") as writer:
        writer.add(draw_video("a"))
        writer.add(draw_video("b"))
        writer.commit()
        writer.add(draw_video("a", GRID[:2]))
        writer.fail(draw_failure("broken"))
    return path


def test_a_whole_store_is_good_and_every_file_was_read(path: Path) -> None:
    pieces: list[int] = []
    check = verify(path, progress=pieces.append)
    files = [content for content in files_of(path).values() if content is not None]
    assert (check.good, check.damages, check.video_ids) == (True, (), ())
    assert (check.parts, check.files, check.size_bytes) == (2, len(files), sum(map(len, files)))
    assert sum(pieces) == check.size_bytes
    assert "nothing is damaged" in check.text()


def test_flipped_bytes_all_over_a_whole_store_are_found(tmp_path: Path) -> None:
    path = tmp_path / "small.zarr"
    with StoreWriter(path, RECIPE, notice="Drawn.") as writer:
        writer.add(SMALL)
    bits = 0
    for name, content in files_of(path).items():
        for position in range(len(name) % 5, len(content or b""), 5):
            assert content is not None
            bits += 1
            flipped = content[:position] + bytes([content[position] ^ (1 << bits % 8)]) + content[position + 1 :]
            (path / name).write_bytes(flipped)
            damages = verify(path).damages
            assert [damage.file for damage in damages] == [name], f"{name} byte {position}"
            if name.startswith("parts/part-") and not name.endswith("-/zarr.json") and damages[0].kind == "changed":
                assert damages[0].video_ids == ("s",)
        if content is not None:
            (path / name).write_bytes(content)
    assert verify(path).good


CHANGES: dict[str, Callable[[Path], object]] = {
    "missing": Path.unlink,
    "size": lambda file: file.write_bytes(file.read_bytes()[:-1]),
    "changed": lambda file: file.write_bytes(bytes(len(file.read_bytes()))),
}


@pytest.mark.parametrize("kind", CHANGES)
@pytest.mark.parametrize("name", ["layer_09/c/0/0/0", "layer_09/zarr.json", "frame_index/c/0", "source_stat/zarr.json"])
def test_a_damaged_file_is_named_with_its_part_videos_and_layer(path: Path, kind: str, name: str) -> None:
    part = parts_of(path)[0]
    CHANGES[kind](part / name)
    check = verify(path)
    [damage] = check.damages
    assert (damage.kind, damage.file, damage.part) == (kind, f"parts/{part.name}/{name}", part.name)
    assert damage.video_ids == check.video_ids == ("a", "b")
    assert damage.layer == (9 if name.startswith("layer") else None)
    assert damage.file in check.text()
    assert json.loads(json.dumps(check.to_dict()))["damages"][0]["kind"] == kind


@pytest.mark.parametrize("name", ["x", "parts/x", "parts/{part}/x", "parts/{part}/layer_09/c/0/0/1"])
def test_a_file_that_nobody_wrote_is_named_and_its_part_is_not_dropped(path: Path, name: str) -> None:
    name = name.format(part=parts_of(path)[0].name)
    (path / name).write_bytes(b"x")
    check = verify(path, drop_damaged=True)
    assert [(damage.kind, damage.file) for damage in check.damages] == [("extra", name)]
    assert check.dropped == ()
    assert len(parts_of(path)) == 2


def test_an_index_that_another_tool_spelled_anew_is_told_and_not_dropped(path: Path) -> None:
    index = parts_of(path)[0] / "zarr.json"
    index.write_text(json.dumps(json.loads(index.read_bytes()), indent=2))
    check = verify(path, drop_damaged=True)
    assert [(damage.kind, damage.video_ids) for damage in check.damages] == [("respelled", ("a", "b"))]
    assert len(parts_of(path)) == 2


def test_a_damaged_index_tells_the_videos_that_can_still_be_made_out(path: Path) -> None:
    index = parts_of(path)[0] / "zarr.json"
    index.write_bytes(index.read_bytes().replace(b'"row_offsets":[0,', b'"row_offsets":[1,'))
    [damage] = verify(path).damages
    assert (damage.kind, damage.video_ids) == ("index", ("a", "b"))
    index.write_bytes(b"\xff")
    assert verify(path).damages[0].video_ids == ()


def test_a_header_that_is_gone_or_changed_is_damage_and_the_parts_are_still_checked(path: Path) -> None:
    header = path / "zarr.json"
    content = header.read_bytes()
    header.write_bytes(content.replace(b"Drawn.", b"Drown."))
    assert [damage.kind for damage in verify(path).damages] == ["header"]
    header.unlink()
    check = verify(path)
    assert ([damage.kind for damage in check.damages], check.parts) == (["header"], 2)


def test_a_dropped_part_is_gone_in_one_step_and_what_it_had_is_missing_again(path: Path) -> None:
    shard = parts_of(path)[0] / "layer_09/c/0/0/0"
    shard.write_bytes(bytes(len(shard.read_bytes())))
    reader = FeatureStore(path)
    check = verify(path, drop_damaged=True)
    assert check.dropped == (shard.parents[4].name,)
    assert verify(path).good
    store = FeatureStore(path)
    assert store.missing("a", [KEY, *GRID[:2]]) == (KEY,)
    assert store.missing("b", [KEY]) == (KEY,)
    assert contents_of(store) == contents_told([draw_video("a", GRID[:2])])
    assert not (path / ".writing").exists()
    reader.refresh()
    assert contents_of(reader) == contents_of(store)


def test_a_failure_that_a_dropped_part_had_taken_back_is_told(path: Path) -> None:
    with StoreWriter(path, RECIPE) as writer:
        writer.add(draw_video("broken"))
    shard = parts_of(path)[-1] / "layer_09/c/0/0/0"
    shard.unlink()
    check = verify(path, drop_damaged=True)
    assert check.failed_again == ("broken",)
    assert "--retry-failed" in check.text()


def test_what_is_no_store_is_not_checked(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(StoreNotFound):
            verify(folder)


def test_two_cannot_drop_at_once(path: Path) -> None:
    (parts_of(path)[0] / "layer_09/c/0/0/0").unlink()
    with only_one(path), pytest.raises(StoreBusy, match="Try again later"):
        verify(path, drop_damaged=True)
    assert len(parts_of(path)) == 2


@pytest.mark.parametrize("url", [False, True], ids=["local", "url"])
def test_a_part_that_goes_while_it_is_checked_is_no_damage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, url: bool
) -> None:
    """Merged after its index was read, before or after its files were listed."""
    monkeypatch.setenv("ACTIONDIFF_CACHE", str(tmp_path / "cache"))
    for step in ("list", "read"):
        place = f"memory://{tmp_path.name}/{step}.zarr" if url else tmp_path / f"{step}.zarr"
        with StoreWriter(place, RECIPE) as writer:
            for name in "ab":
                writer.add(draw_video(name))
                writer.commit()
        with monkeypatch.context() as patches:
            real = checking.sizes_beneath

            def merged(folder: Any, step: str = step, place: Any = place, real: Any = real) -> dict[str, int]:
                patches.setattr(checking, "sizes_beneath", real)
                found = real(folder)
                compact(place)
                return real(folder) if step == "list" else found

            patches.setattr(checking, "sizes_beneath", merged)
            check = verify(place)
        assert check.damages == ()
        assert len(FeatureStore(place).parts) == 1


def test_a_file_that_goes_while_its_folder_is_listed_is_left_out(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = Path.lstat

    def late(self: Path) -> os.stat_result:
        if self.name == "0" and self.is_file():
            self.unlink()
        return real(self)

    monkeypatch.setattr(Path, "lstat", late)
    assert {name.rpartition("/")[2] for name in sizes_beneath(parts_of(path)[0])} == {"zarr.json"}


def test_a_link_among_the_parts_that_leads_nowhere_is_damage_and_ends(path: Path) -> None:
    """In a process of its own, which once went on for ever."""
    (path / "parts" / "part-01795380045065156736-52091a72").symlink_to("nowhere")
    code = f"from actiondiff.store import FeatureStore; FeatureStore({str(path)!r})"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert "zarr.json is missing: the part is damaged" in told.stderr
    assert [damage.kind for damage in verify(path).damages] == ["index"]
    verify(path, drop_damaged=True)
    assert verify(path).good
