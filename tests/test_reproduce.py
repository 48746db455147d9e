"""``actiondiff reproduce``: every recipe runs from its first command to its last; a run goes on where it stopped."""

import json
import shutil
from pathlib import Path

import pytest

from actiondiff import InputError
from actiondiff.commands.reproducing import COMMANDS
from actiondiff.manifests import Manifest, paper_recipe, paper_recipe_names
from actiondiff.manifests.paper_recipes import DATASETS


@pytest.mark.parametrize("dataset", DATASETS)
def test_every_recipe_passes_its_smoke_run_and_recipes_of_a_data_set_share_features(dataset, actiondiff, tmp_path):
    recipes = [recipe for recipe in map(paper_recipe, paper_recipe_names()) if recipe.dataset == dataset]
    assert recipes
    extracted = 0
    for recipe in recipes:
        result = actiondiff("reproduce", recipe.name, "--smoke", "--out", tmp_path, "--json")
        assert result.exit_code == 0, result.stderr
        extracted += result.stderr.count("clips extracted at") - result.stderr.count(": 0 clips extracted at")
        found = json.loads(result.stdout)
        assert [row["name"] for row in found["rows"]] == [row.name for row in recipe.rows]
        for row, expected in zip(found["rows"], recipe.rows, strict=True):
            assert row["paper"] == expected.paper
            assert (row["here"] is not None and 0 <= row["here"] <= 100) == bool(expected.metric)
            assert row["reason"] == ""
            assert (row["interval"] is None) == (not expected.metric)
            assert [Path(path).name for path in row["pictures"]] == list(expected.pictures)
        assert Path(found["report"]).stat().st_size > 10_000
        assert "that it runs is all that it says" in result.stderr
        manifest = Manifest.read(tmp_path / "smoke" / recipe.name / "manifest.csv")
        assert {"train", "test"} <= {video.split for video in manifest}
    rows = sum(len(recipe.rows) for recipe in recipes)
    assert 0 < extracted < rows, "fewer extractions than rows"


CONTROL = ("reproduce", "table1-full", "--smoke", "--row", "Frame differences", "--json")


def test_a_second_run_does_nothing_again_and_what_was_removed_is_run_again(actiondiff, tmp_path):
    asked = (*CONTROL, "--out", tmp_path)
    first = actiondiff(*asked)
    assert first.exit_code == 0, first.stderr
    rows = json.loads(first.stdout)["rows"]
    assert [row["reason"] for row in rows] == ["not run"] * 4 + [""]
    run = tmp_path / "smoke" / "table1-full" / "frame-differences"
    made = (run / "metrics.json").stat().st_mtime_ns
    second = actiondiff(*asked)
    assert second.exit_code == 0, second.stderr
    assert "Frame differences: done before" in second.stderr
    assert "actiondiff extract" not in second.stderr
    assert json.loads(second.stdout)["rows"] == rows
    assert (run / "metrics.json").stat().st_mtime_ns == made

    shutil.rmtree(run)
    shutil.rmtree(tmp_path / "smoke" / "animal-kingdom")
    (tmp_path / "smoke" / "table1-full" / "manifest.csv").unlink()
    third = actiondiff(*asked)
    assert third.exit_code == 0, third.stderr
    assert json.loads(third.stdout)["rows"] == rows


def test_a_run_that_other_commands_have_left_is_never_shown_as_this_ones(actiondiff, tmp_path):
    asked = (*CONTROL, "--out", tmp_path)
    assert actiondiff(*asked).exit_code == 0
    other = actiondiff(*asked, "--fit-options", "--seed 1")
    assert other.exit_code == 2
    assert "Left by other commands" in other.stderr
    assert "frame-differences" in other.stderr
    record = tmp_path / "smoke" / "table1-full" / "frame-differences.commands.json"
    record.unlink()
    assert "Left by other commands" in actiondiff(*asked).stderr


def test_a_clip_that_is_missing_can_be_allowed_and_is_not_forgotten(actiondiff, tmp_path):
    asked = (*CONTROL, "--out", tmp_path)
    assert actiondiff(*asked).exit_code == 0
    next((tmp_path / "smoke" / "data" / "animal-kingdom" / "video").glob("*.mp4")).unlink()
    refused = actiondiff(*asked)
    assert refused.exit_code == 2
    assert "--allow-missing" in refused.stderr
    for made in ("table1-full", "animal-kingdom"):
        shutil.rmtree(tmp_path / "smoke" / made)
    allowed = actiondiff(*asked, "--manifest-options", "--allow-missing")
    assert allowed.exit_code == 1, "a clip is missing"
    assert json.loads(allowed.stdout)["rows"][-1]["here"] is not None
    again = actiondiff(*asked, "--manifest-options", "--allow-missing")
    assert again.exit_code == 1, "it is still missing"
    assert "done before" in again.stderr


