"""`actiondiff extract` refuses what would do nothing, and its remedies are of use."""

import click
import pytest
import torch

from actiondiff.commands.answering import fail
from actiondiff.extract import load_backbone, load_recipe
from actiondiff.extract.recipe import Recipe


@pytest.mark.parametrize(
    ("backbone", "arguments"),
    [
        ("videomae", ["--batch", "4"]),
        ("vjepa2", ["--compile"]),
        ("videomae", ["--vae-precision", "bfloat16"]),
        ("vjepa2", ["--steps", "50"]),
        ("frame-diff", ["--batch", "4"]),
        ("frame-diff", ["--compile"]),
        ("frame-diff", ["--vae-precision", "bfloat16"]),
        ("frame-diff", ["--pool", "4x4"]),
        ("frame-diff", ["--precision", "float16"]),
    ],
)
def test_an_option_that_does_nothing_is_refused_before_anything_is_made(
    clips, tmp_path, actiondiff, backbone, arguments
):
    clips.write(tmp_path / "manifest.csv")
    result = actiondiff("extract", "--backbone", backbone, *arguments, cwd=tmp_path)
    assert result.exit_code == 2
    assert f"{arguments[0]} does nothing with {backbone}" in result.stderr
    assert not (tmp_path / "features.zarr").exists()


@pytest.mark.parametrize("dry_run", [[], ["--dry-run"]])
def test_a_number_of_workers_below_zero_is_refused_before_anything_is_made(clips, tmp_path, actiondiff, dry_run):
    clips.write(tmp_path / "manifest.csv")
    result = actiondiff("extract", "--backbone", "frame-diff", "--workers", "-1", *dry_run, cwd=tmp_path)
    assert (result.exit_code, "--workers is 0 or more; got -1." in result.stderr) == (2, True)
    assert not (tmp_path / "features.zarr").exists()


def test_stores_that_were_made_with_an_option_that_does_nothing_can_be_used():
    old = Recipe("frame-diff", "", (128, 192), condition="none", steps=2, pool="4x4", vae_precision="bfloat16")
    assert load_recipe(old.to_json()).recipe == old
    assert load_backbone("frame-diff", pool="mean", vae_precision="float32").recipe.pool == "mean"


def test_a_changed_source_is_not_said_to_be_a_matter_of_trying_again(clips, tmp_path, actiondiff):
    clips.write(tmp_path / "manifest.csv")
    assert actiondiff("extract", "--backbone", "frame-diff", cwd=tmp_path).exit_code == 0
    first, second = (tmp_path / "clips" / f"{index}.mp4" for index in (0, 1))
    second.write_bytes(first.read_bytes())
    result = actiondiff("extract", "--backbone", "frame-diff")
    assert (result.exit_code, "source_changed" in result.stderr, "--retry-failed" in result.stderr) == (1, True, False)
    (tmp_path / "clips" / "2.mp4").write_text("no video")
    result = actiondiff("extract", "--backbone", "frame-diff", "--store", "other.zarr")
    assert (result.exit_code, "--retry-failed" in result.stderr) == (1, True)


@pytest.mark.parametrize(
    ("command", "remedy"),
    [
        ("extract", "--size or --window"),
        ("fit", "--batch-size"),
        ("sweep", "--batch-size"),
        ("predict", "--device cpu"),
    ],
)
def test_the_remedy_for_a_lack_of_memory_is_an_option_of_the_command(command, remedy, capsys):
    context = click.Context(click.Group("actiondiff"))
    context.invoked_subcommand = command
    with pytest.raises(click.exceptions.Exit):
        fail(context, torch.OutOfMemoryError("CUDA out of memory"))
    assert remedy in capsys.readouterr().err
