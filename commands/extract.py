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
@compression_option
@device_option
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
    weights: Path | None,
    weights_config: Path | None,
    device: str,
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
      actiondiff extract --backbone svd-tiny --dry-run
      actiondiff extract --store s3://bucket/features.zarr --store-compression zstd
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
        note(ready.notice)
    if dry_run:
        _dry_run(clips, store_path, ready, keys)
    _extract(clips, store_path, ready, keys, on_error, retry_failed, compression)


def _dry_run(clips: Any, store_path: Place, backbone: Any, keys: Sequence[Any]) -> None:
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
    finish(result, text)


def _extract(
    clips: Any,
    store_path: Place,
    backbone: Any,
    keys: Sequence[Any],
    on_error: Any,
    retry: bool,
    compression: str | None,
) -> None:
    from actiondiff.extract import extract as run_extract
    from actiondiff.extract import spell_numbers

    report = run_extract(
        clips,
        store_path,
        backbone,
        keys,
        on_error=on_error,
        retry_failed=retry,
        compression=compression,
        progress=True,
    )
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
    finish(result, "\n".join(lines), SOME_FAILED if report.failed else DONE)