def test_a_row_that_was_run_otherwise_before_is_shown_with_a_word_of_it(actiondiff, tmp_path):
    asked = ("reproduce", "s5-ablations", "--smoke", "--json", "--out", tmp_path, "--row")
    assert actiondiff(*asked, "Linear", "--fit-options", "--seed 1").exit_code == 0
    found = actiondiff(*asked, "MLP")
    assert found.exit_code == 0, found.stderr
    rows = {row["name"]: row for row in json.loads(found.stdout)["rows"]}
    assert rows["MLP"]["reason"] == ""
    assert rows["Linear"]["here"] is not None
    assert "other options" in rows["Linear"]["reason"]


def test_another_manifest_is_not_put_under_runs_that_are_there(actiondiff, tmp_path):
    asked = (*CONTROL, "--out", tmp_path)
    assert actiondiff(*asked).exit_code == 0
    manifest = tmp_path / "smoke" / "table1-full" / "manifest.csv"
    manifest.write_text("\n".join(manifest.read_text().splitlines()[:-1]) + "\n")
    before = manifest.read_bytes()
    refused = actiondiff(*asked)
    assert refused.exit_code == 2
    assert "give another manifest" in refused.stderr
    assert manifest.read_bytes() == before
    assert not list(manifest.parent.glob(".manifest-*"))


def test_a_row_that_fails_keeps_none_of_the_others_from_running(actiondiff, tmp_path, monkeypatch):
    rows = ("--row", "sdv2", "--row", "Frame differences")
    whole = COMMANDS["extract"].callback

    def broken(*arguments, **options):
        if options["backbone"] == "svd-tiny":
            raise InputError("no such weights")
        return whole(*arguments, **options)

    monkeypatch.setattr(COMMANDS["extract"], "callback", broken)
    result = actiondiff("reproduce", "table1-full", "--smoke", *rows, "--out", tmp_path, "--json")
    assert result.exit_code == 1, result.stderr
    found = {row["name"]: row for row in json.loads(result.stdout)["rows"]}
    assert found["SDv2"]["reason"] == "no such weights"
    assert found["SDv2"]["here"] is None
    assert found["Frame differences"]["here"] is not None
    assert Path(json.loads(result.stdout)["report"]).exists()


def test_commands_are_shown_with_what_is_added_and_nothing_is_run(actiondiff, tmp_path):
    (tmp_path / "AR_metadata.xlsx").touch()
    added = ("--weights", "svd-xt=/models/svd-xt", "--extract-options", "--workers 3", "--fit-options", "--seed 7")
    rows = ("--row", "actiondiff", "--row", "frame differences")
    asked = ("reproduce", "table1-full", "--data", tmp_path, *rows, "--show", *added, "--json")
    result = actiondiff(*asked, "--out", tmp_path / "out")
    assert result.exit_code == 0, result.stderr
    manifest, extract, fit, control, _ = json.loads(result.stdout)["commands"]
    assert manifest[:2] == ["manifest", "animal-kingdom"]
    assert extract[-4:] == ["--weights", "/models/svd-xt", "--workers", "3"]
    assert fit[-2:] == ["--seed", "7"]
    assert "--weights" not in control
    assert not (tmp_path / "out").exists()
    anywhere = actiondiff("reproduce", "table1-full", "--show", cwd=tmp_path)
    assert "--metadata DIR/AR_metadata.xlsx --videos DIR" in anywhere.stderr


def test_without_a_name_the_recipes_are_listed(actiondiff):
    result = actiondiff("reproduce", "--json")
    assert result.exit_code == 0
    assert [recipe["name"] for recipe in json.loads(result.stdout)["recipes"]] == list(paper_recipe_names())
    assert "table1-full" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["table1-full"], "--data, or try it on drawn clips with --smoke"),
        (["table1-full", "--smoke", "--data", "."], "--data, or try it on drawn clips with --smoke"),
        (["table9"], "There is no recipe 'table9'"),
        (["table1-full", "--data", "nowhere"], "There is no folder at"),
        (["table1-full", "--data", "."], "AR_metadata.xlsx is not there"),
        (["table1-full", "--smoke", "--row", "GPT"], "gpt is none of them"),
        (["table1-full", "--show", "--fit-options", "--epoch 3"], "No such option"),
        (["table1-full", "--show", "--fit-options", "--epochs three"], "It came of: actiondiff fit"),
        (["table1-full", "--show", "--fit-options", "--name 'x"], "cannot be parted into words"),
        (["table1-full", "--show", "--extract-options", "--dry-run"], "--dry-run cannot be added"),
        (["table1-full", "--show", "--weights", "/models/svd-xt"], "is not BACKBONE=WEIGHTS"),
    ],
)
def test_what_cannot_be_run_is_said_with_the_remedy(arguments, message, actiondiff, tmp_path):
    result = actiondiff("reproduce", *arguments, cwd=tmp_path)
    assert result.exit_code == 2
    assert message in result.stderr


def test_the_readme_tells_every_recipe_and_its_paper_number():
    readme = (Path(__file__).parents[1] / "README.md").read_text()
    for name in paper_recipe_names():
        assert f"reproduce {name}`" in readme, name
        for row in paper_recipe(name).rows:
            if row.name.startswith("ActionDiff") and row.paper is not None:
                assert f"{row.paper}" in readme, (name, row.name)
