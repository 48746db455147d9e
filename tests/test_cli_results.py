"""The commands that read results: ``evaluate --compare``, ``predict --timeline``, ``report``, in one project folder."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from actiondiff.manifests import Manifest, boris, draw_clips, write_video


def answer(result) -> dict:
    [line] = result.stdout.strip().splitlines()
    return json.loads(line)


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> Path:
    """Drawn clips, their features, two runs and a long clip of two actions."""
    from click.testing import CliRunner

    from actiondiff.cli import cli

    folder = tmp_path_factory.mktemp("project")
    draw_clips(folder, clips_per_action=6, frames=24, size_hw=(48, 64))
    manifest, store = folder / "manifest.csv", folder / "features.zarr"
    shared = ["--manifest", str(manifest), "--store", str(store)]
    fit = ["fit", *shared, "--head", "linear"]
    for arguments in (
        ["extract", *shared, "--backbone", "frame-diff", "--stride", "2"],
        [*fit, "--epochs", "15", "--out", str(folder / "runs" / "good")],
        [*fit, "--epochs", "1", "--lr", "1e-6", "--out", str(folder / "runs" / "poor")],
    ):
        result = CliRunner().invoke(cli, arguments)
        assert result.exit_code == 0, result.stderr
    write_long_clip(folder)
    return folder


def write_long_clip(folder: Path) -> None:
    """Clips of two actions, one after another."""
    import av

    frames = []
    for video in list(Manifest.read(folder / "manifest.csv"))[:4]:
        with av.open(str(folder / video.path)) as container:
            frames += [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    write_video(folder / "long.mp4", np.stack(frames), 12)


def test_evaluate_tests_a_run_against_another(project, actiondiff):
    result = actiondiff("evaluate", "runs/good", "--compare", "runs/poor", "--out", "evaluation", "--json", cwd=project)
    assert result.exit_code == 0, result.stderr
    values = answer(result)
    [comparison] = values["comparisons"]
    assert comparison["run"] == "runs/poor"
    assert {part["metric"] for part in comparison["differences"]} == {"accuracy", "map_macro", "map_micro"}
    assert set(values["metrics"]["intervals"]) == {"accuracy", "map_macro", "map_micro"}
    assert len(values["classes"]) == 4
    assert "against runs/poor on 16 videos" in result.stderr
    assert (project / "evaluation" / "confusion.png").exists()
    again = actiondiff("evaluate", "runs/good", "--out", "evaluation")
    assert again.exit_code == 2
    assert "is there already" in again.stderr


def test_predict_says_that_a_long_clip_was_cut(project, actiondiff):
    result = actiondiff("predict", "runs/good", "long.mp4", "--json", cwd=project)
    assert result.exit_code == 0, result.stderr
    assert "1 videos are longer than 12 frames; the first 12 of each were used." in answer(result)["notes"]
    assert "--timeline" in result.stderr


def test_predict_over_time_writes_bouts_that_boris_and_its_reader_open(project, actiondiff):
    arguments = ("predict", "runs/good", "long.mp4", "--timeline", "--format", "boris", "--min-bout", "0.4")
    result = actiondiff(*arguments, "--smooth", "0", "--json", cwd=project)
    assert result.exit_code == 0, result.stderr
    [timeline] = answer(result)["timelines"]
    assert timeline["seconds"] == pytest.approx(8, abs=0.1)
    folder = project / answer(result)["out"]
    rows = list(csv.DictReader((folder / "long.mp4.bouts.csv").open()))
    assert rows
    assert list(rows[0]) == ["start_seconds", "end_seconds", "label", "score"]
    with Image.open(folder / "long.mp4.png") as picture:
        assert picture.size[0] == 1500
    back = boris([folder / "timeline.boris"], project)
    found = [(v.labels[0], v.start_seconds or 0.0, v.end_seconds) for v in back.manifest]
    expected = [(row["label"], float(row["start_seconds"]), float(row["end_seconds"])) for row in rows]
    assert sorted(found) == sorted(expected)


def test_what_a_timeline_cannot_be_made_of(project, actiondiff):
    (project / "frames").mkdir(exist_ok=True)
    result = actiondiff("predict", "runs/good", "frames", "--timeline", cwd=project)
    assert (result.exit_code, "clock" in result.stderr) == (2, True)
    result = actiondiff("predict", "runs/good", "long.mp4", "--format", "boris")
    assert (result.exit_code, "--timeline" in result.stderr) == (2, True)


def test_the_report_shows_the_hardest_examples(project, actiondiff):
    result = actiondiff("report", "runs/good", "runs/poor", "--out", "page/report.html", "--json", cwd=project)
    assert result.exit_code == 0, result.stderr
    values = answer(result)
    assert (values["runs"], values["transfers"], values["sweeps"]) == (2, 0, 0)
    assert values["pictures"] > 0
    page = (project / "page" / "report.html").read_text()
    assert page.count("data:image/jpeg;base64,") == values["pictures"]
    result = actiondiff("report", "features.zarr")
    assert (result.exit_code, "is none" in result.stderr) == (2, True)
