"""Options and arguments that several commands share."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from actiondiff.commands.answering import remember_json

PAPERS_HEADS = ("linear", "mlp", "transformer")
HEADS = (*PAPERS_HEADS, "attentive")


class StorePlace(click.ParamType):
    """A store's folder as a path, or its URL as it is: a path would make one slash of two."""

    name = "folder or URL"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """A path where it is none of a URL."""
        return value if isinstance(value, str) and "://" in value else Path(value)


STORE_PLACE = StorePlace()
Place = Path | str
"""What it gives: everything that takes a store takes both."""


def options(*decorators: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Several options as one decorator, in the order of their listing."""

    def decorate(command: Any) -> Any:
        for decorator in reversed(decorators):
            command = decorator(command)
        return command

    return decorate


json_option = click.option(
    "--json", "as_json", is_flag=True, callback=remember_json, expose_value=False, help="One JSON object on stdout."
)
manifest_option = click.option(
    "--manifest", "manifest_path", type=click.Path(path_type=Path), default="manifest.csv", show_default=True
)
store_option = click.option(
    "--store", "store_path", type=STORE_PLACE, default="features.zarr", show_default=True, help="Folder or URL."
)
compression_option = click.option(
    "--store-compression",
    "compression",
    type=click.Choice(["none", "zstd"]),
    help="Of a new store; one that is there keeps its own.  [default: none]",
)
device_option = click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda, cuda:1 ...")
weights_option = options(
    click.option("--weights", help="Local folder, .safetensors file, or hub id.  [default: the backbone's own]"),
    click.option("--text-weights", help="OpenCLIP text tower of --condition text, likewise.  [default: ViT-H/14]"),
    click.option("--offline", is_flag=True, help="Take weights from disk or the local cache only."),
)
key_options = options(
    click.option("--layer", type=int, help="Layer to read; the store's only one, or 9."),
    click.option("--t", "timestep", type=int, help="Timestep to read; the store's only one, or 20."),
)
videos_option = click.option(
    "--videos", type=click.Path(path_type=Path), required=True, help="Folder with the videos, at any depth."
)
out_option = options(
    click.option("--out", type=click.Path(path_type=Path), default="manifest.csv", show_default=True),
    click.option("--force", is_flag=True, help="Replace a manifest that says something else."),
)
allow_missing_option = click.option("--allow-missing", is_flag=True, help="Keep rows whose video is not on disk.")
unseen_option = click.option("--allow-unseen", is_flag=True, help="Count videos of labels never trained on as wrong.")
manifest_argument = click.argument(
    "manifest_path", type=click.Path(path_type=Path), default="manifest.csv", metavar="[MANIFEST]"
)
