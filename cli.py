"""The command line: every command parses, makes one call into a room, and prints.

Heavy imports stay inside the commands, so that ``actiondiff --help`` answers at once. Results for people go to
stderr; ``--json`` puts one JSON object on stdout.
"""

import json
import signal
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click

from actiondiff import ActionDiffError, InputError, __version__

DONE, SOME_FAILED, BAD_INPUT, BUG, INTERRUPTED = 0, 1, 2, 70, 130
HEADS = ("linear", "mlp", "transformer")
EPILOG = (
    "Exit codes: 0 done, 1 done but something failed (it is listed), 2 bad input or usage, 70 a bug (with its "
    "traceback), 130 interrupted."
)


class Commands(click.Group):
    """The top group: turns errors that are meant for people into one message and an exit code."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command."""
        try:
            return super().invoke(ctx)
        except (ActionDiffError, OSError) as error:
            _fail(ctx, error)
        except KeyboardInterrupt:
            click.echo("Interrupted. What was whole is kept: run extract again and it goes on from there.", err=True)
            ctx.exit(INTERRUPTED)
        except (click.ClickException, click.exceptions.Exit, click.Abort):
            raise
        except Exception as error:
            traceback.print_exc()
            _fail(ctx, error, BUG)


def _fail(ctx: click.Context, error: Exception, code: int = BAD_INPUT) -> None:
    notes = "".join(f"\n  {note}" for note in getattr(error, "__notes__", ()))
    remedy = "\n  Out of memory: try a smaller --size or --window." if "OutOfMemory" in type(error).__name__ else ""
    click.echo(f"Error: {error}{notes}{remedy}", err=True)
    if ctx.find_root().obj == "json":
        click.echo(json.dumps({"error": {"type": type(error).__name__, "message": str(error)}}))
    ctx.exit(code)


def _remember_json(ctx: click.Context, _: click.Parameter, value: bool) -> bool:
    if value:
        ctx.find_root().obj = "json"
    return value


def _finish(result: dict[str, Any], text: str, code: int = DONE) -> None:
    """Print a result for people, and for programs if ``--json`` was given, and leave."""
    ctx = click.get_current_context()
    click.echo(text, err=True)
    if ctx.find_root().obj == "json":
        click.echo(json.dumps(result, ensure_ascii=False))
    ctx.exit(code)


def _note(text: str) -> None:
    click.echo(text, err=True)


