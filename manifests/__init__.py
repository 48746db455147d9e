"""Which clips: manifests read, written, selected from, scanned from folders, split by groups, drawn on the spot."""

from actiondiff.manifests.draw import ACTIONS, DOMAINS, draw_clips, write_video
from actiondiff.manifests.faults import (
    Fault,
    ManifestError,
    ManifestNotFound,
    SelectionError,
    UnknownVideo,
    VideoError,
)
from actiondiff.manifests.grouping import grouped_folds, grouped_holdout
from actiondiff.manifests.manifest import Manifest
from actiondiff.manifests.scan import FRAME_SUFFIXES, VIDEO_SUFFIXES, scan
from actiondiff.manifests.video import Video

__all__ = [
    "ACTIONS",
    "DOMAINS",
    "FRAME_SUFFIXES",
    "VIDEO_SUFFIXES",
    "Fault",
    "Manifest",
    "ManifestError",
    "ManifestNotFound",
    "SelectionError",
    "UnknownVideo",
    "Video",
    "VideoError",
    "draw_clips",
    "grouped_folds",
    "grouped_holdout",
    "scan",
    "write_video",
]
