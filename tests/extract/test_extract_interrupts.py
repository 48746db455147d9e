"""A second Ctrl-C while the first one shuts down neither hangs the run nor writes anything twice."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from actiondiff.store import FeatureStore

RUN = """
import json, signal, sys, threading, time
sys.path.insert(0, {tests!r})
from pathlib import Path
import actiondiff.extract.prefetch as prefetch
import actiondiff.store.writer as writer
from fakes import FakeBackbone
from actiondiff.extract import extract
from actiondiff.manifests import Manifest
from actiondiff.store import FeatureKey, StoreWriter

signal.signal(signal.SIGINT, signal.default_int_handler)
folder, case = Path({folder!r}), {case!r}
written = []

class Told(FakeBackbone):
    def window_features(self, window, keys):
        if case == "decoding" and self.windows_seen == 0:
            time.sleep(3.0)  # by now every queue is full
            print("ready", flush=True)
            time.sleep(30)
        return super().window_features(window, keys)

cut, write, add = prefetch.cut_windows, writer.write_part, StoreWriter.add

def slowly_cut(*arguments):
    for window in cut(*arguments):
        for _ in range(50):
            time.sleep(0.8)
            yield window

def slowly_written(path, videos, *arguments, **settings):
    print("ready", flush=True)
    count = len(videos)
    time.sleep(1.5)
    written.append([[video.video_id for video in videos], threading.current_thread().name, len(videos) - count])
    return write(path, videos, *arguments, **settings)

def slowly_added(self, video):
    print("ready", flush=True)
    time.sleep(1.5)
    add(self, video)

if case == "decoding":
    prefetch.cut_windows = slowly_cut
if case == "writing":
    StoreWriter.__init__.__defaults__ = ("float16", 1, 600.0, "", None)  # every video is a part of its own
if case in ("writing", "adding"):
    writer.write_part = slowly_written
if case == "adding":
    StoreWriter.add = slowly_added
try:
    extract(Manifest.read(folder / "manifest.csv"), folder / "s.zarr", Told(), [FeatureKey(9, 20)], workers=3)
except KeyboardInterrupt:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    print(json.dumps(written), flush=True)
"""


@pytest.mark.parametrize("case", ["decoding", "writing", "adding"])
def test_a_second_interrupt_neither_hangs_nor_writes_twice(clips, tmp_path, case):
    clips.write(tmp_path / "manifest.csv")
    script = RUN.format(tests=str(Path(__file__).parents[1]), folder=str(tmp_path), case=case)
    process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout.readline().strip() == "ready"
        for _ in range(2):
            process.send_signal(signal.SIGINT)
            time.sleep(0.3)
        output, _ = process.communicate(timeout=25)
    finally:
        process.kill()
    assert process.returncode == 0
    written = json.loads(output.splitlines()[-1])
    ids = [video_id for videos, _, _ in written for video_id in videos]
    assert len(ids) == len(set(ids))
    assert {(thread, grown) for _, thread, grown in written} <= {("write", 0)}
    store = FeatureStore(tmp_path / "s.zarr")
    assert sorted(store.video_ids) == sorted(ids)
    assert all(len(store.read(video_id, layer=9, timestep=20)) for video_id in ids)
    assert bool(ids) == (case != "decoding")
