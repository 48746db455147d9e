"""``actiondiff fit``: one head."""

import sys
from pathlib import Path
from typing import Any

import click

from actiondiff.commands.answering import finish, free_folder, progress_bar
from actiondiff.commands.options import (
    HEADS,
    Place,
    device_option,
    json_option,
    key_options,
    manifest_option,
    store_option,
    unseen_option,
)
from actiondiff.commands.recipe import recipe_options


@click.command()
@click.option("--head", type=click.Choice(HEADS), default="transformer", show_default=True)
@key_options
@click.option("--train", help="WHERE of the training rows: column=value[,column=value...]")
@click.option("--val", help="WHERE of the rows that choose the epoch.")
@click.option("--test", "tests", multiple=True, help="WHERE of a test set; may be given several times.")
@recipe_options()
@click.option(
    "--out", type=click.Path(path_type=Path), help="Folder of the run.  [default: runs/HEAD, else HEAD-2 ...]"
)
@click.option("--resume", is_flag=True, help="Go on with a killed fit of the same settings, data and --out.")
@manifest_option
@store_option
@unseen_option
@device_option
@click.option("--devices", type=int, default=1, show_default=True, help="GPUs, or processes on a CPU; a count.")
@click.option(
    "--strategy", default="auto", show_default=True, help="Lightning's, for several devices: ddp_spawn, ddp ..."
)
@json_option
def fit(
    head: str,
    preset: str | None,
    out: Path | None,
    manifest_path: Path,
    store_path: Place,
    device: str,
    devices: int,
    strategy: str,
    **settings: Any,
) -> None:
    """Fit a head on stored features; the run's folder has its weights, settings, metrics and predictions.

    A preset stands over the defaults, and options over the preset; config.json says where each value came from. A
    fit of more than a minute can be killed and goes on with --resume.

    \b
    Examples:
      actiondiff fit --head transformer
      actiondiff fit --head linear --train domain=lawn --test domain=lawn,split=test --test domain=street
      actiondiff fit --head transformer --preset animal-kingdom --lr 1e-4 --resume
    """
    from actiondiff.manifests import Manifest
    from actiondiff.store import FeatureStore

    features, clips = FeatureStore(store_path), Manifest.read(manifest_path, check_files=False)

    from actiondiff.heads import Placement, configure  # after what is wrong at once: this takes seconds
    from actiondiff.heads import fit as run_fit

    choices = ("layer", "timestep", "train", "val", "tests", "allow_unseen", "resume")
    chosen = {name: settings.pop(name) for name in choices}
    result = run_fit(
        features,
        clips,
        configure(head, preset, **settings),
        out=out or free_folder(Path("runs") / head),
        placement=Placement(device, devices, strategy),
        progress=progress_bar("epoch") if sys.stderr.isatty() else None,
        **chosen,
    )
    finish(result.to_dict(), result.text())
