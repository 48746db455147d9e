"""``actiondiff sweep``: a head for every layer and timestep."""

from pathlib import Path
from typing import Any

import click

from actiondiff.commands.answering import finish, progress_bar
from actiondiff.commands.options import (
    HEADS,
    Place,
    device_option,
    json_option,
    manifest_option,
    store_option,
    unseen_option,
)
from actiondiff.commands.recipe import recipe_options


@click.command()
@click.option("--layer", "asked_layers", help="Layers to read: 9, 3,6,9, 1-13 or all.  [default: all of the store]")
@click.option("--t", "asked_timesteps", help="Timesteps likewise.")
@click.option("--head", "heads", type=click.Choice([*HEADS, "all"]), multiple=True, help="[default: linear]")
@click.option("--train", help="WHERE of the training rows: column=value[,column=value...]")
@click.option("--val", help="WHERE of the rows that choose epoch, layer and timestep.")
@click.option("--test", "tests", multiple=True, help="WHERE of a test set; may be given several times.")
@recipe_options()
@click.option("--seeds", type=int, default=1, show_default=True, help="How many seeds, from --seed upwards.")
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    default="sweep",
    show_default=True,
    help="Folder of table and picture; a sweep that is there goes on where it stopped.",
)
@manifest_option
@store_option
@unseen_option
@device_option
@json_option
def sweep(
    asked_layers: str | None,
    asked_timesteps: str | None,
    heads: tuple[str, ...],
    preset: str | None,
    manifest_path: Path,
    store_path: Place,
    train: str | None,
    val: str | None,
    tests: tuple[str, ...],
    seeds: int,
    out: Path,
    allow_unseen: bool,
    device: str,
    **settings: Any,
) -> None:
    """Fit a head on every layer and timestep: one table, and heat maps of validation and each test set.

    Linear heads of all layers and timesteps are trained at once. Validation chooses layer and timestep; a test set
    chooses nothing. Run it again and it goes on where it stopped.

    \b
    Example:
      actiondiff sweep --layer 1-13 --t all --head linear --train domain=lawn --test domain=street --seeds 3
    """
    from actiondiff.manifests import Manifest
    from actiondiff.store import FeatureStore, spell_keys

    store, clips = FeatureStore(store_path), Manifest.read(manifest_path, check_files=False)

    from actiondiff.extract import parse_numbers  # after what is wrong at once: this takes seconds
    from actiondiff.heads import configure
    from actiondiff.heads import sweep as run_sweep

    there = store.keys()
    top = max((max(key.layer, key.timestep) for key in there), default=0)
    rule = f"The store has {spell_keys(there)}."
    chosen_keys = {
        name: None if text in (None, "all") else parse_numbers(text, range(max(100, top + 1)), rule)
        for name, text in (("layers", asked_layers), ("timesteps", asked_timesteps))
    }
    chosen = HEADS if "all" in heads else heads or ("linear",)
    result = run_sweep(
        store,
        clips,
        [configure(head, preset, **settings) for head in dict.fromkeys(chosen)],
        **chosen_keys,
        seeds=seeds,
        train=train,
        val=val,
        tests=tests,
        out=out,
        allow_unseen=allow_unseen,
        device=device,
        progress=progress_bar("head"),
    )
    finish(result.to_dict(), result.text())
