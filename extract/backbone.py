"""The table of backbones, and what all of them have in common."""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, Protocol, runtime_checkable

from jaxtyping import Float
from torch import Tensor

from actiondiff import InputError
from actiondiff.extract.errors import WeightsError
from actiondiff.extract.recipe import Recipe
from actiondiff.extract.windows import Window
from actiondiff.store import FeatureKey


@runtime_checkable
class Backbone(Protocol):
    """A frozen network (or none) that turns windows into features: the seam where tests put a fake."""

    recipe: Recipe
    layer_channels: Mapping[int, int]
    notice: str

    def windows_at_once(self, keys: Sequence[FeatureKey]) -> int:
        """How many windows it likes to be given together at these keys."""

    def features(
        self, windows: Sequence[Window], keys: Sequence[FeatureKey]
    ) -> list[dict[FeatureKey, Float[Tensor, "_ _"]]]:
        """For each window (frames, channels) of its real frames at every key."""


PAPER_KEY = FeatureKey(9, 20)


@dataclass(frozen=True)
class BackboneSpec:
    """A row of the table: what a name stands for and its defaults.

    Attributes:
        family: which code runs it.
        hub_id: repository of its weights, None where they come with the package or are not needed.
        size_hw: default frame size.
        window: default frames a window.
        steps: default steps of the schedule.
        temporal: whether temporal layers are on.
        summary: one line for people.
        layers: how many layers there are, counted from 1.
        notice: what everyone who sees its numbers should know.
        key: layer and timestep to use where none is asked for.
    """

    family: Literal["svd", "frame-diff"]
    summary: str
    hub_id: str | None = None
    size_hw: tuple[int, int] = (576, 1024)
    window: int = 25
    steps: int = 30
    temporal: bool = True
    layers: int = 13
    notice: str = ""
    key: FeatureKey = field(default=PAPER_KEY)

    @property
    def timesteps(self) -> int:
        """How many timesteps there are by default; a backbone without noise levels has one."""
        return self.steps if self.family == "svd" else 1


_XT = "stabilityai/stable-video-diffusion-img2vid-xt"
BACKBONES: Mapping[str, BackboneSpec] = {
    "svd-xt": BackboneSpec("svd", "Stable Video Diffusion, 25 frames (the paper's)", _XT),
    "svd": BackboneSpec(
        "svd", "Stable Video Diffusion, 14 frames", "stabilityai/stable-video-diffusion-img2vid", window=14, steps=25
    ),
    "sdv2": BackboneSpec("svd", "svd-xt with its temporal layers off", _XT, temporal=False),
    "svd-tiny": BackboneSpec(
        "svd",
        "a few MB of random weights, to try the pipeline",
        size_hw=(128, 192),
        notice="svd-tiny has random weights: it is there to try the pipeline; its numbers say nothing of the method.",
    ),
    "frame-diff": BackboneSpec(
        "frame-diff",
        "grey frame differences, no network: a control",
        size_hw=(128, 192),
        steps=2,
        layers=1,
        key=FeatureKey(1, 0),
    ),
}
TINY_WEIGHTS = Path(__file__).parent / "svd-tiny"


def backbone_spec(name: str) -> BackboneSpec:
    """Look a name up.

    Raises:
        InputError: no such backbone.
    """
    if name not in BACKBONES:
        raise InputError(f"There is no backbone {name!r}. Choose one of {', '.join(BACKBONES)}.")
    return BACKBONES[name]


def load_backbone(
    name: str,
    *,
    weights: Path | None = None,
    weights_config: Path | None = None,
    device: str = "auto",
    expected_sha256: str | None = None,
    **overrides: Any,
) -> Backbone:
    """Make a backbone ready to run.

    Args:
        name: of the table.
        weights: a local diffusers folder, or a published single file, instead of the hub's repository.
        weights_config: for a single file, a diffusers folder whose configuration holds instead of SVD's.
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:1`` …
        expected_sha256: refuse weights with another hash.
        overrides: fields of :class:`Recipe` that differ from the backbone's defaults.

    Raises:
        WeightsNotFound, WeightsError: see :mod:`actiondiff.extract.weights`.
    """
    spec = backbone_spec(name)
    defaults: dict[str, Any] = {"size_hw": spec.size_hw, "window": spec.window, "steps": spec.steps}
    recipe = Recipe(name, "", **(defaults | overrides))
    if spec.family == "frame-diff":
        if weights is not None:
            raise InputError("frame-diff has no network, so it takes no --weights.")
        from actiondiff.extract.frame_diff import FrameDiffBackbone

        return FrameDiffBackbone(replace(recipe, condition="none", steps=2, precision="float32"))
    if "precision" not in overrides and choose_device(device).type == "cuda":
        recipe = replace(recipe, precision="float16")
    return _load_svd_backbone(spec, recipe, weights, weights_config, device, expected_sha256)


def _load_svd_backbone(
    spec: BackboneSpec,
    recipe: Recipe,
    weights: Path | None,
    weights_config: Path | None,
    device: str,
    expected_sha256: str | None,
) -> Backbone:
    import torch

    from actiondiff.extract.rewriting import rewrite
    from actiondiff.extract.svd import SVDBackbone
    from actiondiff.extract.weights import WeightsSource, load_svd

    place = choose_device(device)
    conditioned = recipe.condition != "none"
    source = WeightsSource(
        weights or _default_weights(spec, recipe.precision != "float32", conditioned), weights_config
    )
    precision = getattr(torch, recipe.precision)
    modules = load_svd(source, precision=precision, device=place, image_encoder=conditioned)
    if expected_sha256 not in (None, modules.weights_sha256):
        raise WeightsError(
            f"These features were made with weights {str(expected_sha256)[:12]}…; those in {source.path} are "
            f"{modules.weights_sha256[:12]}…. Give the same weights with --weights."
        )
    recipe = replace(recipe, weights_sha256=modules.weights_sha256)
    # sdv2 with the tiny weights is as random as svd-tiny itself.
    notice = BACKBONES["svd-tiny"].notice if source.path.resolve() == TINY_WEIGHTS.resolve() else ""
    rewrite(modules.unet, temporal=spec.temporal)
    return SVDBackbone(recipe, modules, notice=notice)


def load_recipe(document: Mapping[str, Any], *, weights: Path | None = None, device: str = "auto") -> Backbone:
    """Make the backbone that a store or a run was made with ready to run again.

    Args:
        document: the recipe as JSON values.
        weights: a local diffusers folder instead of the hub's repository.
        device: as :func:`load_backbone`.

    Raises:
        WeightsError: the weights are not those of the recipe.
    """
    recipe = Recipe.from_json(document)
    settings = {field.name: getattr(recipe, field.name) for field in dataclasses.fields(recipe)}
    sha256 = settings.pop("weights_sha256")
    return load_backbone(
        settings.pop("backbone"), weights=weights, device=device, expected_sha256=sha256 or None, **settings
    )


def _default_weights(spec: BackboneSpec, half: bool, image_encoder: bool) -> Path:
    from actiondiff.extract.weights import fetch_from_hub

    if spec.hub_id is None:
        return TINY_WEIGHTS
    return fetch_from_hub(spec.hub_id, half=half, image_encoder=image_encoder)


def choose_device(device: str) -> Any:
    """A torch device; ``auto`` takes the GPU where there is one.

    Raises:
        InputError: a device that this machine or torch does not have.
    """
    import torch

    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        place = torch.device(device)
        torch.empty(0, device=place)
    except (RuntimeError, AssertionError) as error:
        raise InputError(f"The device {device!r} cannot be used here: {error} Try --device cpu.") from error
    return place
