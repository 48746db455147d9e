"""The table of backbones, and what all of them have in common."""

import dataclasses
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, Protocol, runtime_checkable

from jaxtyping import Float
from torch import Tensor

from actiondiff import InputError
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
        layers: how many layers there are with the weights of the hub id, counted from 1.
        licence: of the weights, as their page states it; the page has the text in force.
        resize: how frames come to their size by default, see :class:`Recipe`.
        pad: what fills the last window by default.
        notice: what everyone who sees its numbers should know.
        key: layer and timestep to use where none is asked for.
    """

    family: Literal["svd", "videomae", "vjepa2", "frame-diff"]
    summary: str
    hub_id: str | None = None
    size_hw: tuple[int, int] = (576, 1024)
    window: int = 25
    steps: int = 30
    temporal: bool = True
    layers: int = 13
    notice: str = ""
    key: FeatureKey = field(default=PAPER_KEY)
    licence: str = ""
    resize: str = "stretch"
    pad: str = "black"

    @property
    def depth_follows_weights(self) -> bool:
        """Whether other weights than the table's may have another number of layers."""
        return self.family in ("videomae", "vjepa2")

    @property
    def decoder_layers(self) -> range:
        """Layers behind the middle, which are only loaded when asked for."""
        return range(14, 26) if self.family == "svd" else range(0)

    @property
    def timesteps(self) -> int:
        """How many timesteps there are by default; a backbone without noise levels has one."""
        return self.steps if self.family == "svd" else 1


_XT = "stabilityai/stable-video-diffusion-img2vid-xt"
_STABILITY = "Stability AI community licence, to be accepted on the page"
BACKBONES: Mapping[str, BackboneSpec] = {
    "svd-xt": BackboneSpec("svd", "Stable Video Diffusion, 25 frames (the paper's)", _XT, licence=_STABILITY),
    "svd": BackboneSpec(
        "svd",
        "Stable Video Diffusion, 14 frames",
        "stabilityai/stable-video-diffusion-img2vid",
        window=14,
        steps=25,
        licence=_STABILITY,
    ),
    "sdv2": BackboneSpec("svd", "svd-xt with its temporal layers off", _XT, temporal=False, licence=_STABILITY),
    "videomae": BackboneSpec(
        "videomae",
        "VideoMAE, ViT-B: one timestep, 0",
        "MCG-NJU/videomae-base",
        size_hw=(224, 224),
        window=16,
        layers=12,
        key=FeatureKey(12, 0),
        licence="CC BY-NC 4.0",
        resize="crop",
        pad="repeat",
    ),
    "vjepa2": BackboneSpec(
        "vjepa2",
        "V-JEPA 2, ViT-L: one timestep, 0",
        "facebook/vjepa2-vitl-fpc64-256",
        size_hw=(256, 256),
        window=16,
        layers=24,
        key=FeatureKey(24, 0),
        licence="permissive, MIT or Apache 2.0 by size",
        resize="margin-crop",
        pad="repeat",
    ),
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
    weights: Path | str | None = None,
    weights_config: Path | None = None,
    text_weights: Path | str | None = None,
    offline: bool = False,
    device: str = "auto",
    expected_sha256: str | None = None,
    decoder: bool = False,
    batch: int | None = None,
    compiled: bool = False,
    **overrides: Any,
) -> Backbone:
    """Make a backbone ready to run.

    Args:
        name: of the table.
        weights: a local folder, a ``.safetensors`` file, or (as a text) the hub id of another repository than the
            table's.
        weights_config: a folder whose configuration holds instead of the built-in one, for a single file or for
            random weights.
        text_weights: the text tower of the condition ``text``, given like ``weights``.
        offline: never ask the network, also where a hub id is the default.
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:1`` …
        expected_sha256: refuse weights with another hash.
        decoder: load Stable Video Diffusion's up blocks, too: layers 14 to 25.
        batch: windows, each at a timestep, that go through Stable Video Diffusion together; None takes 1 on a CPU and
            as many as fit on a GPU.
        compiled: run Stable Video Diffusion's blocks through ``torch.compile``.
        overrides: fields of :class:`Recipe` that differ from the backbone's defaults; ``random_weights`` is a seed
            for weights that are drawn and not loaded.

    Raises:
        InputError: options that do not go together.
        WeightsNotFound, WeightsError: see :mod:`actiondiff.extract.loading`.
    """
    _refuse_idle(name, overrides | {"batch": batch, "compiled": compiled})
    return _ready(
        name,
        overrides,
        device,
        weights=weights,
        weights_config=weights_config,
        text_weights=text_weights,
        offline=offline,
        expected_sha256=expected_sha256,
        decoder=decoder,
        batch=batch,
        compiled=compiled,
    )


