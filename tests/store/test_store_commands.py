"""The commands of the store's room: exit codes, one JSON object, and what they leave on disk."""

import json
from pathlib import Path

import pytest
from store_helpers import RECIPE, draw_video, parts_of

from actiondiff.store import FeatureStore, StoreWriter


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "features.zarr"
    with StoreWriter(path, RECIPE) as writer:
        for name in "abc":
            writer.add(draw_video(name))
            writer.commit()
    return path


def test_verify_leaves_with_0_then_1_then_drops_then_0(path: Path, actiondiff) -> None:
    result = actiondiff("store", "verify", "--json", cwd=path.parent)
    assert (result.exit_code, json.loads(result.stdout)["good"]) == (0, True)
    (parts_of(path)[1] / "layer_09/c/0/0/0").unlink()
    result = actiondiff("store", "verify", path)
    assert result.exit_code == 1
    assert "layer_09/c/0/0/0 [missing]" in result.stderr
    assert "1 videos of layer 9: b" in result.stderr
    result = actiondiff("store", "verify", "--drop-damaged", "--json")
    assert (result.exit_code, len(json.loads(result.stdout)["dropped"])) == (1, 1)
    assert actiondiff("store", "verify").exit_code == 0
    assert FeatureStore(path).video_ids == ("a", "c")


def test_verify_of_nothing_is_bad_input(tmp_path: Path, actiondiff) -> None:
    assert actiondiff("store", "verify", cwd=tmp_path).exit_code == 2


def test_compact_leaves_with_0_or_1_where_something_is_damaged(path: Path, actiondiff) -> None:
    (parts_of(path)[1] / "layer_09/c/0/0/0").unlink()
    result = actiondiff("store", "compact", "--json", cwd=path.parent)
    assert (result.exit_code, json.loads(result.stdout)["parts_after"]) == (1, 2)
    assert actiondiff("store", "verify", "--drop-damaged").exit_code == 1
    assert actiondiff("store", "compact").exit_code == 0
    assert FeatureStore(path).video_ids == ("a", "c")


def test_a_sample_that_is_not_compared_is_told(path: Path, actiondiff) -> None:
    (path / "notes.txt").write_text("notes")
    result = actiondiff("store", "verify", path, "--sample", 1, "--json")
    assert result.exit_code == 1
    assert json.loads(result.stdout)["sample"] is None
    assert "--sample compared nothing" in result.stderr
    assert "sample" not in json.loads(actiondiff("store", "verify", path, "--json").stdout)
