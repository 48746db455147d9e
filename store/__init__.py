"""Features on disk: one Zarr v3 hierarchy, written in immutable parts, read through memory maps."""

from actiondiff.store.checking import Damage, StoreCheck, verify
from actiondiff.store.compacting import Compaction, compact
from actiondiff.store.errors import (
    FeatureValueError,
    KeyNotFound,
    RecipeMismatch,
    RemoteError,
    StoreBusy,
    StoreError,
    StoreNotFound,
    StoreNotReadable,
    StoreNotWritable,
    VideoNotFound,
)
from actiondiff.store.exporting import Export, export_hdf5
from actiondiff.store.header import check_recipe, read_header
from actiondiff.store.importing import Import, import_features
from actiondiff.store.places import Place, place_of
from actiondiff.store.ragged import RaggedFeatures
from actiondiff.store.reader import FeatureStore
from actiondiff.store.records import Failure, FeatureKey, Source, VideoFeatures, spell_keys, spell_numbers
from actiondiff.store.summary import StoreSummary, describe
from actiondiff.store.values import as_stored
from actiondiff.store.writer import StoreWriter

__all__ = [
    "Compaction",
    "Damage",
    "Export",
    "Failure",
    "FeatureKey",
    "FeatureStore",
    "FeatureValueError",
    "Import",
    "KeyNotFound",
    "Place",
    "RaggedFeatures",
    "RecipeMismatch",
    "RemoteError",
    "Source",
    "StoreBusy",
    "StoreCheck",
    "StoreError",
    "StoreNotFound",
    "StoreNotReadable",
    "StoreNotWritable",
    "StoreSummary",
    "StoreWriter",
    "VideoFeatures",
    "VideoNotFound",
    "as_stored",
    "check_recipe",
    "compact",
    "describe",
    "export_hdf5",
    "import_features",
    "place_of",
    "read_header",
    "spell_keys",
    "spell_numbers",
    "verify",
]
