"""``actiondiff report``: results on one page."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from actiondiff.commands.answering import finish, note
from actiondiff.commands.options import json_option


@click.command()
@click.argument("folders", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="RUNS...")
@click.option("--out", type=click.Path(path_type=Path), default="report.html", show_default=True, help="The page.")
@click.option(
    "--manifest",
    "manifest_path",
    type=click.Path(path_type=Path),
    help="Where the videos lie, for pictures of the hardest ones.  [default: manifest.csv if it is there]",
)
@click.option("--examples", type=click.IntRange(min=0), default=8, show_default=True, help="Hardest ones a test set.")
@click.option("--title", default="Action recognition report", show_default=True)
@click.option("--draws", type=click.IntRange(min=1), default=1000, show_default=True, help="Draws of the bootstrap.")
@click.option("--seed", type=int, default=0, show_default=True, help="Seed of the bootstrap.")
@json_option
def report(folders: tuple[Path, ...], out: Path, manifest_path: Path | None, **settings: Any) -> None:
    """Runs, transfers and sweeps on one page: a single file, without script or server, readable on a phone.

    \b
    Example:
      actiondiff report runs/linear runs/transformer transfer --out report.html
    """
    from actiondiff.heads import write_report

    default = Path("manifest.csv")
    manifest_path = manifest_path or (default if default.exists() else None)
    thumbnail = _film_strips(manifest_path) if manifest_path else None
    result = write_report(folders, out, thumbnail=thumbnail, **settings)
    finish(result.to_dict(), result.text())


def _film_strips(manifest_path: Path) -> Callable[[str], Any]:
    """Pictures of a manifest's videos by id; none of videos that it lacks or that cannot be read."""
    from actiondiff.extract import Clip, ClipError, film_strip
    from actiondiff.heads import Picture
    from actiondiff.manifests import Manifest

    manifest = Manifest.read(manifest_path, check_files=False)
    videos = {video.video_id: video for video in manifest}

    def picture(video_id: str) -> Picture | None:
        video = videos.get(video_id)
        if video is None:
            return None
        try:
            strip = film_strip(Clip(manifest.source(video), video.start_seconds, video.end_seconds))
        except ClipError as error:
            note(f"no picture of {video_id}: {error}")
            return None
        return Picture(strip.data, strip.mime, strip.width, strip.height)

    return picture
