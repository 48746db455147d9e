"""``actiondiff fit``: one head."""

from pathlib import Path
from typing import Any

import click

from actiondiff.commands.answering import finish, free_folder
from actiondiff.commands.options import (
    HEADS,
    device_option,
    json_option,
    key_options,
    manifest_option,
    store_option,
    unseen_option,
)


@click.command()
@click.option("--head", type=click.Choice(HEADS), default="transformer", show_default=True)
@key_options
@click.option("--train", help="WHERE of the training rows: column=value[,column=value...]")
@click.option("--val", help="WHERE of the rows that choose the epoch.")
@click.option("--test", "tests", multiple=True, help="WHERE of a test set; may be given several times.")
@click.option("--preset", help="The paper's settings: animal-kingdom, charades-ego, charades-ego-3to1, ucf-hmdb.")
@click.option("--epochs", type=int)
@click.option("--lr", type=float, help="Highest learning rate.")
@click.option("--seed", type=int, default=0, show_default=True)
@click.option("--out", type=click.Path(path_type=Path), help="Folder of the run.  [default: runs/HEAD]")
@manifest_option
@store_option
@unseen_option
@device_option
@json_option
def fit(
    head: str,
    layer: int | None,
    timestep: int | None,
    train: str | None,
    val: str | None,
    tests: tuple[str, ...],
    preset: str | None,
    out: Path | None,
    manifest_path: Path,
    store_path: Path,
    allow_unseen: bool,
    device: str,
    **settings: Any,
) -> None:
    """Fit a head on stored features; the run's folder has its weights, settings, metrics and predictions.

    \b
    Examples:
      actiondiff fit --head transformer
      actiondiff fit --head linear --train domain=lawn --test domain=lawn,split=test --test domain=street
    """
    from actiondiff.heads import configure
    from actiondiff.heads import fit as run_fit
    from actiondiff.manifests import Manifest
    from actiondiff.store import FeatureStore

    result = run_fit(
        FeatureStore(store_path),
        Manifest.read(manifest_path, check_files=False),
        configure(head, preset, **settings),
        layer=layer,
        timestep=timestep,
        train=train,
        val=val,
        tests=tests,
        out=out or free_folder(Path("runs") / head),
        allow_unseen=allow_unseen,
        device=device,
    )
    finish(result.to_dict(), result.text())
