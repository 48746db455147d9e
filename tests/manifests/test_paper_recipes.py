"""The paper's recipes: every file is sound, its commands are real ones, and places are put in as they are."""

from pathlib import Path

import pytest

from actiondiff import InputError
from actiondiff.commands.reproducing import Added, recipe_commands
from actiondiff.manifests import ManifestError, draw_dataset, paper_recipe, paper_recipe_names
from actiondiff.manifests.paper_recipes import DATASETS, read_paper_recipe

SOUND = """
title = "A table"
shows = "table 9"
dataset = "animal-kingdom"
manifest = ["manifest animal-kingdom --metadata {metadata} --videos {data} --out {manifest}"]
[files]
metadata = "AR_metadata.xlsx"
[[row]]
name = "First row"
store = "svd"
commands = ["extract --manifest {manifest} --store {store}", "fit --store {store} --out {run}"]
metric = "accuracy"
paper = 50.5
[[row]]
name = "Second"
store = "svd"
commands = ["extract --manifest {manifest} --store {store}", "fit --head mlp --store {store} --out {run}"]
"""


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "table9.toml"
    path.write_text(text)
    return path


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    """Annotation files of all data sets, each in its folder; nobody looks at the clips here."""
    folder = tmp_path_factory.mktemp("data sets")
    files = {"animal-kingdom": ["AR_metadata.xlsx"], "ucf-hmdb": []}
    files["charades-ego"] = ["CharadesEgo_v1_train.csv", "CharadesEgo_v1_test.csv", "Charades_v1_classes.txt"]
    for dataset, names in files.items():
        (folder / dataset / "deeper").mkdir(parents=True)
        for name in names:
            (folder / dataset / "deeper" / name).touch()
    return folder


def test_there_is_a_recipe_for_each_table_and_figure():
    shown = {paper_recipe(name).shows for name in paper_recipe_names()}
    assert shown == {"table 1", "table 2", "table 3", "table 4", "figure 4", "figure 5", "supplement S5"}


@pytest.mark.parametrize("name", paper_recipe_names())
def test_every_command_of_a_recipe_is_one_that_the_command_line_takes(name, data, tmp_path):
    recipe = paper_recipe(name)
    making, rows = recipe_commands(recipe, data / recipe.dataset, tmp_path / "out", (), Added())
    assert {words[0] for words in making} == {"manifest"}
    assert list(rows) == list(recipe.rows)
    for commands in rows.values():
        *before, last = commands
        assert {words[0] for words in before} == {"extract"}
        assert last[0] in ("fit", "transfer", "sweep")
        assert not any("{" in word for words in commands for word in words)


@pytest.mark.parametrize(
    ("name", "row", "percent"),
    [
        ("table1-full", "ActionDiff", 80.79),
        ("table2-unseen-species", "ActionDiff", 51.49),
        ("table3-charades-ego", "ActionDiff, 1st to 1st", 36.5),
        ("table3-charades-ego", "ActionDiff, 3rd to 1st", 30.2),
        ("table4-ucf-hmdb", "ActionDiff, UCF to HMDB", 77.6),
        ("table4-ucf-hmdb", "ActionDiff, HMDB to UCF", 81.5),
        ("s5-ablations", "Linear", 73.0),
        ("s5-ablations", "MLP", 75.2),
        ("s5-ablations", "No condition", 77.4),
    ],
)
def test_the_papers_numbers_stand_beside_their_rows(name, row, percent):
    assert {each.name: each.paper for each in paper_recipe(name).rows}[row] == percent


def test_every_table_and_the_matrix_have_what_no_network_gives():
    for name in paper_recipe_names():
        if not name.startswith(("figure5", "s5")):
            assert any("frame-diff" in command for row in paper_recipe(name).rows for command in row.commands), name


