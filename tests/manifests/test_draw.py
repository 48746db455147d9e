import subprocess
import sys
from collections import Counter
from pathlib import Path

import av
import numpy as np
import pytest

from actiondiff import InputError
from actiondiff.manifests import ACTIONS, DOMAINS, Manifest, draw, draw_clips
from actiondiff.manifests.scenes import draw_frames

SMALL = {"frames": 8, "size_hw": (32, 48)}


def decode(path: Path) -> np.ndarray:
    with av.open(str(path)) as container:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    return draw_clips(tmp_path_factory.mktemp("drawn"), clips_per_action=3, fps=12, frames=8, size_hw=(32, 48))


def test_every_action_of_every_domain_is_drawn_and_listed(drawn: Manifest) -> None:
    assert drawn.classes == tuple(sorted(ACTIONS))
    assert drawn.values("domain") == tuple(sorted(DOMAINS))
    assert len(drawn) == 3 * len(ACTIONS) * len(DOMAINS)
    assert Manifest.read(drawn.root / "manifest.csv") == drawn


def test_about_a_third_of_each_action_and_domain_is_for_testing(drawn: Manifest) -> None:
    counts = Counter((video.domain, video.labels, video.split) for video in drawn)
    assert {count for (_, _, split), count in counts.items() if split == "test"} == {1}
    assert {count for (_, _, split), count in counts.items() if split == "train"} == {2}


def test_every_clip_is_a_group_of_its_own(drawn: Manifest) -> None:
    assert len(drawn.values("group")) == len(drawn)


def test_clips_are_real_videos_of_the_size_asked_for(drawn: Manifest) -> None:
    path = drawn.source(drawn.videos[0])
    assert decode(path).shape == (8, 32, 48, 3)
    with av.open(str(path)) as container:
        assert container.streams.video[0].average_rate == 12
    assert {entry.suffix for entry in drawn.root.rglob("*") if entry.is_file()} == {".mp4", ".csv"}


def test_a_build_without_x264_still_encodes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(draw.ENCODERS, "libx264")
    manifest = draw_clips(tmp_path, actions=["slide"], clips_per_action=1, **SMALL)
    assert [decode(manifest.source(video)).shape for video in manifest] == [(8, 32, 48, 3)] * 2


def test_encoding_keeps_what_was_drawn(drawn: Manifest) -> None:
    day = drawn.where("domain=day").videos[0]
    assert 150 < decode(drawn.source(day)).mean() < 240


def test_the_domains_look_unlike(drawn: Manifest) -> None:
    light = {d: [decode(drawn.source(v)).mean() for v in drawn.where(f"domain={d}")] for d in DOMAINS}
    assert min(light["day"]) > max(light["night"]) + 80


def test_a_seed_decides_every_pixel_whatever_else_is_drawn(tmp_path: Path) -> None:
    few = draw_clips(tmp_path / "few", actions=["spin"], domains=["night"], clips_per_action=1, **SMALL)
    more = draw_clips(tmp_path / "more", actions=["pulse", "spin"], clips_per_action=2, **SMALL)
    other = draw_clips(tmp_path / "other", actions=["spin"], domains=["night"], clips_per_action=1, seed=1, **SMALL)
    first = few.source(few.videos[0]).read_bytes()
    assert more.source(more.subset(["night/spin/00"]).videos[0]).read_bytes() == first
    assert other.source(other.videos[0]).read_bytes() != first


@pytest.mark.parametrize("domain", DOMAINS)
@pytest.mark.parametrize("action", ACTIONS)
def test_the_shape_is_in_sight_in_every_frame(action: str, domain: str) -> None:
    # Its colour is the darkest by day and the brightest by night.
    for seed in range(5):
        frames = draw_frames(action, domain, 48, (48, 64), np.random.default_rng(seed)).astype(int)
        shape = frames.max(-1) < 110 if domain == "day" else frames[..., :2].min(-1) > 170
        assert shape.sum(axis=(1, 2)).min() >= 5


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"actions": ["fly"]}, "bounce, slide, spin, pulse"),
        ({"actions": []}, "action"),
        ({"domains": ["day", "day"]}, "named once"),
        ({"size_hw": (33, 48)}, "even"),
        ({"clips_per_action": 0}, "1 or more"),
    ],
)
def test_what_cannot_be_drawn_is_refused(tmp_path: Path, arguments: dict[str, object], words: str) -> None:
    with pytest.raises(InputError, match=words):
        draw_clips(tmp_path, **{"clips_per_action": 1, **SMALL, **arguments})
    assert list(tmp_path.iterdir()) == []


def test_importing_manifests_loads_neither_torch_nor_av() -> None:
    script = "import sys, actiondiff.manifests; print([m for m in ('torch', 'av', 'matplotlib') if m in sys.modules])"
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"
