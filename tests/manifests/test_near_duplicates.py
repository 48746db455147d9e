import json
import struct
from pathlib import Path

import numpy as np
import pytest
from fakes import REAL_CLIPS
from PIL import Image

from actiondiff.manifests import Manifest, Video, draw_clips, manifest_stats, write_video
from actiondiff.manifests import near_duplicates as room
from actiondiff.manifests.duplicates import SameBytes
from actiondiff.manifests.glimpses import PARTS, Glimpse, glimpses
from actiondiff.manifests.likeness import LEAST_LIMIT, alike_pairs, prints_of
from actiondiff.manifests.scenes import draw_frames

SIZE_HW = (96, 128)


def moving(seed: int, motion: str = "slide", world: str = "day", frames: int = 48) -> np.ndarray:
    return draw_frames(motion, world, frames, SIZE_HW, np.random.default_rng(seed))


def pairs_of(folder: Path, **clips: np.ndarray) -> list[set[str]]:
    for name, frames in clips.items():
        write_video(folder / f"{name}.mp4", frames, 12)
    return found([Video(name, f"{name}.mp4") for name in clips], folder)


def found(rows: list[Video], folder: Path) -> list[set[str]]:
    near = manifest_stats(Manifest(tuple(rows), folder), near=True).near
    assert near is not None
    return [set(pair.clips) for pair in near.pairs]


def noisy(frames: np.ndarray) -> np.ndarray:
    return np.clip(frames + np.random.default_rng(9).normal(0, 12, frames.shape), 0, 255).astype(np.uint8)


def test_copies_encoded_scaled_and_cut_otherwise_are_found_and_the_same_motion_in_another_clip_is_not(tmp_path) -> None:
    frames = moving(0)
    copies = {
        "noisy": noisy(frames),
        "small": frames[:, ::2, ::2],
        "shorter": frames[1:-1],
        "darker": (frames * 0.6 + 10).astype(np.uint8),
    }
    others = {"other": moving(1), "motion": moving(0, "spin"), "world": moving(0, world="night")}
    pairs = pairs_of(tmp_path, original=frames, **copies, **others)
    named = {"original", *copies}
    assert all(pair <= named for pair in pairs)
    assert [{"original", name} in pairs for name in copies] == [True] * 4


def test_a_copy_in_another_container_and_codec_is_found(tmp_path) -> None:
    frames = moving(0)
    for name in ("a.mp4", "b.avi"):
        write_video(tmp_path / name, frames, 12)
    assert found([Video("a", "a.mp4"), Video("b", "b.avi")], tmp_path) == [{"a", "b"}]


def test_none_of_the_drawn_data_set_are_near_duplicates(tmp_path) -> None:
    manifest = draw_clips(tmp_path, clips_per_action=3)
    near = manifest_stats(manifest, near=True).near
    assert (near.compared, near.pairs) == (24, ())


@pytest.mark.parametrize("level", [0, 128])
def test_flat_pictures_match_nothing(tmp_path, level) -> None:
    flat = np.full((24, *SIZE_HW, 3), level, np.uint8)
    brighter = np.clip(flat + np.arange(24, dtype=np.uint8)[:, None, None, None] * 4, 0, 255)
    assert pairs_of(tmp_path, a=flat, b=flat[:20], c=brighter, d=brighter[:22]) == []
    rows = tuple(Video(name, f"{name}.mp4") for name in "abcd")
    near = manifest_stats(Manifest(rows, tmp_path), near=True).near
    assert (near.compared, near.flat) == (0, 4)
    assert near.text().startswith("pictures of 0 clips compared, 4 not,")


def test_pairs_in_different_splits_come_first_although_others_are_more_alike(tmp_path, actiondiff) -> None:
    frames = moving(0)
    for name, version in {"a": frames, "b": frames[:, ::2, ::2], "c": noisy(frames)}.items():
        write_video(tmp_path / f"{name}.mp4", version, 12)
    write_video(tmp_path / "d.mp4", frames[:-1], 12)
    splits = {"a": "train", "b": "train", "c": "test", "d": "train"}
    Manifest(tuple(Video(n, f"{n}.mp4", ("x",), s) for n, s in splits.items()), tmp_path).write(
        tmp_path / "manifest.csv"
    )
    result = actiondiff("manifest", "stats", "--near", "--json", cwd=tmp_path)
    assert result.exit_code == 0, result.stderr
    near = json.loads(result.stdout)["near_duplicates"]
    crossing = [len(set(pair["splits"])) > 1 for pair in near["pairs"]]
    assert crossing == [True] * 3 + [False] * 3
    assert (near["across"], near["within"]) == (3, 3)
    distances = [pair["distance"] for pair in near["pairs"]]
    assert min(distances[3:]) < max(distances[:3])
    assert "warning: 3 pairs of clips in different splits show almost the same pictures: " in result.stderr
    assert "a (train) ~ c (test)" in result.stderr
    assert "pictures of 4 clips compared: 6 pairs are almost the same" in result.stderr


