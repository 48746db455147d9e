"""``actiondiff manifest``: make, join, split, count and check tables of clips."""

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import click

from actiondiff import InputError
from actiondiff.commands.answering import DONE, SOME_FAILED, finish, progress_bar
from actiondiff.commands.options import (
    allow_missing_option,
    json_option,
    manifest_argument,
    out_option,
    videos_option,
)

KINDS_SHOWN, NOTES_SHOWN = 30, 50


@click.group()
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
    finish(result, f"{len(found)} clips of {len(found.classes)} labels{where} -> {out}")


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
    """Decode every clip to its end: codec, size, rate, rotation, frames beside those promised, faults.

    Exit 1 if a clip cannot be used. Clips are decoded on all cores; --json has a full record of each.

    \b
    Examples:
      actiondiff manifest check manifest.csv
      actiondiff manifest check --json > checks.json
    """
    from actiondiff.extract import check_clips
    from actiondiff.manifests import Manifest

    checks = list(check_clips(Manifest.read(manifest_path, check_files=False), progress=True))
    faulty = [check for check in checks if check.fault]
    sizes = sorted({"{}x{}".format(*check.size_hw) for check in checks if not check.fault})
    frames = sum(check.frames for check in checks)
    summary = f"{len(checks) - len(faulty)} of {len(checks)} clips can be used: {frames} frames, {len(sizes)} sizes"
    result = {"clips": len(checks), "frames": frames, "sizes": sizes, "faulty": len(faulty)}
    text = "\n".join([summary, *_check_table(checks), *_check_remarks(checks)])
    finish({**result, "checks": [check.to_json() for check in checks]}, text, SOME_FAILED if faulty else DONE)


def _check_table(checks: Sequence[Any]) -> Iterator[str]:
    """Clips that are alike in one line; a line for each of a few clips would say no more, of many too much."""
    kinds: Counter[tuple[str, ...]] = Counter(
        (check.codec, check.pixel_format, "{}x{}".format(*check.size_hw), _rate(check), check.turn or "-")
        for check in checks
        if not check.fault
    )
    rows = [("clips", "codec", "pixels", "height x width", "frames/s", "turned"), *_rows(kinds)]
    widths = [max(len(row[column]) for row in rows) for column in range(6)]
    for row in rows if kinds else []:
        yield "  " + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()


def _rows(kinds: Counter[tuple[str, ...]]) -> Iterator[tuple[str, ...]]:
    shown = kinds.most_common(KINDS_SHOWN)
    yield from ((str(count), *kind) for kind, count in shown)
    if len(kinds) > len(shown):
        yield (str(kinds.total() - sum(count for _, count in shown)), "of other kinds: see --json", "", "", "", "")


def _rate(check: Any) -> str:
    if not check.frames_per_second:
        return "-"
    return "variable" if check.variable_rate else f"{check.frames_per_second:.4g}"


def _check_remarks(checks: Sequence[Any]) -> Iterator[str]:
    """Every fault, and the first of the notes."""
    yield from (f"  {check.video_id} [{check.code}]: {check.fault}" for check in checks if check.fault)
    noted = [check for check in checks if check.note and not check.fault]
    for check in noted[:NOTES_SHOWN]:
        yield f"  {check.video_id}: {check.frames} of {check.promised or '?'} frames; {check.note}"
    if len(noted) > NOTES_SHOWN:
        yield f"  and {len(noted) - NOTES_SHOWN} more clips with notes: see --json"


def _finish_built(built: Any, out: Path, force: bool) -> None:
    _write_manifest(built.manifest, out, force)
    finish({"manifest": str(out), **built.to_dict()}, f"{built.text()}\n-> {out}")


@manifest.command("animal-kingdom")
@click.option("--metadata", type=click.Path(path_type=Path), required=True, help="AR_metadata.xlsx.")
@videos_option
@click.option("--unseen-species", is_flag=True, help="Six actions, trained on four classes of animals, tested on five.")
@out_option
@allow_missing_option
@json_option
def manifest_animal_kingdom(metadata: Path, videos: Path, out: Path, force: bool, **choices: bool) -> None:
    """Write a manifest of Animal Kingdom: all its action clips, or the unseen-species experiment.

    Domain is the class of animal; group, with --unseen-species, the animal named first. Column animals names all.

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
    """Fill the column split: whole groups, and every label in every part as far as groups allow.

    Domains are not looked at: split each one with --where if every part shall have all of them.

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
    finish({"manifest": str(out or manifest_path), "splits": splits}, f"{text} -> {out or manifest_path}")


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
    finish({"manifest": str(out), "clips": len(merged)}, f"{len(merged)} clips of {len(paths)} manifests -> {out}")


@manifest.command("stats")
@manifest_argument
@click.option("--picture", type=click.Path(path_type=Path), help="Draw the counts as well, such as stats.png.")
@click.option("--no-files", is_flag=True, help="Do not open the files: no lengths from them, no equal files.")
@click.option("--near", is_flag=True, help="Find clips that show almost the same pictures too; decodes some frames.")
@json_option
def manifest_stats(manifest_path: Path, picture: Path | None, no_files: bool, near: bool) -> None:
    """Clips, seconds and labels by domain and split, with warnings of what would spoil a result.

    Warns of labels missing from a split, groups in several splits, files that hold the same bytes, and files that
    cannot be read. Clips without start and end are as long as their file says.

    --near also finds copies that are encoded, scaled or cut a little otherwise, those in different splits first. A core
    takes about 20 ms for a small clip and half a second for one in HD, so it is not done unless asked for.

    \b
    Examples:
      actiondiff manifest stats manifest.csv --picture stats.png
      actiondiff manifest stats manifest.csv --near
    """
    from actiondiff.manifests import Manifest
    from actiondiff.manifests import manifest_stats as count

    if near and no_files:
        raise click.UsageError("--near looks into the files; leave out --no-files.")
    found = Manifest.read(manifest_path, check_files=False)
    progress = None if no_files else progress_bar("clip")
    stats = count(found, compare_files=not no_files, near=near, progress=progress)
    if picture is not None:
        stats.draw(picture)
    finish(stats.to_dict(), stats.text())
