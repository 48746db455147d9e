"""The command line's contract: help with an example, one JSON object on stdout, documented exit codes, clear errors."""

import csv
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import click
import numpy as np
import pytest
from PIL import Image

from actiondiff.cli import cli
from actiondiff.manifests import draw_clips
from actiondiff.store import FeatureStore

ROOT = Path(__file__).parents[1]


def commands(group: click.Group, prefix: tuple[str, ...] = ()) -> dict[tuple[str, ...], click.Command]:
    found: dict[tuple[str, ...], click.Command] = {}
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            found |= commands(command, (*prefix, name))
        else:
            found[(*prefix, name)] = command
    return found


@pytest.mark.parametrize("path", commands(cli), ids=" ".join)
def test_every_command_has_help_with_an_example_json_and_a_line_in_the_readme(path, actiondiff):
    result = actiondiff(*path, "--help")
    assert result.exit_code == 0
    assert re.search(rf"Examples?:\n\s+actiondiff .*{path[-1]}", result.output), result.output
    assert "--json" in result.output
    assert f"`{' '.join(path)}" in (ROOT / "README.md").read_text()


def test_help_answers_without_loading_heavy_libraries():
    code = (
        "import sys; sys.argv = ['actiondiff', '--help']\n"
        "from actiondiff.cli import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "heavy = {'torch', 'diffusers', 'transformers', 'numpy', 'zarr', 'av', 'matplotlib'} & set(sys.modules)\n"
        "sys.exit(f'loaded: {heavy}' if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ["fit"],
        ["sweep"],
        ["transfer", "--by", "domain"],
        ["evaluate", "runs/none"],
        ["predict", "runs/none", "nowhere.mp4"],
    ],
    ids=lambda arguments: arguments[0],
)
def test_a_missing_store_or_clip_is_told_before_anything_heavy_is_loaded(arguments: list[str], tmp_path: Path) -> None:
    script = (
        f"import sys; sys.argv = ['actiondiff', *{arguments!r}]\n"
        "from actiondiff.cli import main\n"
        "try:\n"
        "    main()\n"
        "finally:\n"
        "    print(sorted({'torch', 'pytorch_lightning', 'matplotlib'} & set(sys.modules)))\n"
    )
    told = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=tmp_path, check=False)
    assert (told.returncode, told.stdout.strip()) == (2, "[]"), told.stderr
    assert re.search("There is no store|does not exist", told.stderr), told.stderr


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> Path:
    """A project folder with drawn clips of two domains."""
    folder = tmp_path_factory.mktemp("project")
    draw_clips(folder / "clips", clips_per_action=6, frames=24, size_hw=(48, 64))
    shutil.copy(folder / "clips" / "manifest.csv", folder / "drawn.csv")
    return folder


def answer(result) -> dict:
    lines = result.stdout.strip().splitlines()
    assert len(lines) == 1, "one JSON object on stdout and nothing else"
    return json.loads(lines[0])


def test_the_main_job_from_folder_to_matrix(project, actiondiff):
    """One story, in the order of the README: each step reads what the one before has written."""
    result = actiondiff("manifest", "scan", "clips", "--json", cwd=project)
    assert (result.exit_code, answer(result)["clips"]) == (0, 48), result.stderr
    result = actiondiff("manifest", "check", "--json")
    assert (result.exit_code, answer(result)["faulty"]) == (0, 0)

    extract = ("extract", "--backbone", "frame-diff", "--stride", "2")
    result = actiondiff(*extract, "--dry-run", "--json")
    assert answer(result)["frames"] == 48 * 12
    assert not (project / "features.zarr").exists()
    result = actiondiff(*extract, "--json")
    assert (result.exit_code, answer(result)["done"]) == (0, 48), result.stderr
    result = actiondiff(*extract, "--json")
    assert (answer(result)["done"], answer(result)["skipped"]) == (0, 48)
    result = actiondiff("store", "info", "--json")
    assert (answer(result)["videos"], answer(result)["frames"]) == (48, 48 * 12)

    result = actiondiff("fit", "--head", "linear", "--epochs", "5", "--json")
    assert result.exit_code == 0, result.stderr
    assert set(answer(result)["metrics"]) == {"val"}, "no split column, no test part"
    assert "no test part" in result.stderr
    for name in ("config.json", "metrics.json", "predictions.csv", "head.safetensors", "logs"):
        assert (project / "runs" / "linear" / name).exists()

    tested = ("fit", "--head", "mlp", "--epochs", "5", "--train", "domain=day", "--test", "domain=night")
    result = actiondiff(*tested, "--json")
    assert set(answer(result)["metrics"]) == {"test"}, result.stderr
    result = actiondiff("evaluate", "runs/mlp", "--test", "domain=night", "--json")
    metrics = json.loads((project / "runs" / "mlp" / "metrics.json").read_text())
    assert answer(result)["metrics"]["accuracy"] == metrics["test"]["accuracy"]

    clip = next((project / "clips" / "night" / "spin").iterdir())
    result = actiondiff("predict", "runs/mlp", clip, "--out", "scores.csv", "--json")
    assert result.exit_code == 0, result.stderr
    [prediction] = answer(result)["clips"]
    [row] = csv.DictReader((project / "scores.csv").open())
    assert row["label"] == prediction["label"]
    rows = (project / "runs" / "mlp" / "predictions.csv").read_text().splitlines()
    stored = next(row for row in rows if row.startswith(f"night/spin/{clip.stem},")).split(",")
    scores = list(prediction["scores"].values())
    assert np.allclose([float(score) for score in stored[2:]], scores, atol=1e-4), "as when it was fitted"

    transfer = ("transfer", "--by", "domain", "--head", "linear", "--epochs", "3", "--folds", "2")
    result = actiondiff(*transfer, "--json")
    assert result.exit_code == 0, result.stderr
    rows = answer(result)["rows"]
    assert {(row["train"], row["test"]) for row in rows} == {(a, b) for a in ("day", "night") for b in ("day", "night")}
    assert (project / "transfer" / "transfer.png").stat().st_size > 10_000