def test_near_and_no_files_exclude_each_other(tmp_path, actiondiff) -> None:
    assert actiondiff("manifest", "stats", "--near", "--no-files", cwd=tmp_path).exit_code == 2


def test_parts_of_one_file_pair_only_where_they_overlap(tmp_path) -> None:
    still = np.repeat(moving(0)[:1], 48, axis=0)
    write_video(tmp_path / "a.mp4", still, 12)
    (tmp_path / "same.mp4").write_bytes((tmp_path / "a.mp4").read_bytes())

    def part(name: str, start: float | None, end: float | None, path: str = "a.mp4") -> Video:
        return Video(name, path, start_seconds=start, end_seconds=end)

    assert found([part("early", None, 2.0), part("late", 2.0, None)], tmp_path) == []
    assert found([part("early", None, 2.5), part("late", 2.0, 4.0)], tmp_path) == [{"early", "late"}]
    # Equal bytes are told as such.
    assert found([part("a", None, None), part("b", None, None, "same.mp4")], tmp_path) == []


def test_pictures_are_those_of_the_rows_part_also_where_they_are_sought(tmp_path) -> None:
    levels = np.linspace(20, 230, 900).astype(np.uint8)
    write_video(tmp_path / "long.mp4", np.broadcast_to(levels[:, None, None, None], (900, 32, 32, 3)), 10)
    starts = {"all": 0.0, "back": 5.0, "end": 70.0}
    rows = (
        Video("end", "long.mp4", start_seconds=70.0, end_seconds=80.0),
        Video("all", "long.mp4"),
        Video("back", "long.mp4", start_seconds=5.0, end_seconds=15.0),
    )
    looks = glimpses(Manifest(rows, tmp_path), pictures=True)
    assert [looks[row.video_id].seconds for row in rows] == [10.0, 90.0, 10.0]
    for name, start in starts.items():
        look = looks[name]
        wanted = [levels[round((start + part * look.seconds) * 10)] for part in PARTS]
        assert np.allclose(look.pictures_FHW.mean(axis=(1, 2)), wanted, atol=1.5), "levels rise by 2.3 a second"


def test_turned_video_is_compared_as_it_is_shown(tmp_path) -> None:
    frames = moving(0)
    write_video(tmp_path / "upright.mp4", np.rot90(frames, -1, (1, 2)), 12)
    write_video(tmp_path / "turned.mp4", frames, 12)
    data = bytearray((tmp_path / "turned.mp4").read_bytes())
    place = data.index(b"tkhd") + 4 + 40
    data[place : place + 36] = struct.pack(">9i", 0, 1 << 16, 0, -(1 << 16), 0, 0, 0, 0, 1 << 30)
    (tmp_path / "turned.mp4").write_bytes(data)
    rows = [Video(name, f"{name}.mp4") for name in ("upright", "turned")]
    assert found(rows, tmp_path) == [{"upright", "turned"}]


def test_a_folder_of_frames_is_compared_with_the_video_made_of_it(tmp_path) -> None:
    frames = moving(0)
    write_video(tmp_path / "a.mp4", frames, 12)
    (tmp_path / "b").mkdir()
    for index, frame in enumerate(frames):
        Image.fromarray(frame).save(tmp_path / "b" / f"{index}.png")
    rows = [Video("a", "a.mp4"), Video("b", "b")]
    assert found(rows, tmp_path) == [{"a", "b"}]
    assert manifest_stats(Manifest(tuple(rows), tmp_path)).untimed == 1


