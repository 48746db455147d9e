"""Clips to features: decoding, windows, frozen backbones, and the run that writes a store.

Names are resolved when first used, so that importing the package costs nothing and torch is loaded only where needed.
"""

from importlib import import_module
from typing import Any

_HOME_OF = {
    "BACKBONES": "backbone",
    "Backbone": "backbone",
    "BackboneSpec": "backbone",
    "backbone_spec": "backbone",
    "load_backbone": "backbone",
    "load_recipe": "backbone",
    "ClipCheck": "checking",
    "check_clips": "checking",
    "Clip": "clips",
    "Frame": "clips",
    "Sampling": "clips",
    "Finding": "doctor",
    "examine": "doctor",
    "ClipError": "errors",
    "WeightsError": "errors",
    "WeightsNotFound": "errors",
    "Cost": "cost",
    "FilmStrip": "strips",
    "film_strip": "strips",
    "Plan": "planning",
    "estimate_cost": "cost",
    "clip_of": "planning",
    "make_plan": "planning",
    "wants_decoder": "planning",
    "decode_workers": "backbone",
    "Recipe": "recipe",
    "SampleCheck": "resampling",
    "VideoComparison": "resampling",
    "backbone_of": "resampling",
    "compare_sample": "resampling",
    "feature_keys": "request",
    "parse_numbers": "request",
    "parse_size": "request",
    "ExtractReport": "run",
    "extract": "run",
    "extract_clip": "run",
    "Window": "windows",
    "cut_windows": "windows",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"actiondiff.extract has no {name!r}")
    return getattr(import_module(f"actiondiff.extract.{_HOME_OF[name]}"), name)


def __dir__() -> list[str]:
    return sorted(_HOME_OF)
