"""The recipe: everything that can change a feature's bytes, apart from which layer and timestep."""

import dataclasses
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from actiondiff import InputError
from actiondiff.extract.clips import Sampling
from actiondiff.extract.schedule import Schedule

CHOICES = {
    "condition": ("middle", "per-frame", "none", "text"),
    "precision": ("float32", "float16", "bfloat16"),
    "vae_precision": ("float32", "bfloat16"),
    "store_dtype": ("float16", "float32"),
    "pad": ("black", "repeat"),
    "noise": ("none", "seeded"),
    "resize": ("stretch", "crop", "margin-crop"),
}

PROCEDURE = 1
"""Counts up with every change of this package that changes features on purpose."""

ADDED = ("resize", "random_weights", "labels", "text_sha256", "vae_precision", "decoder_sha256")
"""Fields that the first recipes did not have; their defaults are what was done then."""

MAX_FPS = 1000.0
SIDES = range(64, 8193)
"""Sides that frames are resized to: three levels below the latents, 64 pixels are a single one."""


@dataclass(frozen=True)
class Recipe:
    """How features are made of a clip (sections 3.1 and 3.2 of the paper).

    Attributes:
        backbone: name in the table of backbones.
        weights_sha256: hash of the weights that are used, "" for backbones without any.
        size_hw: height and width that frames are resized to.
        stride: every how many-th frame is used, where ``fps`` is None.
        fps: frames used a second, by the clip's own times.
        window: frames that the backbone sees together.
        condition: what the U-Net is conditioned on: which frame, or the label names.
        steps: denoising steps of the schedule that timesteps count in.
        precision: of the backbone's arithmetic, the VAE's aside.
        store_dtype: of the features on disk.
        pad: what fills the last window: ``black`` frames (the paper) or the last frame, ``repeat``.
        noise: ``seeded`` adds noise of the timestep's level to the latents, drawn anew from video, window and timestep.
        pool: how a layer's map becomes one vector: ``mean`` (the paper), or a grid of means such as ``4x4``.
        resize: how frames come to their size: ``stretch`` (the paper), ``crop`` (the short side to the size, then the
            centre) or ``margin-crop`` (the short side to 8/7 of it, then the centre).
        random_weights: seed of weights that were drawn and not trained, None for published ones.
        labels: whose text embeddings the U-Net is conditioned on, for the condition ``text``.
        text_sha256: hash of the text tower's weights, "" for other conditions.
        vae_precision: of the VAE's arithmetic: ``float32`` or ``bfloat16``.
        decoder_sha256: hash of the U-Net's up blocks, "" where layers 14 and up are not in use.
        procedure: version of the procedure itself.
    """

    backbone: str
    weights_sha256: str
    size_hw: tuple[int, int]
    stride: int = 4
    fps: float | None = None
    window: int = 25
    condition: str = "middle"
    steps: int = 30
    precision: str = "float32"
    store_dtype: str = "float16"
    pad: str = "black"
    noise: str = "none"
    pool: str = "mean"
    resize: str = "stretch"
    random_weights: int | None = None
    labels: tuple[str, ...] = ()
    text_sha256: str = ""
    vae_precision: str = "float32"
    decoder_sha256: str = ""
    procedure: int = PROCEDURE

    def __post_init__(self) -> None:
        for name, rule in (("stride", 1), ("window", 1), ("steps", 2)):
            if getattr(self, name) < rule:
                raise InputError(f"--{name} is at least {rule}; got {getattr(self, name)}.")
        if not all(side in SIDES for side in self.size_hw):
            raise InputError(f"--size is HEIGHTxWIDTH with sides of {SIDES[0]} to {SIDES[-1]}; got {self.size_hw}.")
        for name, choices in CHOICES.items():
            if getattr(self, name) not in choices:
                raise InputError(f"{name} is one of {', '.join(choices)}; got {getattr(self, name)!r}.")
        if self.fps is not None and not 0 < self.fps <= MAX_FPS:
            raise InputError(f"--fps is above 0 and at most {MAX_FPS:g}; got {self.fps}.")
        if self.pool != "mean" and re.fullmatch(r"[1-9]\d?x[1-9]\d?", self.pool) is None:
            raise InputError(f"--pool is mean or a grid ROWSxCOLUMNS such as 4x4; got {self.pool!r}.")

        if self.random_weights is not None and self.random_weights < 0:
            raise InputError(f"--random-weights takes a seed of 0 or more; got {self.random_weights}.")
        if (self.condition == "text") != bool(self.labels):
            raise InputError(
                "--condition text needs label names, which the manifest gives, and no other condition takes them; got "
                f"--condition {self.condition} and {len(self.labels)} labels."
            )

    @property
    def pool_grid(self) -> tuple[int, int]:
        """Rows and columns of means that a layer's map is pooled to."""
        rows, columns = ("1", "1") if self.pool == "mean" else self.pool.split("x")
        return int(rows), int(columns)

    @property
    def sampling(self) -> Sampling:
        """Which frames of a clip are used."""
        return Sampling(self.stride, self.fps)

    @property
    def schedule(self) -> Schedule:
        """The noise levels that timesteps count in."""
        return Schedule(self.steps)

    def to_json(self) -> dict[str, Any]:
        """As JSON values, for the store's header and a run's configuration.

        Fields that came later are left out where they have their default, so that stores made before stay the same.
        """
        document = dataclasses.asdict(self) | {"size_hw": list(self.size_hw), "labels": list(self.labels)}
        unused = {name for name in ADDED if getattr(self, name) == getattr(type(self), name)}
        return {name: value for name, value in document.items() if name not in unused}

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> "Recipe":
        """The inverse of :meth:`to_json`.

        Raises:
            InputError: fields that this version does not know, or of a newer procedure.
        """
        known = {field.name for field in dataclasses.fields(cls)}
        if unknown := sorted(document.keys() - known):
            raise InputError(f"This version does not know the recipe's {', '.join(unknown)}. Update actiondiff.")
        if document.get("procedure") != PROCEDURE:
            raise InputError(
                f"This version makes features of procedure {PROCEDURE}; the recipe says {document.get('procedure')}."
            )
        lists = {"size_hw": tuple(document["size_hw"]), "labels": tuple(document.get("labels", ()))}
        return cls(**{**document, **lists})
