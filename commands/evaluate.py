"""``actiondiff evaluate`` and ``predict``: a fitted head on other rows, and on new clips."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from actiondiff.commands.answering import DONE, SOME_FAILED, finish, free_folder
from actiondiff.commands.options import (
    Place,
    device_option,
    json_option,
    manifest_option,
    store_option,
    unseen_option,
    weights_option,
)


@click.command()
@click.argument("run_path", type=click.Path(exists=True, file_okay=False, path_type=Path), metavar="RUN")
@click.option("--test", help="WHERE of the rows.  [default: split=test if there are any, else all]")
@click.option(
    "--compare",
    "others",
    multiple=True,
    type=click.Path(exists=True, file_okay=False, path_type=Path),
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
    store_path: Place,
    **settings: Any,
) -> None:
    """A fitted head on other rows or other data: metrics with 95 % intervals, by class, and against other runs.

    \b
    Examples:
      actiondiff evaluate runs/transformer --manifest street.csv --store street.zarr
      actiondiff evaluate runs/transformer --compare runs/linear --out evaluation
    """
    from actiondiff.manifests import Manifest
    from actiondiff.store import FeatureStore

    store, clips = FeatureStore(store_path), Manifest.read(manifest_path, check_files=False)

    from actiondiff.heads import Run  # after what is wrong at once: this takes seconds
    from actiondiff.heads import evaluate as run_evaluate

    run, against = Run.load(run_path), {str(path): Run.load(path) for path in others}
    result = run_evaluate(run, store, clips, test, against=against, **settings)
    out = settings["out"]
    written = f"\n-> {out}" if out else ""
    finish({**result.to_dict(), "out": str(out) if out else None}, f"{result.text()}{written}")


@click.command()
@click.argument("run_path", type=click.Path(exists=True, file_okay=False, path_type=Path), metavar="RUN")
@click.argument("clips", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="CLIP...")
@click.option("--out", type=click.Path(path_type=Path), help="CSV of scores; with --timeline a folder [timeline].")
@click.option("--timeline", is_flag=True, help="Scores over time and bouts, instead of one label a clip.")
@click.option("--format", "form", type=click.Choice(["csv", "boris"]), default="csv", help="boris: a project as well.")
@click.option("--window", type=int, help="Sampled frames scored together.  [default: the backbone's window]")
@click.option("--hop", type=int, help="Sampled frames from one window to the next.  [default: half a window]")
@click.option("--smooth", "smooth_seconds", type=float, default=1.0, show_default=True, help="Moving average, seconds.")
@click.option("--min-bout", "min_seconds", type=float, default=0.5, show_default=True, help="Shortest bout, seconds.")
@click.option("--threshold", type=float, help="Score from which on a label holds.  [default: 0.5 with several labels]")
@weights_option
@device_option
@json_option
def predict(
    run_path: Path,
    clips: tuple[Path, ...],
    out: Path | None,
    timeline: bool,
    form: str,
    weights: str | None,
    text_weights: str | None,
    offline: bool,
    device: str,
    **settings: Any,
) -> None:
    """Labels for new clips, or over the time of long ones; features are extracted by the run's own recipe.

    \b
    Examples:
      actiondiff predict runs/transformer new/clip1.mp4 new/clip2.mp4 --out scores.csv
      actiondiff predict runs/transformer day1.mp4 --timeline --min-bout 2 --format boris
    """
    import tempfile

    from actiondiff.manifests import Manifest
    from actiondiff.store import FeatureStore

    if form == "boris" and not timeline:
        raise click.UsageError("BORIS takes bouts: give --timeline with --format boris.")
    if timeline and (folders := [str(clip) for clip in clips if clip.is_dir()]):
        raise click.UsageError(f"A timeline needs a video with a clock; these are folders: {', '.join(folders)}.")
    listed = Manifest.of_clips(clips)

    from actiondiff.extract import extract as run_extract  # after what is wrong at once: this takes seconds
    from actiondiff.extract import load_recipe
    from actiondiff.heads import Run, TimelineSettings

    run, chosen = Run.load(run_path), TimelineSettings(**settings)
    backbone = load_recipe(
        run.config.recipe, weights=weights, text_weights=text_weights, offline=offline, device=device
    )
    with tempfile.TemporaryDirectory() as folder:
        store_path = Path(folder) / "features.zarr"
        report = run_extract(listed, store_path, backbone, [run.config.key], progress=True)
        store = FeatureStore(store_path) if report.done else None
        if timeline:
            answer, lines = _timelines(run, store, report.done, chosen, device, listed, form, out)
        else:
            answer, lines = _labels(run, store, report.done, device, out)
    notices = [backbone.notice] if backbone.notice else []
    failed = [f"  {failure.video_id} [{failure.code}]: {failure.message}" for failure in report.failed]
    result = {
        **answer,
        "failed": report.to_json()["failed"],
        **({"notice": backbone.notice} if backbone.notice else {}),
    }
    finish(result, "\n".join([*lines, *failed, *notices]), SOME_FAILED if failed else DONE)


def _labels(
    run: Any, store: Any, done: Sequence[str], device: str, out: Path | None
) -> tuple[dict[str, Any], list[str]]:
    """One label a clip: as JSON values, and as lines."""
    from actiondiff.heads import predict as run_predict
    from actiondiff.heads import told_of_length, write_predictions

    if store is None:
        return {"clips": [], "notes": []}, []
    predictions = run_predict(run, store, done, device=device)
    notes = told_of_length(run, (len(store.frame_index(video_id)) for video_id in done))
    if notes:
        notes += ("--timeline scores a long clip to its end.",)
    if out:
        write_predictions(out, {"new": predictions.with_best_labels()})
    return {"clips": predictions.to_dict(), "notes": list(notes)}, [predictions.text(), *notes]


def _timelines(
    run: Any, store: Any, done: Sequence[str], settings: Any, device: str, listed: Any, form: str, out: Path | None
) -> tuple[dict[str, Any], list[str]]:
    """Bouts over time, written into a folder: as JSON values, and as lines."""
    from actiondiff.heads import predict_timelines, timelines_text, write_timelines
    from actiondiff.manifests import CodedBout, write_boris

    if store is None:
        return {"timelines": [], "out": None}, []
    timelines = predict_timelines(run, store, done, settings, device=device)
    folder = write_timelines(timelines, out or free_folder(Path("timeline")))
    if form == "boris":
        paths = {video.video_id: listed.source(video) for video in listed}
        bouts = {
            paths[part.video_id]: [
                CodedBout(bout.start_seconds, bout.end_seconds, bout.label, f"score {bout.score:.3f}")
                for bout in part.bouts
            ]
            for part in timelines
        }
        write_boris(folder / "timeline.boris", bouts, run.config.classes)
    answer = {"timelines": [part.to_dict() for part in timelines], "out": str(folder)}
    return answer, [timelines_text(timelines), f"-> {folder}"]
