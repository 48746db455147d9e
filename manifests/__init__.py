"""Which clips: manifests read, written, made of folders and of annotation files, split by groups, drawn on the spot."""

from actiondiff.manifests.animal_kingdom import animal_kingdom
from actiondiff.manifests.boris import boris
from actiondiff.manifests.boris_writing import CodedBout, write_boris
from actiondiff.manifests.building import Built
from actiondiff.manifests.charades_ego import charades_ego
from actiondiff.manifests.combining import merge_manifests, split_manifest
from actiondiff.manifests.draw import ACTIONS, DOMAINS, draw_clips, write_video
from actiondiff.manifests.draw_annotations import draw_dataset
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
from actiondiff.manifests.paper_recipes import (
    PaperRecipe,
    RecipeRow,
    paper_recipe,
    paper_recipe_names,
)
from actiondiff.manifests.scan import FRAME_SUFFIXES, VIDEO_SUFFIXES, natural_key, scan
from actiondiff.manifests.splits import misspelt_splits
from actiondiff.manifests.stats import Stats, manifest_stats
from actiondiff.manifests.ucf_hmdb import ucf_hmdb
from actiondiff.manifests.video import Video

__all__ = [
    "ACTIONS",
    "DOMAINS",
    "FRAME_SUFFIXES",
    "VIDEO_SUFFIXES",
    "Built",
    "CodedBout",
    "Fault",
    "Manifest",
    "ManifestError",
    "ManifestNotFound",
    "PaperRecipe",
    "RecipeRow",
    "SelectionError",
    "Stats",
    "UnknownVideo",
    "Video",
    "VideoError",
    "animal_kingdom",
    "boris",
    "charades_ego",
    "draw_clips",
    "draw_dataset",
    "grouped_folds",
    "grouped_holdout",
    "manifest_stats",
    "merge_manifests",
    "misspelt_splits",
    "natural_key",
    "paper_recipe",
    "paper_recipe_names",
    "scan",
    "split_manifest",
    "ucf_hmdb",
    "write_boris",
    "write_video",
]