def test_a_clip_that_fails_is_listed_and_left_out_of_fitting(tmp_path, actiondiff):
    draw_clips(tmp_path / "clips", clips_per_action=3, frames=12, size_hw=(48, 64))
    bad = tmp_path / "clips" / "day" / "spin" / "bad.mp4"
    bad.write_text("no video")
    (tmp_path / "clips" / "manifest.csv").unlink()
    assert actiondiff("manifest", "scan", "clips", cwd=tmp_path).exit_code == 0
    table = (tmp_path / "manifest.csv").read_text()
    (tmp_path / "manifest.csv").write_text(table + table.splitlines()[1].replace("/", "/gone-") + "\n")
    result = actiondiff("manifest", "check")
    assert result.exit_code == 1
    assert "day/spin/bad [decode_error]" in result.stderr
    assert re.search(r"gone-\S+ \[missing\]", result.stderr), "and the others are looked at"
    (tmp_path / "manifest.csv").write_text(table)
    result = actiondiff("extract", "--backbone", "frame-diff", "--json")
    assert result.exit_code == 1
    assert [failure["code"] for failure in answer(result)["failed"]] == ["decode_error"]
    assert actiondiff("extract", "--backbone", "frame-diff").exit_code == 1, "still failed, and still said"
    result = actiondiff("store", "info")
    assert "failed day/spin/bad [decode_error]" in result.stderr
    result = actiondiff("fit", "--head", "linear", "--epochs", "2", "--json")
    assert result.exit_code == 0
    assert any("day/spin/bad" in note for note in answer(result)["notes"])


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["extract"], "actiondiff manifest scan"),
        (["fit"], "no store at features.zarr"),
        (["store", "info"], "actiondiff extract"),
        (["manifest", "scan", "nowhere"], "nowhere"),
        (["extract", "--layer", "99"], "Layer 99 does not exist. svd-xt has layers 1 to 13"),
        (["extract", "--t", "30"], "Timestep 30 does not exist"),
        (["extract", "--backbone", "resnet"], "svd-tiny"),
        (["extract", "--size", "big"], "HEIGHTxWIDTH"),
        (["evaluate", "nowhere"], "nowhere"),
        (["predict", "nowhere", "clip.mp4"], "nowhere"),
    ],
)
def test_bad_input_gets_one_clear_sentence_and_exit_code_2(arguments, said, tmp_path, actiondiff):
    result = actiondiff(*arguments, cwd=tmp_path)
    assert result.exit_code == 2
    assert said in result.stderr
    assert "Traceback" not in result.stderr
    assert list(tmp_path.iterdir()) == [], "nothing is written"


def test_a_manifest_is_not_overwritten_in_silence(tmp_path, actiondiff):
    draw_clips(tmp_path / "clips", clips_per_action=1, frames=8, size_hw=(48, 64))
    (tmp_path / "clips" / "manifest.csv").unlink()
    assert actiondiff("manifest", "scan", "clips", cwd=tmp_path).exit_code == 0
    assert actiondiff("manifest", "scan", "clips").exit_code == 0, "the same again loses nothing"
    text = (tmp_path / "manifest.csv").read_text()
    header, *rows = text.splitlines()
    (tmp_path / "manifest.csv").write_text("\n".join([f"{header},group", *(f"{row},g" for row in rows)]) + "\n")
    result = actiondiff("manifest", "scan", "clips")
    assert (result.exit_code, "--force" in result.stderr) == (2, True)
    assert actiondiff("manifest", "scan", "clips", "--force").exit_code == 0
    assert (tmp_path / "manifest.csv").read_text() == text


