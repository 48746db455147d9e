import errno
import json
import os
import pickle
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import google_crc32c
import pytest
from store_helpers import (
    GRID,
    KEY,
    RECIPE,
    Steps,
    contents_of,
    contents_told,
    draw_failure,
    draw_video,
    files_of,
    parts_of,
)

from actiondiff.store import Failure, FeatureStore, StoreError, StoreNotWritable, StoreWriter
from actiondiff.store import arrays as arrays_module
from actiondiff.store.part import Part, write_part


@pytest.fixture
def store(tmp_path: Path) -> Path:
    path = tmp_path / "features.zarr"
    with StoreWriter(path, RECIPE) as writer:
        writer.add(draw_video("first"))
    return path


def fail_at(monkeypatch: pytest.MonkeyPatch, step: int) -> Callable[[], int]:
    """Every file operation of a writer counts as a step; the one of this number fails as on a full disk."""
    steps = Steps()

    def patch(owner: Any, name: str) -> None:
        real = getattr(owner, name)

        def counted(*args: Any, **options: Any) -> Any:
            if steps.take() == step:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return real(*args, **options)

        monkeypatch.setattr(owner, name, counted)

    patch(os, "fsync")
    patch(Path, "mkdir")
    patch(Path, "open")
    patch(Path, "rename")
    patch(arrays_module, "write_file")
    return lambda: steps.taken


