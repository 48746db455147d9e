"""``actiondiff evaluate`` and ``predict``: a fitted head on other rows, and on new clips."""

from pathlib import Path
from typing import Any

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
@click.option(
    "--compare",
    "others",
    multiple=True,
    type=click.Path(path_type=Path),
    metavar="RUN",
    help="Test RUN against another on the same videos; may be given several times.",
)
@click.option("--draws", type=click.IntRange(min=1), default=1000, show_default=True, help="Draws of the bootstrap.")
@click.option("--seed", type=int, default=0, show_default=True, help="Seed of the bootstrap.")
@click.option("--out", type=click.Path(path_type=Path), help="New folder for tables, pictures and predictions.")
@manifest_option
@store_option
@unseen_option
@device_option
@json_option
def evaluate(
    run_path: Path,
    test: str | None,
    others: tuple[Path, ...],
    manifest_path: Path,
    store_path: Path,
    **settings: Any,
) -> None:
    """A fitted head on other rows or other data: metrics with 95 % intervals, by class, and against other runs.

    \b
    Examples:
      actiondiff evaluate runs/transformer --manifest street.csv --store street.zarr
      actiondiff evaluate runs/transformer --compare runs/linear --out evaluation
    """
    from actiondiff.heads import Run
    from actiondiff.heads import evaluate as run_evaluate
    from actiondiff.manifests import Manifest
    from actiondiff.store import FeatureStore

    run, against = Run.load(run_path), {str(path): Run.load(path) for path in others}
    clips = Manifest.read(manifest_path, check_files=False)
    result = run_evaluate(run, FeatureStore(store_path), clips, test, against=against, **settings)
    out = settings["out"]
    written = f"\n-> {out}" if out else ""
    finish({**result.to_dict(), "out": str(out) if out else None}, f"{result.text()}{written}")


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
