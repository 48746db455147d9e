"""``fit`` and ``sweep`` have an option for every setting, and its help tells unit and default."""

import json
import re
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest

from actiondiff.commands.recipe import PRESETS, SETTINGS
from actiondiff.heads.presets import PRESETS as HEADS_PRESETS
from actiondiff.heads.presets import FitConfig
from actiondiff.store import FeatureKey, Source, StoreWriter, VideoFeatures

NO_OPTION = {"head", "preset", "given", "settled"}
"""Set by options of their own, or not by the user."""


def test_every_setting_has_an_option_with_its_default() -> None:
    settings = {field.name: field.default for field in fields(FitConfig) if field.name not in NO_OPTION}
    assert SETTINGS.keys() == settings.keys()
    assert set(PRESETS) == set(HEADS_PRESETS)
    for name, default in settings.items():
        text = SETTINGS[name][2]
        [told] = re.findall(r"\[default: ([^]]+)\]", text)
        if isinstance(default, bool):
            assert told == ("yes" if default else "no")
        elif default is not None:
            assert type(default)(told) == default, name


@pytest.mark.parametrize("command", ["fit", "sweep"])
def test_help_lists_every_setting(command: str, actiondiff) -> None:
    shown = actiondiff(command, "--help").output
    for flag, _, _ in SETTINGS.values():
        assert flag.partition("/")[0] in shown


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """Features of two classes and their manifest."""
    rng = np.random.default_rng(0)
    rows = ["video_id,path,label"]
    with StoreWriter(tmp_path / "features.zarr", {"backbone": "drawn"}, dtype="float32") as writer:
        for index in range(20):
            array = (rng.normal(size=(5, 8)) + 3 * (index % 2)).astype(np.float32)
            source, pts = Source("0" * 64, 1, 1), np.arange(5) / 30
            writer.add(VideoFeatures(f"v{index}", source, np.arange(5), pts, {FeatureKey(9, 20): array}))
            rows.append(f"v{index},v{index}.mp4,{'ab'[index % 2]}")
    (tmp_path / "manifest.csv").write_text("\n".join(rows) + "\n")
    return tmp_path


def test_the_run_says_where_each_value_came_from(project: Path, actiondiff) -> None:
    arguments = ("fit", "--preset", "ucf-hmdb", "--epochs", "2", "--encoder-layers", "1", "--class-weights", "balanced")
    result = actiondiff(*arguments, "--patience", "5", cwd=project)
    assert result.exit_code == 0, result.stderr
    config = json.loads((project / "runs" / "transformer" / "config.json").read_text())
    origins = config["origins"]
    assert (origins["epochs"], origins["layers"], origins["class_weights"]) == ("option",) * 3
    assert (origins["lr"], origins["max_length"]) == ("preset ucf-hmdb",) * 2
    assert (origins["hidden"], origins["seed"], origins["precision"]) == ("default", "default", "device")
    assert config["fit"]["precision"] == "float32" or config["fit"]["precision"] == "bfloat16"


def test_a_killed_fit_goes_on_by_the_command_line(project: Path, actiondiff, monkeypatch) -> None:
    from actiondiff.heads import module, resuming

    arguments = ("fit", "--head", "linear", "--epochs", "6", "--out", "runs/x")
    assert actiondiff(*arguments[:-1], "runs/whole", cwd=project).exit_code == 0
    monkeypatch.setattr(resuming, "SAVE_EVERY_SECONDS", 0.0)
    real, ends = module.HeadModule.on_train_epoch_end, []

    def until_three(self):
        real(self)
        ends.append(self.epoch)
        if self.epoch == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(module.HeadModule, "on_train_epoch_end", until_three)
    result = actiondiff(*arguments)
    assert result.exit_code == 130
    assert "--resume" in result.stderr
    unfinished = project / "runs" / "x.unfinished.safetensors"
    assert unfinished.exists()
    assert not (project / "runs" / "x").exists()
    result = actiondiff(*arguments, "--lr", "0.5", "--resume")
    assert result.exit_code == 2
    assert "lr: 0.001 there, 0.5 here" in result.stderr
    monkeypatch.setattr(module.HeadModule, "on_train_epoch_end", lambda self: (real(self), ends.append(self.epoch)))
    result = actiondiff(*arguments, "--resume")
    assert result.exit_code == 0, result.stderr
    assert ends == [1, 2, 3, 4, 5, 6]
    weights = [(project / "runs" / name / "head.safetensors").read_bytes() for name in ("whole", "x")]
    assert weights[0] == weights[1]
    assert not unfinished.exists()
