"""The whole room driven at random beside a dictionary: write, merge, kill, damage, drop, export and import."""

import shutil
import tempfile
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from store_helpers import GRID, KEY, RECIPE, Contents, contents_of, contents_told, draw_failure, draw_video, parts_of

from actiondiff.store import FeatureKey, FeatureStore, StoreWriter, compact, export_hdf5, import_features, verify
from actiondiff.store import compacting as compacting_module

names = st.sampled_from(["a", "b", "lawn/c", "d", "e"])
key_sets = st.sampled_from([(KEY,), GRID[:2]])


class StoreBesideDict(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.path = self.folder / "features.zarr"
        self.stored: Contents = {}
        self.failed: set[str] = set()

    @initialize(compression=st.sampled_from(["none", "zstd"]))
    def open(self, compression: str) -> None:
        StoreWriter(self.path, RECIPE, compression=compression)
        self.reader = FeatureStore(self.path)

    @rule(drawn=st.lists(st.tuples(names, key_sets), min_size=1, max_size=3), failing=st.none() | names)
    def write(self, drawn: list[tuple[str, tuple[FeatureKey, ...]]], failing: str | None) -> None:
        with StoreWriter(self.path, RECIPE) as writer:
            for name, keys in drawn:
                writer.add(draw_video(name, keys))
                self.stored |= contents_told([draw_video(name, keys)])
                self.failed.discard(name)
            if failing:
                writer.fail(draw_failure(failing))
                self.failed.add(failing)

    @rule(part_bytes=st.sampled_from([2000, 10**6]))
    def merge(self, part_bytes: int) -> None:
        before = len(parts_of(self.path))
        compact(self.path, part_bytes)
        assert len(parts_of(self.path)) <= before

    @rule()
    def merge_and_be_killed_before_the_old_parts_go(self) -> None:
        real = compacting_module.retire

        def killed(*_: object) -> None:
            raise KeyboardInterrupt

        compacting_module.retire = killed  # type: ignore[assignment]
        try:
            compact(self.path)
        except KeyboardInterrupt:
            pass
        finally:
            compacting_module.retire = real

    @rule(data=st.data())
    def damage_and_drop(self, data: st.DataObject) -> None:
        store = FeatureStore(self.path)
        shards = [file for part in store.parts for file in part.folder.rglob("c/0/0/0")]
        if len(store.parts) < len(parts_of(self.path)) or not shards:
            return  # what a damaged merge had taken the place of would come back, which is no loss, but not the dict's
        shard = data.draw(st.sampled_from(sorted(shards)))
        shard.write_bytes(shard.read_bytes()[:-1])
        dropped = verify(self.path, drop_damaged=True).dropped
        assert len(dropped) == 1
        left = FeatureStore(self.path)
        assert contents_of(left).items() <= self.stored.items()
        told = contents_of(left)
        self.stored, self.failed = told, set(left.failures)

    @rule()
    def go_out_and_come_back(self) -> None:
        out, again = self.folder / "f.h5", self.folder / "again.zarr"
        export_hdf5(self.path, out)
        import_features(out, again, compression=FeatureStore(self.path).compression)
        shutil.rmtree(self.path)
        again.rename(self.path)
        out.unlink()
        self.reader = FeatureStore(self.path)

    @invariant()
    def readers_old_and_new_hold_what_the_dict_holds(self) -> None:
        if not self.path.exists():
            return
        self.reader.refresh()
        for store in (self.reader, FeatureStore(self.path)):
            assert contents_of(store) == self.stored
            assert set(store.failures) == self.failed
            keys = store.keys()
            for key in keys:
                loaded = dict(store.load(layer=key.layer, timestep=key.timestep).items())
                assert {(name, key): array.tobytes() for name, array in loaded.items()} == {
                    place: content for place, content in self.stored.items() if place[1] == key
                }
        assert verify(self.path).good

    def teardown(self) -> None:
        shutil.rmtree(self.folder)


TestStoreBesideDict = StoreBesideDict.TestCase
TestStoreBesideDict.settings = settings(max_examples=10, stateful_step_count=10, deadline=None)