def test_a_failure_at_every_step_of_writing_leaves_the_store_as_it_was_and_the_videos_in_hand(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    videos = [draw_video("a", GRID[:2]), draw_video("b", GRID[:2])]
    writer = StoreWriter(store, RECIPE)
    for video in videos:
        writer.add(video)
    before, step, messages = files_of(store), 0, set[str]()
    while True:
        step += 1
        with monkeypatch.context() as patches:
            taken = fail_at(patches, step)
            try:
                writer.commit()
            except StoreNotWritable as error:
                messages.add(str(error))
            if taken() < step:
                break
        now = files_of(store)
        if len(parts_of(store)) == 1:
            assert now == before
        else:  # the last step makes the part last; that failed, but it is there
            assert before.items() <= now.items()
            break
    assert step > 40
    assert len(messages) == 1
    assert "its disk is full. Free some space" in messages.pop()
    with writer:
        pass
    assert len(parts_of(store)) == 2
    assert contents_of(FeatureStore(store)) == contents_told([draw_video("first"), *videos])


def test_a_failure_to_make_a_part_last_does_not_write_it_twice(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with StoreWriter(store, RECIPE) as writer:
        writer.add(draw_video("a"))
        with monkeypatch.context() as patches:
            real = os.fsync

            def fsync(descriptor: int) -> None:
                if len(parts_of(store)) == 2:
                    raise OSError(errno.EIO, "the disk is dying")
                real(descriptor)

            patches.setattr(os, "fsync", fsync)
            with pytest.raises(OSError, match="dying"):
                writer.commit()
    assert len(parts_of(store)) == 2
    assert contents_of(FeatureStore(store)) == contents_told([draw_video("first"), draw_video("a")])


def test_an_interruption_while_writing_leaves_nothing_and_the_writer_writes_on_leaving(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: Any) -> None:
        monkeypatch.undo()
        assert list((store / ".writing").iterdir())
        raise KeyboardInterrupt

    def write() -> None:
        with StoreWriter(store, RECIPE) as writer:
            writer.add(draw_video("a"))
            monkeypatch.setattr(os, "fsync", interrupted)
            writer.commit()

    with pytest.raises(KeyboardInterrupt):
        write()
    assert not (store / ".writing").exists()
    assert FeatureStore(store).video_ids == ("a", "first")


def test_the_attributes_tell_every_file_with_its_true_size_and_crc32c(store: Path) -> None:
    write_part(store, [draw_video("a", GRID), draw_video("b", GRID)], [draw_failure("c")], "float16")
    for part in parts_of(store):
        attributes = json.loads((part / "zarr.json").read_bytes())["attributes"]
        found = {str(path.relative_to(part)): path.read_bytes() for path in part.rglob("*") if path.is_file()}
        del found["zarr.json"]
        told = {name: (size, int(checksum, 16)) for name, (size, checksum) in attributes["files"].items()}
        assert told == {name: (len(content), google_crc32c.value(content)) for name, content in found.items()}


def test_the_attributes_carry_the_crc32c_of_their_own_sorted_compact_json(store: Path) -> None:
    write_part(store, [draw_video("straße/\u65b0 1")], [draw_failure("c", 'a "b"\n\\')], "float16")
    for part in parts_of(store):
        attributes = json.loads((part / "zarr.json").read_bytes())["attributes"]
        checksum = attributes.pop("crc32c")
        spelled = json.dumps(attributes, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        assert checksum == f"{google_crc32c.value(spelled.encode()):08x}"


def test_a_part_of_failures_alone_has_no_arrays(store: Path) -> None:
    part_id = write_part(store, [], [draw_failure("broken")], "float16")
    assert [path.name for path in (store / "parts" / part_id).iterdir()] == ["zarr.json"]
    opened = FeatureStore(store)
    assert opened.failures == {"broken": draw_failure("broken")}
    assert opened.video_ids == ("first",)


def test_a_failures_message_with_undecodable_bytes_of_a_file_name_can_be_stored(store: Path) -> None:
    name = os.fsdecode(b"caf\xe9.mp4")
    write_part(store, [], [Failure("broken", "decode_error", f"{name} is no video.")], "float16")
    assert FeatureStore(store).failures["broken"].message == "caf\\udce9.mp4 is no video."


def test_ids_sort_by_time_of_writing(store: Path) -> None:
    ids = [write_part(store, [], [draw_failure("broken")], "float16") for _ in range(5)]
    assert [part.name for part in parts_of(store)][1:] == ids


def test_a_part_goes_to_another_process_without_its_features(store: Path) -> None:
    write_part(store, [draw_video("long", frames=5000)], [], "float16")
    opened = Part.open(parts_of(store)[-1])
    opened.features(KEY), opened.frame_index, opened.source(0)
    pickled = pickle.dumps(opened)
    assert len(pickled) < 1000
    assert pickle.loads(pickled).features(KEY).tobytes() == opened.features(KEY).tobytes()  # noqa: S301


def edit_attributes(part: Path, **changes: Any) -> None:
    document = json.loads((part / "zarr.json").read_bytes())
    document["attributes"] |= changes
    (part / "zarr.json").write_text(json.dumps(document))


@pytest.mark.parametrize(
    "changes", [{"video_ids": ["other"]}, {"row_offsets": [0, 1]}, {"crc32c": "00000000"}, {"new": float("nan")}]
)
def test_a_changed_index_is_refused_with_the_files_name(store: Path, changes: dict[str, Any]) -> None:
    (part,) = parts_of(store)
    edit_attributes(part, **changes)
    with pytest.raises(StoreError) as caught:
        FeatureStore(store)
    assert str(part / "zarr.json") in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"[]", b"{}", b'{"attributes": null}', b'{"attributes": {}}', b"\xff"])
def test_an_index_that_is_none_is_refused_with_the_files_name(store: Path, content: bytes) -> None:
    (part,) = parts_of(store)
    (part / "zarr.json").write_bytes(content)
    with pytest.raises(StoreError) as caught:
        FeatureStore(store)
    assert str(part / "zarr.json") in str(caught.value)


def test_every_flipped_byte_of_an_index_is_refused_or_changes_nothing(store: Path) -> None:
    (part,) = parts_of(store)
    content, told = (part / "zarr.json").read_bytes(), contents_of(FeatureStore(store))
    refused = 0
    for position in range(len(content)):
        (part / "zarr.json").write_bytes(content[:position] + bytes([content[position] ^ 1]) + content[position + 1 :])
        with suppress(StoreError):
            refused += 1
            assert contents_of(FeatureStore(store)) == told
            refused -= 1  # such as a letter of "node_type"
    assert refused > 0.9 * len(content)


def test_an_array_of_another_part_is_not_taken_for_this_ones(store: Path) -> None:
    write_part(store, [draw_video("long", frames=90)], [], "float16")
    first, second = parts_of(store)
    (second / "layer_09").rename(second / "away")
    (first / "layer_09").rename(second / "layer_09")
    with pytest.raises(StoreError, match="layer_09 is damaged"):
        FeatureStore(store).read("long", layer=9, timestep=20)
