"""``actiondiff store``: look into a store, and look after it."""

from pathlib import Path
from typing import Any

import click

from actiondiff.commands.answering import DONE, EPILOG, SOME_FAILED, finish
from actiondiff.commands.options import (
    STORE_PLACE,
    Place,
    compression_option,
    device_option,
    json_option,
    store_option,
    weights_option,
)

CHECK_EPILOG = "Exit codes: 0 nothing is damaged, 1 something is (it is listed), 2 bad input or usage, 130 interrupted."
store_argument = click.argument("store_path", type=STORE_PLACE, default="features.zarr", metavar="[STORE]")


@click.group()
def store() -> None:
    """Look into a feature store, and look after it.

    \b
    Example:
      actiondiff store info features.zarr
    """


@store.command("info")
@store_argument
@json_option
def store_info(store_path: Place) -> None:
    """What a store holds: videos, layers, timesteps, parts, bytes, compression, recipe, failures by code.

    \b
    Example:
      actiondiff store info features.zarr --json
      actiondiff store info s3://bucket/features.zarr
    """
    from actiondiff.store import describe

    summary = describe(store_path)
    finish(summary.to_dict(), summary.text())


@store.command("verify", epilog=CHECK_EPILOG)
@store_argument
@click.option("--drop-damaged", is_flag=True, help="Put damaged parts away: extract then makes their videos anew.")
@click.option("--sample", type=click.IntRange(min=1), help="Also extract so many random videos again, and compare.")
@click.option("--seed", type=int, default=0, show_default=True, help="Which videos --sample draws.")
@click.option(
    "--manifest", "manifest_path", type=click.Path(path_type=Path), default="manifest.csv", help="Clips of --sample."
)
@weights_option
@device_option
@json_option
def store_verify(
    store_path: Place,
    drop_damaged: bool,
    sample: int | None,
    seed: int,
    manifest_path: Path,
    **loading: Any,
) -> None:
    """Read every byte of a store and compare it with its checksums. Exit 1 names what is damaged.

    Finds changed bytes and files that are cut, missing or strange, and says which videos they touch. With --sample,
    random videos are extracted again by the store's own recipe, if nothing else is wrong; exit 1 as well where they
    differ.

    \b
    Examples:
      actiondiff store verify features.zarr
      actiondiff store verify features.zarr --drop-damaged; actiondiff extract --layer 9 --t 20
      actiondiff store verify features.zarr --sample 10 --manifest manifest.csv
    """
    from actiondiff.store import verify

    check = verify(store_path, drop_damaged=drop_damaged)
    if sample is not None and check.good:
        compared = _compare_sample(store_path, sample, seed, manifest_path, **loading)
        result = {**check.to_dict(), "good": compared.good, "sample": compared.to_dict()}
        finish(result, f"{check.text()}\n{compared.text()}", DONE if compared.good else SOME_FAILED)
    if sample is not None:
        skipped = "  --sample compared nothing: see to the above first, then run it again"
        finish({**check.to_dict(), "sample": None}, f"{check.text()}\n{skipped}", SOME_FAILED)
    finish(check.to_dict(), check.text(), DONE if check.good else SOME_FAILED)


def _compare_sample(store_path: Place, count: int, seed: int, manifest_path: Path, **loading: Any) -> Any:
    from actiondiff.extract import backbone_of, compare_sample
    from actiondiff.manifests import Manifest
    from actiondiff.store import FeatureStore

    features = FeatureStore(store_path)
    clips = Manifest.read(manifest_path, check_files=False)
    return compare_sample(features, clips, backbone_of(features, **loading), count, seed)


@store.command("compact", epilog=CHECK_EPILOG)
@store_argument
@json_option
def store_compact(store_path: Place) -> None:
    """Merge small parts into large ones, while others read and write. Exit 1 if damaged parts had to be left.

    \b
    Example:
      actiondiff store compact features.zarr
    """
    from actiondiff.store import compact

    result = compact(store_path)
    finish(result.to_dict(), result.text(), SOME_FAILED if result.damaged else DONE)


@store.command("import", epilog=EPILOG)
@click.argument("source", type=STORE_PLACE, metavar="DIR_OR_H5")
@store_option
@compression_option
@click.option("--t", "timestep", type=int, help="Timestep of the features, where the source does not tell it.")
@json_option
def store_import(source: Place, store_path: Place, timestep: int | None, compression: str | None) -> None:
    """Take features in from layer_L/NAME_mean.npy folders or HDF5. Run it again and it resumes.

    \b
    Examples:
      actiondiff store import features_npy --store features.zarr --t 20
      actiondiff store import features.h5 --store copy.zarr --store-compression zstd
    """
    from actiondiff.store import import_features

    result = import_features(source, store_path, timestep, compression)
    finish(result.to_dict(), result.text(), SOME_FAILED if result.failed else DONE)


@store.command("export")
@store_option
@click.option("--out", type=STORE_PLACE, required=True, help="The HDF5 file or its URL; must not be there yet.")
@click.option("--layer", "layers", type=int, multiple=True, help="May be given several times.  [default: all]")
@click.option("--t", "timesteps", type=int, multiple=True, help="Likewise.  [default: all]")
@click.option("--manifest", "manifest_path", type=click.Path(path_type=Path), help="Writes its labels, too.")
@json_option
def store_export(
    store_path: Place, out: Place, layers: tuple[int, ...], timesteps: tuple[int, ...], manifest_path: Path | None
) -> None:
    """Write a store as one HDF5 file: features, frame indices, times, sources, failures, and labels of a manifest.

    \b
    Examples:
      actiondiff store export --store features.zarr --out features.h5 --manifest manifest.csv
      actiondiff store export --out layer9.h5 --layer 9 --t 20
    """
    from actiondiff.manifests import Manifest
    from actiondiff.store import export_hdf5

    labels = None
    if manifest_path:
        labels = {video.video_id: video.labels for video in Manifest.read(manifest_path, check_files=False)}
    result = export_hdf5(store_path, out, layers=layers, timesteps=timesteps, labels=labels)
    finish(result.to_dict(), result.text())
