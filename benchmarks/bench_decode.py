"""Decoding: memory over an hour of video, frames a second, and what rows that cut one recording cost.

    make bench-decode          (or: python benchmarks/bench_decode.py --quick for a tenth)

Two recordings are written into a temporary folder: an hour of 320x240 and 20 minutes of 1080p, both 25 frames/s in
H.264 with B-frames and a key every ten seconds. Ten seconds are encoded, and their packets repeated with later times,
so that writing takes seconds. Each is read with stride 4 in a process of its own, as frames and as windows; the
process tells its memory as it goes. Then rows of two seconds, spread over the hour, are read both ways: as `Clip` does
it, and decoding from the beginning, as it did before. Last, a long clip with others behind it is decoded ahead by
one thread and by several.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

RATE, GOP_SECONDS, STRIDE = 25, 10, 4
ROW_SECONDS = 2.0
AHEAD, AHEAD_SECONDS = 4, 10.0
"""Threads that decode ahead, and how long their queues are given to fill."""
TOLD = 8
"""How often a child tells its memory."""


def record(path: Path, size_hw: tuple[int, int], seconds: int) -> None:
    """Write a recording: ten seconds of moving pictures with noise, again and again."""
    gop = path.with_suffix(".gop.mp4")
    rng = np.random.default_rng(0)
    texture = rng.integers(0, 255, (size_hw[0] // 8, size_hw[1] // 8, 3), np.uint8).repeat(8, 0).repeat(8, 1)
    with av.open(str(gop), "w") as container:
        options = {"preset": "ultrafast", "x264-params": "bframes=2:keyint=9999:scenecut=0"}
        stream: Any = container.add_stream("libx264", rate=RATE, options=options)
        (stream.height, stream.width), stream.pix_fmt = size_hw, "yuv420p"
        for number in range(GOP_SECONDS * RATE):
            frame = av.VideoFrame.from_ndarray(np.roll(texture, 3 * number, axis=1), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    with av.open(str(gop)) as old, av.open(str(path), "w") as new:
        source = old.streams.video[0]
        stream = new.add_stream_from_template(source)
        packets = [packet for packet in old.demux(source) if packet.size]
        kept = [(bytes(packet), packet.pts, packet.dts, packet.is_keyframe) for packet in packets]
        length = round(GOP_SECONDS / source.time_base)
        for turn in range(seconds // GOP_SECONDS):
            for data, pts, dts, is_key in kept:
                packet = av.Packet(data)
                packet.pts, packet.dts, packet.is_keyframe = pts + turn * length, dts + turn * length, is_key
                packet.time_base, packet.stream = Fraction(source.time_base), stream
                new.mux(packet)
    gop.unlink()


def memory_mb() -> tuple[float, float]:
    """What this process has in memory now, and had at most."""
    fields = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return tuple(int(fields[name].split()[0]) / 1024 for name in ("VmRSS", "VmHWM"))  # type: ignore[return-value]


def stream_clip(way: str, path: Path) -> Iterator[int]:
    """Read a clip with stride 4, as frames or as windows of HEIGHTxWIDTH; yields how many source frames were read."""
    from actiondiff.extract import Clip, Recipe, Sampling, cut_windows, parse_size

    if way == "frames":
        for frame in Clip(path).frames(Sampling(STRIDE)):
            yield frame.index + 1
    else:
        for window in cut_windows(Clip(path), Recipe("bench", "", parse_size(way), stride=STRIDE)):
            yield int(window.frame_index[-1]) + 1


def child(way: str, path: Path, frames: int) -> None:
    """Read a clip and print memory on the way, as JSON lines."""
    list(zip(range(1), stream_clip(way, path), strict=False))  # imports, buffers
    begin, told, read = time.perf_counter(), 0, 0
    for read in stream_clip(way, path):
        if read * TOLD // frames > told:
            told = read * TOLD // frames
            now, peak = memory_mb()
            seconds = time.perf_counter() - begin
            print(json.dumps({"frames": read, "seconds": seconds, "mb": now, "peak_mb": peak}), flush=True)
    seconds = time.perf_counter() - begin
    now, peak = memory_mb()
    print(json.dumps({"frames": read, "seconds": seconds, "mb": now, "peak_mb": peak}), flush=True)


def memory(name: str, path: Path, seconds: int, size: str) -> list[dict[str, Any]]:
    """Both ways of reading, each in a process of its own."""
    results = []
    for way in ("frames", size):
        command = [sys.executable, __file__, "--child", way, str(path), str(seconds * RATE)]
        output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        told = [json.loads(line) for line in output.splitlines()]
        rate = told[-1]["frames"] / told[-1]["seconds"]
        what = way if way == "frames" else f"windows of 25 frames of {way}"
        print(f"\n{name}, {what}: {told[-1]['frames']} frames read, {rate:.0f} source frames/s, "
              f"{rate / STRIDE:.0f} used/s")  # fmt: skip
        print("  after s     " + "".join(f"{line['seconds']:8.0f}" for line in told))
        print("  memory MB   " + "".join(f"{line['mb']:8.0f}" for line in told))
        print("  peak MB     " + "".join(f"{line['peak_mb']:8.0f}" for line in told))
        results.append({"recording": name, "way": way, "source_frames_per_second": rate, "told": told})
    return results


def rows(path: Path, seconds: int, count: int, sampled: int) -> dict[str, Any]:
    """Rows over one recording: all of them by seeking, a few of them from the beginning."""
    from actiondiff.extract import Clip, Sampling
    from actiondiff.extract.parts import from_beginning
    from actiondiff.extract.reading import Reading
    from actiondiff.extract.timeline import timeline_of

    starts = [float(start) for start in np.linspace(0, seconds - ROW_SECONDS, count)]
    begin = time.perf_counter()
    timeline = timeline_of(path)
    reading_packets = time.perf_counter() - begin
    if timeline.doubt:
        raise SystemExit(f"The recording should be seekable, but {timeline.doubt}.")
    begin = time.perf_counter()
    found = {
        start: [f.index for f in Clip(path, start, start + ROW_SECONDS).frames(Sampling(STRIDE))] for start in starts
    }
    seeking = time.perf_counter() - begin
    chosen, slow = starts[:: max(1, (count - 1) // (sampled - 1))], []
    for start in chosen:
        begin, indices = time.perf_counter(), []
        for shown in from_beginning(path, Reading()):
            if shown.pts_seconds >= start + ROW_SECONDS:
                break
            if shown.pts_seconds >= start:
                indices.append(shown.index)
        slow.append(time.perf_counter() - begin)
        if indices[::STRIDE] != found[start]:
            raise SystemExit(f"The row at {start} s differs.")
    beginning = statistics.mean(slow) * count
    ratio = beginning / (reading_packets + seeking)
    print(f"\n{count} rows of {ROW_SECONDS:.0f} s over {seconds} s of 320x240, key every {GOP_SECONDS} s")
    print(f"  reading the packets once    {reading_packets:8.2f} s")
    print(f"  the rows, by seeking        {seeking:8.2f} s   ({1000 * seeking / count:.0f} ms a row)")
    print(f"  the rows, from the beginning{beginning:8.0f} s   (mean of {len(slow)} rows evenly spread, times {count})")
    print(f"  ratio                       {ratio:8.1f}")
    return {
        "packets_seconds": reading_packets,
        "seeking_seconds": seeking,
        "beginning_seconds": beginning,
        "ratio": ratio,
    }


def conversion(path: Path) -> dict[str, float]:
    """What frames cost that are decoded only, and those that are converted to RGB as well."""
    from actiondiff.extract import Clip, Sampling

    result = {}
    for name, stride in (("all converted", 1), ("every 4th converted", STRIDE), ("decoded only", 1 << 30)):
        begin, frames = time.perf_counter(), Clip(path, 0.0, 20.0).frames(Sampling(stride))
        for _ in frames:
            pass
        result[name] = frames.reading.decoded / (time.perf_counter() - begin)
        print(f"  1080p, {name:20} {result[name]:8.0f} source frames/s")
    return result


def ahead(path: Path, size: str) -> dict[int, float]:
    """Source frames a second of a long clip decoded ahead, with other long clips behind it, by threads."""
    from actiondiff.extract import Clip, Recipe, parse_size
    from actiondiff.extract.planning import Task
    from actiondiff.extract.prefetch import streams
    from actiondiff.manifests import Video
    from actiondiff.store import FeatureKey

    recipe = Recipe("bench", "", parse_size(size), stride=STRIDE)
    tasks = [Task(Video(f"v{number}", str(path)), Clip(path), (FeatureKey(1, 0),)) for number in range(AHEAD + 1)]
    result = {}
    for workers in (1, AHEAD):
        found = streams(tasks, recipe, workers)
        windows = iter(next(found))
        next(windows)
        time.sleep(AHEAD_SECONDS)  # the clips behind have filled their queues
        next(windows), next(windows)  # those that were ready
        begin = time.perf_counter()
        read = [int(window.frame_index[-1]) for window in windows]
        result[workers] = (read[-1] - read[0]) / (time.perf_counter() - begin) * len(read) / (len(read) - 1)
        found.close()
        print(f"  1080p, decoded ahead with --workers {workers}: {result[workers]:6.0f} source frames/s")
    return result


def main() -> None:
    """Run and print everything; `--json FILE` keeps the numbers."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a tenth of the lengths and rows, small windows")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--child", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        way, path, frames = arguments.child
        child(way, Path(path), int(frames))
        return
    hour, minutes, count, size = (360, 120, 50, "144x256") if arguments.quick else (3600, 1200, 500, "576x1024")
    with tempfile.TemporaryDirectory(prefix="bench-decode-") as folder:
        small, large = Path(folder) / "hour.mp4", Path(folder) / "hd.mp4"
        record(small, (240, 320), hour)
        record(large, (1080, 1920), minutes)
        print(f"recordings: {hour} s of 320x240, {small.stat().st_size / 1e6:.0f} MB; "
              f"{minutes} s of 1080p, {large.stat().st_size / 1e6:.0f} MB")  # fmt: skip
        result: dict[str, Any] = {"rows": rows(small, hour, count, 5)}
        print()
        result["conversion"] = conversion(large)
        result["ahead"] = ahead(large, size)
        result["memory"] = [
            *memory(f"{hour} s of 320x240", small, hour, size),
            *memory(f"{minutes} s of 1080p", large, minutes, size),
        ]
    if arguments.json:
        arguments.json.write_text(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
