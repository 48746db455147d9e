"""``actiondiff evaluate`` and ``predict``: a fitted head on other rows, and on new clips."""

from pathlib import Path

import click

from actiondiff.commands.answering import DONE, SOME_FAILED, finish
from actiondiff.commands.options import (
    device_option,
    json_option,
    manifest_option,
    store_option,
    unseen_option,
    weights_option,
)


@click.command()
@click.argument("run_path", type=click.Path(path_type=Path), metavar="RUN")
@click.option("--test", help="WHERE of the rows.  [default: split=test if there are any, else all]")
@manifest_option
@store_option
@unseen_option
@device_option
@json_option
def evaluate(
    run_path: Path, test: str | None, manifest_path: Path, store_path: Path, allow_unseen: bool, device: str
) -> None:
    """Metrics of a fitted head on other rows or other data.

    \b
    Example:
      actiondiff evaluate runs/transformer --manifest street.csv --store street.zarr
    """
    from actiondiff.heads import Run
    from actiondiff.heads import evaluate as run_evaluate
    from actiondiff.manifests import Manifest
    from actiondiff.store import FeatureStore

    run = Run.load(run_path)
    clips = Manifest.read(manifest_path, check_files=False)
    result = run_evaluate(run, FeatureStore(store_path), clips, test, allow_unseen=allow_unseen, device=device)
    finish(result.to_dict(), result.text())


@click.command()
@click.argument("run_path", type=click.Path(path_type=Path), metavar="RUN")
@click.argument("clips", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="CLIP...")
@click.option("--out", type=click.Path(path_type=Path), help="CSV of every clip's scores.")
@weights_option
@device_option
@json_option
def predict(run_path: Path, clips: tuple[Path, ...], out: Path | None, weights: Path | None, device: str) -> None:
    """Labels for new clips; their features are extracted by the run's own recipe.

    \b
    Example:
      actiondiff predict runs/transformer new/clip1.mp4 new/clip2.mp4 --out scores.csv
    """
    import tempfile

    from actiondiff.extract import extract as run_extract
    from actiondiff.extract import load_recipe
    from actiondiff.heads import Run, write_predictions
    from actiondiff.heads import predict as run_predict
    from actiondiff.manifests import Manifest
    from actiondiff.store import FeatureStore

    run = Run.load(run_path)
    backbone = load_recipe(run.config.recipe, weights=weights, device=device)
    with tempfile.TemporaryDirectory() as folder:
        store_path = Path(folder) / "features.zarr"
        report = run_extract(Manifest.of_clips(clips), store_path, backbone, [run.config.key], progress=len(clips) > 1)
        predictions = run_predict(run, FeatureStore(store_path), report.done, device=device) if report.done else None
    if out and predictions:
        write_predictions(out, {"new": predictions.with_best_labels()})
    notices = [backbone.notice] if backbone.notice else []
    failed = [f"  {failure.video_id} [{failure.code}]: {failure.message}" for failure in report.failed]
    labelled = [predictions.text()] if predictions else []
    result = {"clips": predictions.to_dict() if predictions else [], "failed": report.to_json()["failed"]}
    result |= {"notice": backbone.notice} if backbone.notice else {}
    finish(result, "\n".join([*labelled, *failed, *notices]), SOME_FAILED if failed else DONE)