def test_unreadable_files_are_named_and_the_others_compared(tmp_path) -> None:
    frames = moving(0)
    write_video(tmp_path / "a.mp4", frames, 12)
    write_video(tmp_path / "b.mp4", noisy(frames), 12)
    (tmp_path / "text.mp4").write_text("no video")
    (tmp_path / "empty").mkdir()
    (tmp_path / "torn").mkdir()
    for index in range(4):
        (tmp_path / "torn" / f"{index}.png").write_bytes(b"\x89PNG")
    rows = tuple(
        Video(n, f) for n, f in (("a", "a.mp4"), ("b", "b.mp4"), ("t", "text.mp4"), ("e", "empty"), ("p", "torn"))
    )
    stats = manifest_stats(
        Manifest((*rows, Video("t2", "text.mp4"), Video("late", "b.mp4", start_seconds=9.0)), tmp_path), near=True
    )
    assert list(stats.unreadable) == ["t", "e", "p", "late"]
    assert any("4 files cannot be looked at" in warning and "text.mp4" in warning for warning in stats.warnings)
    assert [set(pair.clips) for pair in stats.near.pairs] == [{"a", "b"}]


def test_lengths_come_from_rows_or_else_from_files(tmp_path) -> None:
    write_video(tmp_path / "a.mp4", moving(0), 12)
    write_video(tmp_path / "a.avi", moving(0), 12)
    rows = (
        Video("mp4", "a.mp4"),
        Video("avi", "a.avi"),
        Video("rest", "a.mp4", start_seconds=3.0),
        Video("cut", "a.mp4", start_seconds=3.0, end_seconds=9.0),
        Video("gone", "gone.mp4"),
        Video("gone2", "gone.mp4", start_seconds=1.0, end_seconds=3.0),
    )
    stats = manifest_stats(Manifest(rows, tmp_path))
    assert (stats.seconds, stats.timed, stats.untimed) == (pytest.approx(4 + 4 + 1 + 1 + 2), 5, 1)
    assert manifest_stats(Manifest(rows, tmp_path), compare_files=False).seconds == 6.0 + 2.0


def test_pairs_are_those_of_a_plain_loop_over_all(monkeypatch) -> None:
    rng = np.random.default_rng(0)
    clips = [rng.uniform(0, 255, (3, 9, 9)).astype(np.float32) for _ in range(40)]
    clips += [clip + rng.normal(0, 15, clip.shape).astype(np.float32) for clip in clips[:20]]
    monkeypatch.setattr("actiondiff.manifests.likeness.ROWS_AT_ONCE", 7)
    got = {
        (int(a), int(b)): float(d) for found in alike_pairs(prints_of(clips)) for a, b, d in zip(*found, strict=True)
    }
    whole = [(clip - clip.mean()) / clip.std() for clip in clips]
    limits = [np.clip(0.8 * np.sqrt(clip.var(axis=0).mean()), LEAST_LIMIT, 0.35) for clip in whole]
    expected = {}
    for a in range(60):
        for b in range(a + 1, 60):
            distance = np.sqrt(np.mean((whole[a] - whole[b]) ** 2))
            if distance <= min(limits[a], limits[b]):
                expected[a, b] = distance
    assert len(expected) == 20
    assert got == pytest.approx(expected, abs=1e-3)


def test_more_pairs_than_are_named_are_counted(monkeypatch) -> None:
    monkeypatch.setattr(room, "MOST_PAIRS", 4)
    pictures = np.random.default_rng(0).uniform(0, 255, (3, 9, 9)).astype(np.float32)
    rows = tuple(Video(str(n), f"{n}.mp4", split="test" if n == 9 else "train") for n in range(10))
    looks = {row.video_id: Glimpse(1.0, pictures) for row in rows}
    near = room.near_duplicates(Manifest(rows, Path()), looks, SameBytes())
    assert (near.across, near.within, len(near.pairs)) == (9, 36, 4)
    assert all(pair.splits == ("train", "test") for pair in near.pairs)
    assert "36 pairs of clips of one split" in near.warnings[1]


@pytest.mark.skipif(not REAL_CLIPS.is_dir(), reason="the real clips are not here")
def test_real_clips_of_one_scene_are_apart_and_a_small_copy_is_found(tmp_path) -> None:
    import av

    paths = sorted(REAL_CLIPS.glob("ut_interaction_set1/*/*.avi"))
    with av.open(str(paths[0])) as container:
        frames = np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])
    height, width = (side // 4 * 2 for side in frames.shape[1:3])
    write_video(tmp_path / "copy.mp4", frames[:, : height * 2 : 2, : width * 2 : 2], 30)
    rows = [Video(f"{path.parent.name}/{path.stem}", str(path)) for path in paths]
    assert found([*rows, Video("copy", str(tmp_path / "copy.mp4"))], tmp_path) == [{rows[0].video_id, "copy"}]