def test_short_and_empty_clips(tmp_path, actiondiff):
    """A clip of a single frame has features; a folder without frames is told and left out."""
    for name, frames in (("short", 1), ("empty", 0)):
        (tmp_path / name).mkdir()
        for index in range(frames):
            Image.fromarray(np.zeros((48, 64, 3), np.uint8)).save(tmp_path / name / f"{index}.png")
    (tmp_path / "manifest.csv").write_text("video_id,path,label\nshort,short,a\nempty,empty,b\n")
    result = actiondiff("extract", "--backbone", "frame-diff", "--json", cwd=tmp_path)
    assert result.exit_code == 1
    assert [(failure["video_id"], failure["code"]) for failure in answer(result)["failed"]] == [("empty", "no_frames")]
    assert FeatureStore(tmp_path / "features.zarr").read("short", layer=1, timestep=0).shape == (1, 256)


def test_a_bug_has_its_own_exit_code(tmp_path, actiondiff, monkeypatch):
    def broken(_):
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr("actiondiff.store.describe", broken)
    result = actiondiff("store", "info", cwd=tmp_path)
    assert result.exit_code == 70


@pytest.mark.parametrize(
    "arguments", [("fit", "--head", "forest"), ("fit", "--layr", "9"), ("nothing",), ("reproduce", "t")]
)
def test_wrong_usage_is_told_to_programs_as_one_json_object(arguments, actiondiff):
    result = actiondiff(*arguments, "--json")
    assert result.exit_code == 2
    assert json.loads(result.stdout)["error"]["message"] in result.stderr
    assert actiondiff(*arguments).stdout == ""


def test_errors_are_json_too_when_json_is_asked_for(tmp_path, actiondiff):
    result = actiondiff("store", "info", "--json", cwd=tmp_path)
    assert answer(result)["error"]["type"] == "StoreNotFound"


def test_weights_that_are_not_there_name_the_ways_out(tmp_path, actiondiff, monkeypatch):
    import huggingface_hub

    def offline(*_, **__):
        raise ConnectionError("no network")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", offline)
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(tmp_path / "1.png")
    (tmp_path / "manifest.csv").write_text("video_id,path,label\na,.,x\n")
    result = actiondiff("extract", "--layer", "9", "--t", "20", cwd=tmp_path)
    assert result.exit_code == 2
    assert "--weights" in result.stderr
    assert "svd-tiny" in result.stderr
    assert not (tmp_path / "features.zarr").exists()


def test_a_store_of_another_recipe_is_refused(tmp_path, actiondiff):
    draw_clips(tmp_path, clips_per_action=1, frames=8, size_hw=(48, 64))
    assert actiondiff("extract", "--backbone", "frame-diff", cwd=tmp_path).exit_code == 0
    result = actiondiff("extract", "--backbone", "frame-diff", "--stride", "1")
    assert result.exit_code == 2
    assert "stride 4 (asked for: 1)" in result.stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_leaves_a_store_that_resumes_and_exit_code_130(tmp_path, actiondiff, number):
    draw_clips(tmp_path, clips_per_action=1, frames=75, size_hw=(48, 64))
    slow = ["extract", "--backbone", "svd-tiny", "--size", "64x64", "--stride", "1", "--device", "cpu"]
    # A suite that runs in the background of a shell inherits that Ctrl-C is ignored.
    script = "import signal; signal.signal(2, signal.default_int_handler); from actiondiff.cli import main; main()"
    process = subprocess.Popen(
        [sys.executable, "-c", script, *slow],
        cwd=tmp_path, stderr=subprocess.PIPE, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    deadline = time.monotonic() + 60
    while not (tmp_path / "features.zarr" / "zarr.json").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    time.sleep(0.3)
    process.send_signal(number)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130, said
    assert "Interrupted" in said
    assert len(FeatureStore(tmp_path / "features.zarr")) < 8
    result = actiondiff(*slow, "--json", cwd=tmp_path)
    assert result.exit_code == 0
    assert answer(result)["done"] + answer(result)["skipped"] == 8


def test_the_doctor_tells_what_is_there(actiondiff):
    result = actiondiff("doctor", "--json")
    assert result.exit_code == 0
    assert answer(result)["good"]
    assert "torch" in result.stderr
