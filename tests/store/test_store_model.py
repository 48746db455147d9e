"""The writer driven at random beside plain dictionaries."""

import shutil
import tempfile
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from store_helpers import GRID, KEY, RECIPE, Contents, contents_of, contents_told, draw_failure, draw_video, parts_of

from actiondiff.store import FeatureStore, StoreWriter, VideoFeatures

names = st.sampled_from(["a", "b", "lawn/c", "d"])
key_sets = st.sampled_from([(KEY,), GRID[:2], GRID, (*GRID[:1], KEY)])
PART_BYTES = 3000


class WriterBesideDict(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.path = self.folder / "features.zarr"
        self.stored: Contents = {}
        self.failed: dict[str, str] = {}
        self.videos: list[VideoFeatures] = []
        self.failures: dict[str, str] = {}
        self.parts = 0

    @initialize()
    def open(self) -> None:
        self.writer = StoreWriter(self.path, RECIPE, part_bytes=PART_BYTES)
        self.reader = FeatureStore(self.path)

    @rule(name=names, keys=key_sets)
    def add(self, name: str, keys: tuple) -> None:
        video = draw_video(name, keys)
        if self.videos and self.videos[0].features.keys() != video.features.keys():
            self.model_commit()
        self.videos.append(video)
        self.failures.pop(name, None)
        if sum(array.nbytes for video in self.videos for array in video.features.values()) >= PART_BYTES:
            self.model_commit()
        self.writer.add(video)

    @rule(name=names, message=st.text("aé\n", max_size=3))
    def fail(self, name: str, message: str) -> None:
        self.failures[name] = message
        self.writer.fail(draw_failure(name, message))

    @rule()
    def commit(self) -> None:
        self.model_commit()
        self.writer.commit()

    @rule()
    def leave_and_reopen(self) -> None:
        self.model_commit()
        with self.writer:
            pass
        self.writer = StoreWriter(self.path, RECIPE, part_bytes=PART_BYTES)

    @rule()
    def kill_and_reopen(self) -> None:
        self.videos, self.failures = [], {}
        self.writer = StoreWriter(self.path, RECIPE, part_bytes=PART_BYTES)

    def model_commit(self) -> None:
        self.parts += bool(self.videos or self.failures)
        self.stored |= contents_told(self.videos)
        self.failed = {name: why for name, why in self.failed.items() if name not in {v.video_id for v in self.videos}}
        self.failed |= self.failures
        self.videos, self.failures = [], {}

    @invariant()
    def a_new_reader_and_a_refreshed_one_hold_what_the_dict_holds(self) -> None:
        if not self.path.exists():
            return
        self.reader.refresh()
        for store in (self.reader, FeatureStore(self.path)):
            assert contents_of(store) == self.stored
            assert {name: failure.message for name, failure in store.failures.items()} == self.failed
        assert len(parts_of(self.path)) == self.parts
        assert not (self.path / ".writing").exists()

    def teardown(self) -> None:
        shutil.rmtree(self.folder)


TestWriterBesideDict = WriterBesideDict.TestCase
TestWriterBesideDict.settings = settings(max_examples=20, stateful_step_count=15, deadline=None)