def test_places_are_put_in_whole_even_with_blanks(tmp_path):
    recipe = read_paper_recipe(written(tmp_path, SOUND))
    data = tmp_path / "my data"
    data.mkdir()
    (data / "AR_metadata.xlsx").touch()
    places = recipe.places(data, Path("out"))
    assert recipe.manifest_commands(places)[0][3] == str(data / "AR_metadata.xlsx")
    extract, fit = recipe.row_commands(recipe.rows[0], places, Path("out"))
    assert fit == ("fit", "--store", "out/animal-kingdom/svd.zarr", "--out", "out/table9/first-row")
    assert extract == recipe.row_commands(recipe.rows[1], places, Path("out"))[0], "rows share what is the same"


def test_without_a_folder_the_places_can_still_be_read(tmp_path):
    recipe = paper_recipe("table3-charades-ego")
    assert recipe.places(None, Path("out"))["train"] == "DIR/CharadesEgo_v1_train.csv"


def test_of_names_that_a_file_may_have_the_first_that_is_there_is_taken(tmp_path):
    names = ("CharadesEgo_v1_train_only1st.csv", "CharadesEgo_v1_test_only1st.csv", "Charades_v1_classes.txt")
    for name in (*names, "CharadesEgo_v1_test.csv"):
        (tmp_path / name).touch()
    (tmp_path / "round").symlink_to(tmp_path)
    places = paper_recipe("table3-charades-ego").places(tmp_path, Path("out"))
    assert Path(places["train"]).name == "CharadesEgo_v1_train_only1st.csv"
    assert Path(places["test"]).name == "CharadesEgo_v1_test.csv"


def test_rows_are_chosen_by_name_and_a_name_that_is_none_is_refused(tmp_path):
    recipe = read_paper_recipe(written(tmp_path, SOUND))
    assert [row.name for row in recipe.chosen(["first row"])] == ["First row"]
    assert [row.name for row in recipe.chosen(["second", "First row"])] == ["First row", "Second"]
    with pytest.raises(InputError, match=r"has the rows first-row, second; third is none"):
        recipe.chosen(["third"])


def test_every_file_that_is_missing_or_there_twice_is_named_at_once(tmp_path):
    recipe = paper_recipe("table3-charades-ego")
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "CharadesEgo_v1_train.csv").touch()
    with pytest.raises(ManifestError) as caught:
        recipe.places(tmp_path, Path("out"))
    told = str(caught.value)
    assert f"is there 2 times ({tmp_path}/a/CharadesEgo_v1_train.csv, " in told
    assert "CharadesEgo_v1_test.csv | CharadesEgo_v1_test_only1st.csv is not there" in told
    assert "Charades_v1_classes.txt is not there" in told
    with pytest.raises(ManifestError, match="There is no folder"):
        recipe.places(tmp_path / "nowhere", Path("out"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("title", "titel"), "has no titel"),
        (('"animal-kingdom"', '"imagenet"'), "one of animal-kingdom"),
        (('name = "Second"', 'name = "first  ROW"'), "a name of their own"),
        (("{metadata}", "{metadat}"), "names metadat"),
        (('"fit --head mlp', '"rm --head mlp'), "begin with extract or fit"),
        (('metric = "accuracy"', 'metric = "f1"'), "metric of row"),
        (('store = "svd"\n', ""), "lacks something"),
        (("[files]", "[files"), "is no recipe"),
    ],
)
def test_a_recipe_that_breaks_a_rule_is_refused_with_the_rule(tmp_path, change, message):
    with pytest.raises(InputError, match=message):
        read_paper_recipe(written(tmp_path, SOUND.replace(*change)))


def test_an_unknown_recipe_is_refused_with_those_that_there_are():
    with pytest.raises(InputError, match=r"no recipe 'table99'; there are .*table1-full"):
        paper_recipe("table99")
    with pytest.raises(InputError, match="no recipe"):
        paper_recipe("../recipes/table1-full")


def test_only_known_data_sets_are_drawn(tmp_path):
    with pytest.raises(InputError, match=", ".join(DATASETS)):
        draw_dataset("kinetics", tmp_path)
