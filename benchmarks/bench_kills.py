"""Kill one extraction again and again, resume it each time, and compare with a run that nobody disturbed.

    make bench-kills            (or: python benchmarks/bench_kills.py --kills 20)

Clips are drawn, features are svd-tiny's. Each attempt is a process of its own that gets SIGKILL after a random time. A
part is closed half a second after its first video, so that an extraction of seconds has many; what a kill may undo is
one part. Printed for each attempt: when it was killed, videos stored before and after, and windows that had been
through the network but were not stored. At the end every video's bytes are compared.
"""

import argparse
import json
import multiprocessing
import random
import signal
import tempfile
import time
from functools import partial
from pathlib import Path

SETTINGS = {"size_hw": (64, 64), "stride": 2, "window": 5, "device": "cpu"}
PART_SECONDS = 0.5


def child(folder: str, store: str, log: str) -> None:
    """One attempt: extract, and note every window as it comes out of the network."""
    import torch

    from actiondiff.extract import extract, feature_keys, load_backbone, run
    from actiondiff.manifests import Manifest
    from actiondiff.store import StoreWriter

    torch.set_num_threads(1)
    run.StoreWriter = partial(StoreWriter, part_seconds=PART_SECONDS)
    backbone = load_backbone("svd-tiny", **SETTINGS)
    whole = backbone.features

    def noted(windows, keys):
        found = whole(windows, keys)
        with Path(log).open("a") as file:
            file.writelines(f"{window.name}\n" for window in windows)
        return found

    backbone.features = noted
    extract(Manifest.read(Path(folder) / "manifest.csv"), Path(store), backbone, feature_keys("svd-tiny", "3,9", "20"))


def stored(store: Path) -> dict[str, bytes]:
    """Every video's features and origins."""
    from actiondiff.store import FeatureStore, StoreNotFound

    try:
        there = FeatureStore(store)
    except StoreNotFound:
        return {}
    return {
        video_id: b"".join(there.read(video_id, layer=layer, timestep=20).tobytes() for layer in (3, 9))
        + there.frame_index(video_id).tobytes()
        + there.pts_seconds(video_id).tobytes()
        for video_id in there.video_ids
    }


def main() -> None:
    """Run and print; exit 1 where a byte differs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["actiondiff.extract.run", "actiondiff.extract.svd", "av"])
    generator = random.Random(arguments.seed)
    with tempfile.TemporaryDirectory() as folder:
        result = trial(Path(folder), context, arguments.kills, generator)
    print(json.dumps(result))
    raise SystemExit(0 if result["same_bytes"] else 1)


def trial(folder: Path, context: multiprocessing.context.BaseContext, kills: int, generator: random.Random) -> dict:
    """An undisturbed run, then one that is killed at random moments of what is left of it."""
    from actiondiff.manifests import draw_clips

    draw_clips(folder, clips_per_action=12, frames=40, size_hw=(64, 64))
    begin = time.monotonic()
    process = context.Process(target=child, args=(str(folder), str(folder / "whole.zarr"), str(folder / "whole.log")))
    process.start()
    process.join()
    seconds = time.monotonic() - begin
    whole = stored(folder / "whole.zarr")
    windows = len((folder / "whole.log").read_text().splitlines())
    print(f"{len(whole)} videos, {windows} windows, undisturbed {seconds:.1f} s")
    redone, landed = [], 0
    for attempt in range(1, kills + 1):
        before, log = len(stored(folder / "s.zarr")), folder / f"{attempt}.log"
        process = context.Process(target=child, args=(str(folder), str(folder / "s.zarr"), str(log)))
        process.start()
        # Moments are drawn from a tenth of the whole time, so that twenty kills do not outlive the extraction.
        after_seconds = generator.uniform(0.0, 2.0 * seconds / kills) + generator.choice((0.0, 1.0))
        process.join(after_seconds)
        alive = process.is_alive()
        process.kill()
        process.join()
        landed += alive and process.exitcode == -signal.SIGKILL
        after = stored(folder / "s.zarr")
        done = log.read_text().split() if log.exists() else []
        lost = [name for name in done if name.rpartition("#")[0] not in after]
        redone.append(len(lost))
        print(f"{attempt:3} killed after {after_seconds:5.2f} s: {before:3} -> {len(after):3} videos stored, "
              f"{len(done):3} windows done, {len(lost):3} of them lost")  # fmt: skip
        if len(after) == len(whole):
            break
    process = context.Process(target=child, args=(str(folder), str(folder / "s.zarr"), str(folder / "last.log")))
    process.start()
    process.join()
    found = stored(folder / "s.zarr")
    same = found == whole
    verdict = "holds the same bytes" if same else "DIFFERS"
    print(f"{landed} kills; the final store {verdict}; a kill lost at most {max(redone)} windows: of the part in hand, "
          "and of at most 4 videos that wait for the disk")  # fmt: skip
    return {"kills": landed, "same_bytes": same, "windows": windows, "lost": redone, "seconds": seconds}


if __name__ == "__main__":
    main()
