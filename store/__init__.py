"""Features on disk: one Zarr v3 hierarchy, written in immutable parts, read through memory maps."""

from actiondiff.store.errors import (
    FeatureValueError,
    KeyNotFound,
    RecipeMismatch,
    StoreError,
    StoreNotFound,
    VideoNotFound,
)
from actiondiff.store.reader import FeatureStore, check_recipe, read_header
from actiondiff.store.records import Failure, FeatureKey, Source, VideoFeatures
from actiondiff.store.summary import StoreSummary, describe
from actiondiff.store.writer import StoreWriter

__all__ = [
    "Failure",
    "FeatureKey",
    "FeatureStore",
    "FeatureValueError",
    "KeyNotFound",
    "RecipeMismatch",
    "Source",
    "StoreError",
    "StoreNotFound",
    "StoreSummary",
    "StoreWriter",
    "VideoFeatures",
    "VideoNotFound",
    "check_recipe",
    "describe",
    "read_header",
]
