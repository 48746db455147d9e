"""``actiondiff extract``: features of every clip into the store."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from actiondiff import InputError
from actiondiff.commands.answering import DONE, SOME_FAILED, finish, note
from actiondiff.commands.options import (
    Place,
    compression_option,
    device_option,
    json_option,
    manifest_option,
    store_option,
    weights_option,
)


@click.command()
@click.option("--layer", "layers", help="9, 3,6,9, 1-13 or all.  [default: 9]")
@click.option("--t", "timesteps", help="Timesteps, likewise: 0 is the noisiest.  [default: 20]")
@manifest_option
@store_option
@click.option("--backbone", default="svd-xt", show_default=True, help="One of the table below.")
@weights_option
@click.option(
    "--weights-config",
    type=click.Path(path_type=Path),
    help="Folder whose config.json files hold, for a single file or random weights that are not the table's.",
)
@click.option("--random-weights", type=int, metavar="SEED", help="Draw the weights: the control; needs no download.")
@click.option("--condition", default="middle", show_default=True, help="middle, per-frame, none or text.")
@click.option("--size", help="HEIGHTxWIDTH that frames are resized to.  [default: the backbone's]")
@click.option("--resize", help="stretch (the paper), crop or margin-crop.  [default: the backbone's]")
@click.option("--stride", type=int, help="Every how many-th frame is used.  [default: 4]")
@click.option("--fps", type=float, help="Frames used a second, by the clip's times, instead of --stride.")
@click.option("--window", type=int, help="Frames that the backbone sees together.  [default: the backbone's]")
@click.option("--pad", help="What fills the last window: black or repeat.  [default: the backbone's]")
@click.option("--noise", is_flag=True, help="Add noise of the timestep's level, seeded by video, window and timestep.")
@click.option("--pool", help="mean, or a grid of means such as 4x4.  [default: mean]")
@click.option("--steps", type=int, help="Denoising steps that timesteps count in.  [default: the backbone's]")
@click.option("--precision", help="float32, float16 or bfloat16.  [default: float16 on a GPU, float32 on a CPU]")
@click.option("--store-dtype", default="float16", show_default=True, help="float16 or float32.")
@click.option("--vae-precision", help="float32 or bfloat16.  [default: float32]")
@compression_option
@device_option
@click.option("--batch", type=int, help="Windows, each at a timestep, at once.  [default: 1 on a CPU, what fits a GPU]")
@click.option("--workers", type=int, help="Threads that decode ahead.  [default: 1 on a CPU, up to 8 beside a GPU]")
@click.option("--compile", "compiled", is_flag=True, help="Run Stable Video Diffusion through torch.compile.")
@click.option("--dry-run", is_flag=True, help="Say what it will take, and write nothing.")
@click.option("--on-error", type=click.Choice(["skip", "fail"]), default="skip", show_default=True)
@click.option("--retry-failed", is_flag=True, help="Try clips again that failed in an earlier run.")
@json_option
def extract(
    layers: str | None,
    timesteps: str | None,
    manifest_path: Path,
    store_path: Place,
    backbone: str,
    weights: str | None,
    weights_config: Path | None,
    text_weights: str | None,
    offline: bool,
    device: str,
    batch: int | None,
    workers: int | None,
    compiled: bool,
    dry_run: bool,
    on_error: Any,
    retry_failed: bool,
    compression: str | None,
    **recipe: Any,
) -> None:
    """Write features of every clip into the store. Run it again and it resumes.

    \b
    Examples:
      actiondiff extract --layer 9 --t 20
      actiondiff extract --layer all --t 0,5,10,15,20,25,29 --weights /models/svd-xt
      actiondiff extract --backbone videomae --layer all --weights /models/videomae-large
      actiondiff extract --random-weights 0 --layer 9 --t 20 --store random.zarr
      actiondiff extract --backbone svd-tiny --dry-run
      actiondiff extract --store s3://bucket/features.zarr --store-compression zstd

    \b
    Backbones:
      svd-xt      Stable Video Diffusion, 25 frames (the paper's): layers 1-13, t 0-29; 14-25 are its decoder's
      svd         Stable Video Diffusion, 14 frames: layers 1-13, t 0-24
      sdv2        svd-xt with its temporal layers off: layers 1-13, t 0-29
      videomae    VideoMAE, ViT-B: layers 1-12, one timestep, 0
      vjepa2      V-JEPA 2, ViT-L: layers 1-24, one timestep, 0
      svd-tiny    a few MB of random weights, to try the pipeline: layers 1-13, t 0-29
      frame-diff  grey frame differences, no network, the control: layer 1, t 0
    """
    from actiondiff.extract import (
        backbone_spec,
        clip_of,
        decode_workers,
        feature_keys,
        load_backbone,
        parse_size,
        wants_decoder,
    )
    from actiondiff.manifests import Manifest

    # Where the depth is that of the weights, it is known when they are loaded.
    depth_later = backbone_spec(backbone).depth_follows_weights and (weights is not None or weights_config is not None)
    keys = [] if depth_later else feature_keys(backbone, layers, timesteps, recipe["steps"])
    if recipe["fps"] is not None and recipe["stride"] is not None:
        raise InputError("Frames are sampled by --stride or by --fps, not by both.")
    size, noise = recipe.pop("size"), recipe.pop("noise")
    recipe |= {"size_hw": parse_size(size) if size else None, "noise": "seeded" if noise else None}
    settings = {name: value for name, value in recipe.items() if value is not None}
    clips = Manifest.read(manifest_path, check_files=False)
    if not any(clip_of(clips, video).is_there() for video in clips):
        Manifest.read(
            manifest_path
        )  # tells what is wrong with the rows; single clips that are missing go to the ledger
    if settings["condition"] == "text":
        settings["labels"] = clips.classes
    ready = load_backbone(
        backbone,
        weights=weights,
        weights_config=weights_config,
        text_weights=text_weights,
        offline=offline,
        device=device,
        decoder=wants_decoder(backbone, store_path, keys),
        batch=batch,
        compiled=compiled,
        **settings,
    )
    keys = keys or feature_keys(backbone, layers, timesteps, depth=len(ready.layer_channels))
    if ready.notice:
        note(ready.notice)
    workers = decode_workers(device) if workers is None else workers
    if dry_run:
        _dry_run(clips, store_path, ready, keys, workers, retry_failed)
    choices = {"on_error": on_error, "retry_failed": retry_failed, "workers": workers, "compression": compression}
    _extract(clips, store_path, ready, keys, **choices)


def _dry_run(clips: Any, store_path: Place, backbone: Any, keys: Sequence[Any], workers: int, retry: bool) -> None:
    from dataclasses import asdict

    from actiondiff.extract import estimate_cost, make_plan

    plan = make_plan(clips, store_path, backbone.recipe, keys, retry_failed=retry)
    cost = estimate_cost(plan, backbone, workers=workers)
    text = (
        f"{cost.clips} clips to extract ({len(plan.skipped)} are done, {len(plan.failed)} failed earlier): "
        f"{cost.frames} sampled frames in {cost.windows} windows, {len(keys)} keys, "
        f"{cost.store_bytes / 1e6:.1f} MB on disk, about {_duration(cost.seconds)} on this device (measured on a few "
        f"windows: network {_duration(cost.network_seconds)}, decoding {_duration(cost.decoding_seconds)} in "
        f"{workers or 'no'} thread{'s' * (workers != 1)} beside it). Nothing was written."
    )
    if cost.unknown:
        text += f" {cost.unknown} clips do not tell their length and are not counted."
    result = {"dry_run": True, **asdict(cost), "skipped": len(plan.skipped), "failed": len(plan.failed)}
    finish(result, text)


def _duration(seconds: float) -> str:
    """For people: ``40 s``, ``12 min`` or ``5.3 h``."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def _extract(clips: Any, store_path: Place, backbone: Any, keys: Sequence[Any], **choices: Any) -> None:
    from actiondiff.extract import extract as run_extract
    from actiondiff.store import spell_keys

    report = run_extract(clips, store_path, backbone, keys, progress=True, **choices)
    lines = [
        f"{store_path}: {len(report.done)} clips extracted at {spell_keys(keys)} "
        f"({report.frames} frames, {report.seconds:.1f} s, {report.frames_per_second:.1f} frames/s), "
        f"{len(report.skipped)} were there, {len(report.failed)} failed"
        + (f", {len(report.not_tried)} not tried" if report.not_tried else ""),
        *(f"  {failure.video_id} [{failure.code}]: {failure.message}" for failure in report.failed),
        *(f"  {video_id}, extracted, but: {'; '.join(notes)}" for video_id, notes in report.notes.items()),
    ]
    # A changed source is no matter of trying again, and a missing clip is tried whenever it is there.
    if not choices["retry_failed"] and any(
        failure.code not in ("source_changed", "missing") for failure in report.failed
    ):
        lines.append("  (clips that failed are not tried again unless you say --retry-failed)")
    result = {"store": str(store_path), "recipe": backbone.recipe.to_json(), **report.to_json()}
    result |= {"notice": backbone.notice} if backbone.notice else {}
    finish(result, "\n".join(lines), SOME_FAILED if report.failed else DONE)
