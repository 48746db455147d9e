"""``actiondiff transfer``: train on each domain, test on every one."""

from pathlib import Path
from typing import Any

import click

from actiondiff.commands.answering import finish, free_folder, progress_bar
from actiondiff.commands.options import (
    HEADS,
    STORE_PLACE,
    Place,
    device_option,
    json_option,
    key_options,
    manifest_option,
    unseen_option,
)
from actiondiff.commands.recipe import recipe_options


@click.command()
@click.option("--by", required=True, help="Column of the manifest whose values are trained and tested on.")
@click.option("--head", "heads", type=click.Choice([*HEADS, "all"]), multiple=True, help="May be given several times.")
@key_options
@recipe_options()
@click.option("--seeds", type=int, default=1, show_default=True, help="How many seeds, from --seed upwards.")
@click.option("--folds", type=int, help="Inside each domain where the manifest has no split.  [default: 5]")
@click.option("--out", type=click.Path(path_type=Path), help="Folder for table and picture.  [default: transfer]")
@manifest_option
@click.option(
    "--store",
    "store_paths",
    multiple=True,
    type=STORE_PLACE,
    default=["features.zarr"],
    show_default=True,
    help="Several stores go through the same heads side by side.",
)
@unseen_option
@device_option
@json_option
def transfer(
    by: str,
    heads: tuple[str, ...],
    layer: int | None,
    timestep: int | None,
    preset: str | None,
    out: Path | None,
    manifest_path: Path,
    store_paths: tuple[Place, ...],
    **settings: Any,
) -> None:
    """Train on each value of a column, test on every one: the matrix beside its baselines, as CSV and pictures.

    The last of several stores is commonly the control without a network: extract --backbone frame-diff.

    \b
    Examples:
      actiondiff transfer --by domain --head all --store features.zarr --store frame-diff.zarr
      actiondiff transfer --by domain --head transformer --preset animal-kingdom --seeds 5
    """
    from actiondiff.manifests import Manifest
    from actiondiff.store import FeatureStore

    stores, clips = [FeatureStore(path) for path in store_paths], Manifest.read(manifest_path, check_files=False)

    from actiondiff.heads import configure  # after what is wrong at once: this takes seconds
    from actiondiff.heads import transfer as run_transfer

    chosen = HEADS if "all" in heads else heads or ("transformer",)
    choices = {name: settings.pop(name) for name in ("seeds", "folds", "allow_unseen", "device")}
    configs = [configure(head, preset, **settings) for head in chosen]
    sources = {store.name: store for store in stores}
    if len(sources) < len(stores):
        sources = {f"{store.name} {store.path}": store for store in stores}
    folder = out or free_folder(Path("transfer"))
    result = run_transfer(
        sources,
        clips,
        by,
        configs,
        layer=layer,
        timestep=timestep,
        out=folder,
        progress=progress_bar("fit"),
        **choices,
    )
    finish({"out": str(folder), **result.to_dict()}, f"{result.table()}\n-> {folder}")