_IDLE_BUT_FOR_SVD: Mapping[str, tuple[str, tuple[Any, ...]]] = {
    "batch": ("--batch", (None,)),
    "compiled": ("--compile", (False,)),
    "vae_precision": ("--vae-precision", ("float32",)),
    "steps": ("--steps", ()),
}
_IDLE_WITHOUT_NETWORK: Mapping[str, tuple[str, tuple[Any, ...]]] = {
    "pool": ("--pool", ("mean",)),
    "precision": ("--precision", ("float32",)),
}
"""Settings that change nothing, by the option's name, each with what it may be all the same."""


def _refuse_idle(name: str, settings: Mapping[str, Any]) -> None:
    """Refuse what would do nothing, but be in the recipe or wait for an effect. Recipes of old stores may hold it."""
    family = backbone_spec(name).family
    idle = {} if family == "svd" else dict(_IDLE_BUT_FOR_SVD)
    if family == "frame-diff":
        idle |= _IDLE_WITHOUT_NETWORK
    for setting, (option, harmless) in idle.items():
        if setting in settings and settings[setting] not in harmless:
            raise InputError(f"{option} does nothing with {name}. Leave it out.")


def _ready(name: str, overrides: Mapping[str, Any], device: str, **said: Any) -> Backbone:
    """As :func:`load_backbone`, with what is said about weights as in ``WeightsOptions``."""
    spec = backbone_spec(name)
    recipe = _recipe(name, spec, overrides)
    if spec.family == "frame-diff":
        if said.get("weights") is not None or recipe.random_weights is not None:
            raise InputError("frame-diff has no network, so it takes no --weights and no --random-weights.")
        from actiondiff.extract.frame_diff import FrameDiffBackbone

        return FrameDiffBackbone(replace(recipe, precision="float32"))
    if said.get("weights") is not None and recipe.random_weights is not None:
        raise InputError("Weights are either loaded (--weights) or drawn (--random-weights), not both.")
    from actiondiff.extract.loading import WeightsOptions, load_svd_backbone, load_video_transformer

    place = choose_device(device)
    if "precision" not in overrides and place.type == "cuda":
        recipe = replace(recipe, precision="float16")
    load = load_svd_backbone if spec.family == "svd" else load_video_transformer
    return load(spec, recipe, WeightsOptions(**said), place)


def _recipe(name: str, spec: BackboneSpec, overrides: Mapping[str, Any]) -> Recipe:
    """The recipe asked for; what a backbone without noise levels does not have is set to one spelling."""
    defaults: dict[str, Any] = {
        "size_hw": spec.size_hw,
        "window": spec.window,
        "steps": spec.steps,
        "resize": spec.resize,
        "pad": spec.pad,
    }
    without: dict[str, Any] = {}
    if spec.family != "svd":
        if overrides.get("noise", "none") != "none" or overrides.get("condition") == "text":
            raise InputError(f"{name} has no noise levels and no cross-attention: no --noise and no --condition text.")
        without = {"condition": "none", "steps": 2, "labels": ()}
    return Recipe(name, "", **(defaults | dict(overrides) | without))


def load_recipe(
    document: Mapping[str, Any],
    *,
    weights: Path | str | None = None,
    text_weights: Path | str | None = None,
    offline: bool = False,
    device: str = "auto",
) -> Backbone:
    """Make the backbone that a store or a run was made with ready to run again.

    Args:
        document: the recipe as JSON values.
        weights: as :func:`load_backbone`.
        text_weights: likewise.
        offline: likewise.
        device: likewise.

    Raises:
        WeightsError: the weights are not those of the recipe.
    """
    recipe = Recipe.from_json(document)
    settings = {field.name: getattr(recipe, field.name) for field in dataclasses.fields(recipe)}
    sha256 = settings.pop("weights_sha256")
    return _ready(
        settings.pop("backbone"),
        settings,
        device,
        weights=weights,
        text_weights=text_weights,
        offline=offline,
        expected_sha256=sha256 or None,
        decoder=bool(recipe.decoder_sha256),
    )


def decode_workers(device: str) -> int:
    """Threads that decode ahead where nobody says how many: a CPU has its own work, a GPU waits for them.

    Raises:
        InputError: as :func:`choose_device`.
    """
    cores = os.cpu_count() or 1
    return 1 if choose_device(device).type == "cpu" else max(1, min(8, cores - 1))


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