def options(*decorators: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Several options as one decorator, in the order of their listing."""

    def decorate(command: Any) -> Any:
        for decorator in reversed(decorators):
            command = decorator(command)
        return command

    return decorate


json_option = click.option(
    "--json", "as_json", is_flag=True, callback=_remember_json, expose_value=False, help="One JSON object on stdout."
)
manifest_option = click.option(
    "--manifest", "manifest_path", type=click.Path(path_type=Path), default="manifest.csv", show_default=True
)
store_option = click.option(
    "--store", "store_path", type=click.Path(path_type=Path), default="features.zarr", show_default=True
)
device_option = click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda, cuda:1 ...")
weights_option = click.option(
    "--weights", type=click.Path(path_type=Path), help="Local diffusers folder or published .safetensors file."
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


@click.group(cls=Commands, epilog=EPILOG)
@click.version_option(__version__)
def cli() -> None:
    """Frozen video-diffusion features for action recognition in domains never trained on.

    \b
    A folder of clips (clips/LABEL/clip.mp4 or clips/DOMAIN/LABEL/clip.mp4) to a trained head:
      actiondiff manifest scan clips
      actiondiff extract --layer 9 --t 20
      actiondiff fit --head transformer
    """


@cli.group()
def manifest() -> None:
    """Make and check the table of clips.

    \b
    Example:
      actiondiff manifest scan clips && actiondiff manifest check
    """


@manifest.command("scan")
@click.argument("folder", type=click.Path(path_type=Path))
@out_option
@json_option
def manifest_scan(folder: Path, out: Path, force: bool) -> None:
    """Write a manifest of FOLDER/label/clip or FOLDER/domain/label/clip.

    A clip is a video file or a folder of png/jpg frames.

    \b
    Example:
      actiondiff manifest scan clips --out manifest.csv
    """
    from actiondiff.manifests import scan

    found = scan(folder)
    _write_manifest(found, out, force)
    domains = sorted({video.domain for video in found} - {""})
    where = f" in {len(domains)} domains ({', '.join(domains)})" if domains else ""
    result = {"manifest": str(out), "clips": len(found), "labels": list(found.classes), "domains": domains}
    _finish(result, f"{len(found)} clips of {len(found.classes)} labels{where} -> {out}")


def _write_manifest(found: Any, out: Path, force: bool) -> None:
    """Write a manifest, but never over one that says something else, unless asked to."""
    if out.exists() and not force and not _says_the_same(out, found):
        raise InputError(f"{out} is there and says something else. Choose another --out, or replace it with --force.")
    found.write(out)


def _says_the_same(path: Path, manifest: Any) -> bool:
    from actiondiff.manifests import Manifest, ManifestError

    try:
        return Manifest.read(path, check_files=False).rows() == manifest.rows()
    except ManifestError:
        return False


@manifest.command("check")
@click.argument("manifest_path", type=click.Path(path_type=Path), default="manifest.csv", metavar="[MANIFEST]")
@json_option
def manifest_check(manifest_path: Path) -> None:
    """Decode every clip to its end: frames, size, rate, faults. Exit 1 if a clip cannot be used.

    \b
    Example:
      actiondiff manifest check manifest.csv
    """
    from actiondiff.extract import check_clips
    from actiondiff.manifests import Manifest

    checks = list(check_clips(Manifest.read(manifest_path), progress=True))
    faulty = [check for check in checks if check.fault]
    lines = [f"  {check.video_id}: {check.fault or check.note}" for check in checks if check.fault or check.note]
    sizes = sorted({"{}x{}".format(*check.size_hw) for check in checks if not check.fault})
    frames = sum(check.frames for check in checks)
    summary = f"{len(checks) - len(faulty)} of {len(checks)} clips can be used: {frames} frames, {len(sizes)} sizes"
    result = {"clips": len(checks), "frames": frames, "sizes": sizes, "faulty": len(faulty)}
    rows = [{**vars(check), "note": check.note} for check in checks]
    _finish({**result, "checks": rows}, "\n".join([summary, *lines]), SOME_FAILED if faulty else DONE)


def _finish_built(built: Any, out: Path, force: bool) -> None:
    _write_manifest(built.manifest, out, force)
    _finish({"manifest": str(out), **built.to_dict()}, f"{built.text()}\n-> {out}")


@manifest.command("animal-kingdom")
@click.option("--metadata", type=click.Path(path_type=Path), required=True, help="AR_metadata.xlsx.")
@videos_option
@click.option("--unseen-species", is_flag=True, help="Six actions, trained on four classes of animals, tested on five.")
@out_option
@allow_missing_option
@json_option
def manifest_animal_kingdom(metadata: Path, videos: Path, out: Path, force: bool, **choices: bool) -> None:
    """Write a manifest of Animal Kingdom: all its action clips, or the unseen-species experiment.

    Domain is the class of animal, group the animal named first.

    \b
    Examples:
      actiondiff manifest animal-kingdom --metadata AR_metadata.xlsx --videos video
      actiondiff manifest animal-kingdom --metadata AR_metadata.xlsx --videos video --unseen-species
    """
    from actiondiff.manifests import animal_kingdom

    _finish_built(animal_kingdom(metadata, videos, **choices), out, force)


@manifest.command("charades-ego")
@click.option(
    "--train", multiple=True, required=True, type=click.Path(path_type=Path), help="CSV of the training part."
)
@click.option("--test", multiple=True, required=True, type=click.Path(path_type=Path), help="CSV of the test part.")
@click.option("--classes", required=True, type=click.Path(path_type=Path), help="Charades_v1_classes.txt.")
@videos_option
@click.option("--view", type=click.Choice(["1st", "3rd", "both"]), default="both", show_default=True)
@click.option("--clips", is_flag=True, help="One row for each annotated action, with start and end.")
@out_option
@allow_missing_option
@json_option
def manifest_charades_ego(out: Path, force: bool, **files_and_choices: Any) -> None:
    """Write a manifest of Charades-Ego: whole videos with several labels, or one row for each annotated action.

    Domain is the view, 1st or 3rd; group is the pair of videos. --train and --test may be given several times.

    \b
    Example:
      actiondiff manifest charades-ego --train CharadesEgo_v1_train.csv --test CharadesEgo_v1_test.csv \\
        --classes Charades_v1_classes.txt --videos CharadesEgo_v1_480
    """
    from actiondiff.manifests import charades_ego

    _finish_built(charades_ego(**files_and_choices), out, force)


@manifest.command("ucf-hmdb")
@click.option("--ucf", type=click.Path(path_type=Path), required=True, help="Folder of UCF101's videos.")
@click.option("--hmdb", type=click.Path(path_type=Path), required=True, help="Folder of HMDB51's videos.")
@click.option(
    "--lists", type=click.Path(path_type=Path), help="Folder of the published lists, or of the official ones."
)
@out_option
@allow_missing_option
@json_option
def manifest_ucf_hmdb(ucf: Path, hmdb: Path, out: Path, force: bool, **choices: Any) -> None:
    """Write a manifest of the 12 actions that UCF101 and HMDB51 share: domain is ucf or hmdb, split train or test.

    Without --lists the official files of split 1 are looked for below the two folders.

    \b
    Example:
      actiondiff manifest ucf-hmdb --ucf UCF-101 --hmdb hmdb51 --lists lists
    """
    from actiondiff.manifests import ucf_hmdb

    _finish_built(ucf_hmdb(ucf, hmdb, **choices), out, force)


@manifest.command("boris")
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="FILE...")
@click.option("--videos", type=click.Path(path_type=Path), help="Folder of the media.  [default: the first FILE's]")
@click.option("--point-seconds", type=float, default=2.0, show_default=True, help="Clip around a point event; 0: none.")
@out_option
@allow_missing_option
@json_option
def manifest_boris(files: tuple[Path, ...], out: Path, force: bool, **choices: Any) -> None:
    """Write a manifest of the bouts in BORIS projects and exported tables: label is the behaviour, group the subject.

    \b
    Example:
      actiondiff manifest boris birds.boris --videos recordings
    """
    from actiondiff.manifests import boris

    _finish_built(boris(files, **choices), out, force)


manifest_argument = click.argument(
    "manifest_path", type=click.Path(path_type=Path), default="manifest.csv", metavar="[MANIFEST]"
)


@manifest.command("split")
@manifest_argument
@click.option("--test", type=float, default=0.2, show_default=True, help="Part of the clips to test on.")
@click.option("--val", type=float, default=0.0, show_default=True, help="Part that chooses the epoch.")
@click.option("--group", default="group", show_default=True, help="Column whose values are never parted.")
@click.option("--where", help="Split only these rows: column=value[,column=value...]")
@click.option("--seed", type=int, default=0, show_default=True)
@click.option("--out", type=click.Path(path_type=Path), help="File to write.  [default: MANIFEST itself]")
@json_option
def manifest_split(manifest_path: Path, out: Path | None, **choices: Any) -> None:
    """Fill the column split: whole groups, every label in every part.

    \b
    Examples:
      actiondiff manifest split --test 0.2 --val 0.1
      actiondiff manifest split ak.csv --where split=train --test 0 --val 0.1 --out ak-val.csv
    """
    from actiondiff.manifests import Manifest, split_manifest

    parted = split_manifest(Manifest.read(manifest_path, check_files=False), **choices)
    parted.write(out or manifest_path)
    names = [video.split for video in parted]
    splits = {name: names.count(name) for name in dict.fromkeys(names)}
    text = ", ".join(f"{clips} {name or 'without split'}" for name, clips in splits.items())
    _finish({"manifest": str(out or manifest_path), "splits": splits}, f"{text} -> {out or manifest_path}")


@manifest.command("merge")
@click.argument("paths", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="MANIFEST...")
@click.option("--prefix", "prefixes", multiple=True, help="Name for a file's ids, in order.  [default: file names]")
@out_option
@json_option
def manifest_merge(paths: tuple[Path, ...], prefixes: tuple[str, ...], out: Path, force: bool) -> None:
    """Join manifests; ids and groups get a name in front, by default the file's.

    \b
    Example:
      actiondiff manifest merge lawn.csv street.csv --out all.csv
    """
    from actiondiff.manifests import Manifest, merge_manifests

    names = prefixes or tuple(path.stem for path in paths)
    if len(names) != len(paths) or len(set(names)) < len(names):
        raise click.UsageError(f"Every manifest needs a name of its own; give --prefix {len(paths)} times.")
    parts = {name: Manifest.read(path, check_files=False) for name, path in zip(names, paths, strict=True)}
    merged = merge_manifests(parts)
    _write_manifest(merged, out, force)
    _finish({"manifest": str(out), "clips": len(merged)}, f"{len(merged)} clips of {len(paths)} manifests -> {out}")


@manifest.command("stats")
@manifest_argument
@click.option("--picture", type=click.Path(path_type=Path), help="Draw the counts as well, such as stats.png.")
@click.option("--no-files", is_flag=True, help="Do not look for files that hold the same bytes.")
@json_option
def manifest_stats(manifest_path: Path, picture: Path | None, no_files: bool) -> None:
    """Clips, seconds and labels by domain and split, with warnings of what would spoil a result.

    Warns of labels missing from a split, groups in several splits, and files that hold the same bytes.

    \b
    Example:
      actiondiff manifest stats manifest.csv --picture stats.png
    """
    from actiondiff.manifests import Manifest
    from actiondiff.manifests import manifest_stats as count

    stats = count(Manifest.read(manifest_path, check_files=False), compare_files=not no_files)
    if picture is not None:
        stats.draw(picture)
    _finish(stats.to_dict(), stats.text())


@cli.command()
@click.option("--layer", "layers", help="9, 3,6,9, 1-13 or all.  [default: 9]")
@click.option("--t", "timesteps", help="Timesteps, likewise: 0 is the noisiest.  [default: 20]")
@manifest_option
@store_option
@click.option("--backbone", default="svd-xt", show_default=True, help="svd-xt, svd, sdv2, svd-tiny or frame-diff.")
@weights_option
@click.option(
    "--weights-config",
    type=click.Path(path_type=Path),
    help="Folder with the config.json of each part, for a file that is not SVD's.",
)
@click.option("--condition", default="middle", show_default=True, help="middle, per-frame or none.")
@click.option("--size", help="HEIGHTxWIDTH that frames are resized to.  [default: the backbone's]")
@click.option("--stride", type=int, help="Every how many-th frame is used.  [default: 4]")
@click.option("--fps", type=float, help="Frames used a second, by the clip's times, instead of --stride.")
@click.option("--window", type=int, help="Frames that the backbone sees together.  [default: the backbone's]")
@click.option("--pad", help="What fills the last window: black or repeat.  [default: black]")
@click.option("--noise", is_flag=True, help="Add noise of the timestep's level, seeded by video, window and timestep.")
@click.option("--pool", help="mean, or a grid of means such as 4x4.  [default: mean]")
@click.option("--steps", type=int, help="Denoising steps that timesteps count in.  [default: the backbone's]")
@click.option("--precision", help="float32, float16 or bfloat16.  [default: float16 on a GPU, float32 on a CPU]")
@click.option("--store-dtype", default="float16", show_default=True, help="float16 or float32.")
@device_option
@click.option("--dry-run", is_flag=True, help="Say what it will take, and write nothing.")
@click.option("--on-error", type=click.Choice(["skip", "fail"]), default="skip", show_default=True)
@click.option("--retry-failed", is_flag=True, help="Try clips again that failed in an earlier run.")
@json_option
def extract(
    layers: str | None,
    timesteps: str | None,
    manifest_path: Path,
    store_path: Path,
    backbone: str,
    weights: Path | None,
    weights_config: Path | None,
    device: str,
    dry_run: bool,
    on_error: Any,
    retry_failed: bool,
    **recipe: Any,
) -> None:
    """Write features of every clip into the store. Run it again and it resumes.

    \b
    Examples:
      actiondiff extract --layer 9 --t 20
      actiondiff extract --layer all --t 0,5,10,15,20,25,29 --weights /models/svd-xt
      actiondiff extract --backbone svd-tiny --dry-run
    """
    from actiondiff.extract import feature_keys, load_backbone, parse_size
    from actiondiff.manifests import Manifest

    keys = feature_keys(backbone, layers, timesteps, recipe["steps"])
    if recipe["fps"] is not None and recipe["stride"] is not None:
        raise InputError("Frames are sampled by --stride or by --fps, not by both.")
    size, noise = recipe.pop("size"), recipe.pop("noise")
    recipe |= {"size_hw": parse_size(size) if size else None, "noise": "seeded" if noise else None}
    settings = {name: value for name, value in recipe.items() if value is not None}
    clips = Manifest.read(manifest_path)
    ready = load_backbone(backbone, weights=weights, weights_config=weights_config, device=device, **settings)
    if ready.notice:
        _note(ready.notice)
    if dry_run:
        _dry_run(clips, store_path, ready, keys)
    _extract(clips, store_path, ready, keys, on_error, retry_failed)


def _dry_run(clips: Any, store_path: Path, backbone: Any, keys: Sequence[Any]) -> None:
    from dataclasses import asdict

    from actiondiff.extract import estimate_cost, make_plan

    plan = make_plan(clips, store_path, backbone.recipe, keys)
    cost = estimate_cost(plan, backbone)
    text = (
        f"{cost.clips} clips to extract ({len(plan.skipped)} are done, {len(plan.failed)} failed earlier): "
        f"{cost.frames} sampled frames in {cost.windows} windows, {len(keys)} keys, "
        f"{cost.store_bytes / 1e6:.1f} MB on disk, about {cost.seconds / 3600:.2f} hours on this device "
        "(one measured window, without decoding). Nothing was written."
    )
    if cost.unknown:
        text += f" {cost.unknown} clips do not tell their length and are not counted."
    result = {"dry_run": True, **asdict(cost), "skipped": len(plan.skipped), "failed": len(plan.failed)}
    _finish(result, text)


def _extract(clips: Any, store_path: Path, backbone: Any, keys: Sequence[Any], on_error: Any, retry: bool) -> None:
    from actiondiff.extract import extract as run_extract
    from actiondiff.extract import spell_numbers

    report = run_extract(clips, store_path, backbone, keys, on_error=on_error, retry_failed=retry, progress=True)
    layers, timesteps = (spell_numbers(getattr(key, name) for key in keys) for name in ("layer", "timestep"))
    lines = [
        f"{store_path}: {len(report.done)} clips extracted at layer {layers}, t {timesteps} "
        f"({report.frames} frames, {report.seconds:.1f} s, {report.frames_per_second:.1f} frames/s), "
        f"{len(report.skipped)} were there, {len(report.failed)} failed"
        + (f", {len(report.not_tried)} not tried" if report.not_tried else ""),
        *(f"  {failure.video_id} [{failure.code}]: {failure.message}" for failure in report.failed),
    ]
    if report.failed and not retry:
        lines.append("  (clips that failed are not tried again unless you say --retry-failed)")
    result = {"store": str(store_path), "recipe": backbone.recipe.to_json(), **report.to_json()}
    result |= {"notice": backbone.notice} if backbone.notice else {}
    _finish(result, "\n".join(lines), SOME_FAILED if report.failed else DONE)


@cli.command()
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
        out=out or _free_folder(Path("runs") / head),
        allow_unseen=allow_unseen,
        device=device,
    )
    _finish(result.to_dict(), result.text())


def _free_folder(folder: Path) -> Path:
    """The folder itself, or the first of folder-2, folder-3 ... that is not there."""
    number, free = 2, folder
    while free.exists():
        free, number = folder.with_name(f"{folder.name}-{number}"), number + 1
    return free


@cli.command()
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
    _finish(result.to_dict(), result.text())


@cli.command()
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
    _finish(result, "\n".join([*labelled, *failed, *notices]), SOME_FAILED if failed else DONE)


@cli.command()
@click.option("--by", required=True, help="Column of the manifest whose values are trained and tested on.")
@click.option("--head", "heads", type=click.Choice([*HEADS, "all"]), multiple=True, help="May be given several times.")
@key_options
@click.option("--epochs", type=int)
@click.option("--lr", type=float, help="Highest learning rate.")
@click.option("--seeds", type=int, default=1, show_default=True, help="How many seeds.")
@click.option("--folds", type=int, help="Inside each domain where the manifest has no split.  [default: 5]")
@click.option("--out", type=click.Path(path_type=Path), help="Folder for table and picture.  [default: transfer]")
@manifest_option
@click.option(
    "--store",
    "store_paths",
    multiple=True,
    type=click.Path(path_type=Path),
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
    epochs: int | None,
    lr: float | None,
    out: Path | None,
    manifest_path: Path,
    store_paths: tuple[Path, ...],
    **settings: Any,
) -> None:
    """Train on each value of a column, test on every one: the matrix, as CSV and picture.

    \b
    Example:
      actiondiff transfer --by domain --head all --store features.zarr --store frame-diff.zarr
    """
    from actiondiff.heads import configure
    from actiondiff.heads import transfer as run_transfer
    from actiondiff.manifests import Manifest
    from actiondiff.store import FeatureStore

    chosen = HEADS if "all" in heads else heads or ("transformer",)
    configs = [configure(head, epochs=epochs, lr=lr) for head in chosen]
    stores = [FeatureStore(path) for path in store_paths]
    sources = {store.name: store for store in stores}
    if len(sources) < len(stores):
        sources = {f"{store.name} {store.path}": store for store in stores}
    clips = Manifest.read(manifest_path, check_files=False)
    folder = out or _free_folder(Path("transfer"))
    result = run_transfer(
        sources, clips, by, configs, layer=layer, timestep=timestep, out=folder, progress=_bar("fit"), **settings
    )
    _finish({"out": str(folder), **result.to_dict()}, f"{result.table()}\n-> {folder}/transfer.csv, transfer.png")


def _bar(unit: str) -> Callable[..., None]:
    """A progress bar on stderr as a function of (done, total)."""
    from tqdm import tqdm

    bar = tqdm(unit=unit, file=sys.stderr, mininterval=0.5 if sys.stderr.isatty() else 30.0)

    def show(done: int, total: int, *_: Any) -> None:
        bar.total = total
        bar.update(done - bar.n)
        if done == total:
            bar.close()

    return show


@cli.group()
def store() -> None:
    """Look into a feature store, and look after it.

    \b
    Example:
      actiondiff store info features.zarr
    """


CHECK_EPILOG = "Exit codes: 0 nothing is damaged, 1 something is (it is listed), 2 bad input or usage, 130 interrupted."
store_argument = click.argument(
    "store_path", type=click.Path(path_type=Path), default="features.zarr", metavar="[STORE]"
)


@store.command("info")
@store_argument
@json_option
def store_info(store_path: Path) -> None:
    """What a store holds: videos, layers, timesteps, recipe, failures.

    \b
    Example:
      actiondiff store info features.zarr --json
    """
    from actiondiff.store import describe

    summary = describe(store_path)
    _finish(summary.to_dict(), summary.text())


@store.command("verify", epilog=CHECK_EPILOG)
@store_argument
@click.option("--drop-damaged", is_flag=True, help="Put damaged parts away: extract then makes their videos anew.")
@json_option
def store_verify(store_path: Path, drop_damaged: bool) -> None:
    """Read every byte of a store and compare it with its checksums. Exit 1 names what is damaged.

    Finds changed bytes and files that are cut, missing or strange, and says which videos they touch.

    \b
    Examples:
      actiondiff store verify features.zarr
      actiondiff store verify features.zarr --drop-damaged; actiondiff extract --layer 9 --t 20
    """
    from actiondiff.store import verify

    check = verify(store_path, drop_damaged=drop_damaged)
    _finish(check.to_dict(), check.text(), DONE if check.good else SOME_FAILED)


@store.command("compact", epilog=CHECK_EPILOG)
@store_argument
@json_option
def store_compact(store_path: Path) -> None:
    """Merge small parts into large ones, while others read and write. Exit 1 if damaged parts had to be left.

    \b
    Example:
      actiondiff store compact features.zarr
    """
    from actiondiff.store import compact

    result = compact(store_path)
    _finish(result.to_dict(), result.text(), SOME_FAILED if result.damaged else DONE)


@store.command("import", epilog=EPILOG)
@click.argument("source", type=click.Path(path_type=Path), metavar="DIR_OR_H5")
@store_option
@click.option("--t", "timestep", type=int, help="Timestep of the features, where the source does not tell it.")
@json_option
def store_import(source: Path, store_path: Path, timestep: int | None) -> None:
    """Take features in from layer_L/NAME_mean.npy folders or HDF5. Run it again and it resumes.

    \b
    Examples:
      actiondiff store import features_npy --store features.zarr --t 20
      actiondiff store import features.h5 --store copy.zarr
    """
    from actiondiff.store import import_features

    result = import_features(source, store_path, timestep)
    _finish(result.to_dict(), result.text(), SOME_FAILED if result.failed else DONE)


@store.command("export")
@store_option
@click.option("--out", type=click.Path(path_type=Path), required=True, help="The HDF5 file; must not be there yet.")
@click.option("--layer", "layers", type=int, multiple=True, help="May be given several times.  [default: all]")
@click.option("--t", "timesteps", type=int, multiple=True, help="Likewise.  [default: all]")
@click.option("--manifest", "manifest_path", type=click.Path(path_type=Path), help="Writes its labels, too.")
@json_option
def store_export(
    store_path: Path, out: Path, layers: tuple[int, ...], timesteps: tuple[int, ...], manifest_path: Path | None
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
    _finish(result.to_dict(), result.text())


@cli.command()
@click.option("--out", type=click.Path(path_type=Path), help="New folder for everything.  [default: actiondiff-demo]")
@json_option
def demo(out: Path | None) -> None:
    """The whole way on clips drawn on the spot: extract, fit three heads, transfer matrix and picture.

    \b
    Example:
      actiondiff demo --out /tmp/demo
    """
    from actiondiff.extract import extract as run_extract
    from actiondiff.extract import feature_keys, load_backbone
    from actiondiff.heads import configure
    from actiondiff.heads import transfer as run_transfer
    from actiondiff.manifests import draw_clips
    from actiondiff.store import FeatureStore

    folder = out or _free_folder(Path("actiondiff-demo"))
    _note(f"1/3 drawing clips of 4 actions in 2 domains -> {folder}/clips")
    clips = draw_clips(folder / "clips", clips_per_action=9)
    sources, rates = {}, {}
    for backbone in ("svd-tiny", "frame-diff"):
        _note(f"2/3 extracting features of {len(clips)} clips with {backbone} -> {folder}/{backbone}.zarr")
        ready = load_backbone(backbone, stride=2, size_hw=(96, 128), device="cpu")
        report = run_extract(
            clips, folder / f"{backbone}.zarr", ready, feature_keys(backbone, None, None), progress=True
        )
        store = FeatureStore(folder / f"{backbone}.zarr")
        sources[store.name], rates[backbone] = store, report.to_json()
        _note(f"    {report.frames} frames, {report.seconds:.1f} s, {report.frames_per_second:.1f} frames/s")
    _note("3/3 fitting the three heads in each domain, testing in both")
    configs = [configure(head) for head in HEADS]
    result = run_transfer(sources, clips, "domain", configs, out=folder / "transfer", progress=_bar("fit"))
    _finish(
        {"out": str(folder), "extract": rates, **result.to_dict()},
        f"{result.table()}\n-> {folder}/transfer/transfer.csv, transfer.png",
    )


@cli.command()
@json_option
def doctor() -> None:
    """What is installed, what is missing, and what to do about it. Exit 1 if something is.

    \b
    Example:
      actiondiff doctor
    """
    from actiondiff.extract import examine

    findings = examine()
    lines = [f"{'ok ' if finding.good else '-- '} {finding.subject}: {finding.text}" for finding in findings]
    good = all(finding.good or finding.optional for finding in findings)
    _finish({"good": good, "findings": [vars(f) for f in findings]}, "\n".join(lines), DONE if good else SOME_FAILED)


def _interrupt(*_: Any) -> None:
    raise KeyboardInterrupt


def main() -> None:
    """Entry point of the ``actiondiff`` command."""
    signal.signal(signal.SIGTERM, _interrupt)
    cli()
