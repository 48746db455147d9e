"""``actiondiff demo`` and ``doctor``: try it, and look at the machine."""

from pathlib import Path

import click

from actiondiff.commands.answering import DONE, SOME_FAILED, finish, free_folder, note, progress_bar
from actiondiff.commands.options import PAPERS_HEADS, json_option


@click.command()
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

    folder = out or free_folder(Path("actiondiff-demo"))
    note(f"1/3 drawing clips of 4 actions in 2 domains -> {folder}/clips")
    clips = draw_clips(folder / "clips", clips_per_action=9)
    sources, rates = {}, {}
    for backbone in ("svd-tiny", "frame-diff"):
        note(f"2/3 extracting features of {len(clips)} clips with {backbone} -> {folder}/{backbone}.zarr")
        ready = load_backbone(backbone, stride=2, size_hw=(96, 128), device="cpu")
        report = run_extract(
            clips, folder / f"{backbone}.zarr", ready, feature_keys(backbone, None, None), progress=True
        )
        store = FeatureStore(folder / f"{backbone}.zarr")
        sources[store.name], rates[backbone] = store, report.to_json()
        note(f"    {report.frames} frames, {report.seconds:.1f} s, {report.frames_per_second:.1f} frames/s")
    note("3/3 fitting the three heads in each domain, testing in both")
    configs = [configure(head) for head in PAPERS_HEADS]
    result = run_transfer(sources, clips, "domain", configs, out=folder / "transfer", progress=progress_bar("fit"))
    finish(
        {"out": str(folder), "extract": rates, **result.to_dict()},
        f"{result.table()}\n-> {folder}/transfer/transfer.csv, transfer.png",
    )


@click.command()
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
    finish({"good": good, "findings": [vars(f) for f in findings]}, "\n".join(lines), DONE if good else SOME_FAILED)
