"""``actiondiff reproduce``: every recipe runs from its first command to its last; a run goes on where it stopped."""

import json
from pathlib import Path

import pytest

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
            assert [Path(path).name for path in row["pictures"]] == list(expected.pictures)
        assert Path(found["report"]).stat().st_size > 10_000
        assert "that it runs is all that it says" in result.stderr
        manifest = Manifest.read(tmp_path / recipe.name / "manifest.csv")
        assert {"train", "test"} <= {video.split for video in manifest}
    rows = sum(len(recipe.rows) for recipe in recipes)
    assert 0 < extracted < rows, "fewer extractions than rows"


def test_a_second_run_does_nothing_again_and_a_lost_step_is_done_again(actiondiff, tmp_path):
    asked = ("reproduce", "table1-full", "--smoke", "--row", "Frame differences", "--out", tmp_path, "--json")
    first = actiondiff(*asked)
    assert first.exit_code == 0, first.stderr
    record = tmp_path / "table1-full" / "steps.json"
    steps = json.loads(record.read_text())
    assert [step["command"].split()[1] for step in steps] == ["manifest", "extract", "fit"]
    second = actiondiff(*asked)
    assert second.exit_code == 0, second.stderr
    assert second.stderr.count("done before") == 3
    assert json.loads(second.stdout)["rows"] == json.loads(first.stdout)["rows"]
    assert json.loads(record.read_text()) == steps

    record.write_text(json.dumps(steps[:1]))  # as after a kill behind the manifest
    third = actiondiff(*asked)
    assert third.exit_code == 2, "the fit's folder is there, and is not written over"
    assert "Results go into a new folder" in third.stderr
    assert "It came of: actiondiff fit" in third.stderr
    assert "were there" in third.stderr, "extract went on in the store"


def test_commands_are_shown_with_what_is_added_and_nothing_is_run(actiondiff, tmp_path):
    (tmp_path / "AR_metadata.xlsx").touch()
    added = ("--extract-options", "--weights /models/svd-xt", "--fit-options", "--seed 7")
    asked = ("reproduce", "table1-full", "--data", tmp_path, "--row", "actiondiff", "--show", *added, "--json")
    result = actiondiff(*asked, "--out", tmp_path / "out")
    assert result.exit_code == 0, result.stderr
    manifest, extract, fit = json.loads(result.stdout)["commands"]
    assert manifest[:2] == ["manifest", "animal-kingdom"]
    assert extract[-2:] == ["--weights", "/models/svd-xt"]
    assert fit[-2:] == ["--seed", "7"]
    assert result.stderr.count("actiondiff extract") == 1
    assert not (tmp_path / "out").exists()


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
        (["table1-full", "--data", "nowhere"], "There is no folder at nowhere"),
        (["table1-full", "--data", "."], "AR_metadata.xlsx is not there"),
        (["table1-full", "--smoke", "--row", "GPT"], "gpt is none of them"),
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
