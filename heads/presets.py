"""Every setting of a fit in one frozen record, and the paper's settings as a table."""

from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from actiondiff import InputError
from actiondiff.heads.losses import CLASS_WEIGHTS, LOSSES
from actiondiff.heads.models import HeadConfig

PRECISIONS = ("auto", "float32", "bfloat16")
WIDE = 2048
"""Features of more channels, such as those pooled on a grid, are projected to :data:`INNER_WIDTH` a frame."""
INNER_WIDTH = 1280


@dataclass(frozen=True)
class FitConfig:
    """Settings of a fit; the defaults are for small data sets (tens to hundreds of clips).

    Attributes:
        head: ``linear``, ``mlp``, ``transformer`` or ``attentive``.
        layers: encoder layers of the transformer.
        attention_heads: attention heads of each encoder layer and of the attentive head.
        dropout: inside every head but the linear one.
        hidden: width of the MLP's hidden layer.
        width: channels that frames are projected to first, by every head but the linear one; None for no projection up
            to 2,048 channels, and 1,280 for more.
        lr: highest learning rate of AdamW.
        weight_decay: of AdamW.
        mixup: MixUp's Beta parameter, 0 for none.
        epochs: passes over the training part.
        batch_size: videos a step.
        warmup_epochs: of linear warm-up, at most half of the epochs; a cosine to 0 follows.
        max_length: frames of a video that are used; None for as many as the longest training video has.
        loss: ``cross-entropy``, ``focal`` or ``bce``; None for cross-entropy where videos have one label, else focal.
        focal_alpha: scale of the focal loss.
        focal_gamma: its exponent.
        class_weights: ``none``, or ``balanced`` for terms weighed by the inverse of each class's count in training.
        label_smoothing: share of the way that targets are moved to knowing nothing, from 0 to below 1.
        standardize: whether the head brings channels to mean 0 and deviation 1 of the training features.
        val_fraction: share of the training part set aside for choosing the epoch where no validation part is given.
        patience: epochs without a better validation metric after which training stops; None for never.
        precision: ``float32``, ``bfloat16`` for the arithmetic of training, or ``auto``: bfloat16 where it is faster.
        seed: of weights, order, MixUp, dropout and the set-aside part.
        preset: name of the preset that the values come from, if any.
        given: names of the settings that were given beside or over the preset.
        settled: names of the settings that were open and that the data or the device settled.
    """

    head: str = "transformer"
    layers: int = 2
    attention_heads: int = 8
    dropout: float = 0.1
    hidden: int = 512
    width: int | None = None
    lr: float = 1e-3
    weight_decay: float = 1e-2
    mixup: float = 0.0
    epochs: int = 30
    batch_size: int = 16
    warmup_epochs: int = 4
    max_length: int | None = None
    loss: str | None = None
    focal_alpha: float = 0.25
    focal_gamma: float = 2.0
    class_weights: str = "none"
    label_smoothing: float = 0.0
    standardize: bool = True
    val_fraction: float = 0.2
    patience: int | None = None
    precision: str = "auto"
    seed: int = 0
    preset: str | None = None
    given: tuple[str, ...] = ()
    settled: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.loss is not None and self.loss not in LOSSES:
            raise InputError(f"A loss is one of {', '.join(LOSSES)}; got {self.loss!r}.")
        for name, allowed in (("class_weights", CLASS_WEIGHTS), ("precision", PRECISIONS)):
            if getattr(self, name) not in allowed:
                raise InputError(f"{name} is one of {', '.join(allowed)}; got {getattr(self, name)!r}.")
        counts = {
            "epochs": self.epochs,
            "batch_size": self.batch_size,
            "patience": 1 if self.patience is None else self.patience,
        }
        if wrong := {name: value for name, value in counts.items() if value < 1}:
            raise InputError(f"Epochs, batch size and patience are 1 or more; got {wrong}.")
        positive = ("weight_decay", "mixup", "warmup_epochs", "focal_alpha", "focal_gamma", "seed")
        if wrong := {name: getattr(self, name) for name in positive if getattr(self, name) < 0}:
            raise InputError(f"These settings are 0 or more; got {wrong}.")
        if not self.lr > 0 or not 0 <= self.val_fraction < 1 or not 0 <= self.label_smoothing < 1:
            raise InputError(
                "The learning rate is above 0, the validation fraction and the label smoothing from 0 to below 1; got "
                f"{self.lr}, {self.val_fraction} and {self.label_smoothing}."
            )
        self.head_config(self.attention_heads, 1, max_length=1 if self.max_length is None else self.max_length)

    def head_config(self, channels: int, classes: int, max_length: int) -> HeadConfig:
        """The head that these settings ask for on such features."""
        shared = ("layers", "attention_heads", "dropout", "hidden", "standardize", "width")
        values = {name: getattr(self, name) for name in shared}
        return HeadConfig(kind=self.head, channels=channels, classes=classes, max_length=max_length, **values)

    def to_dict(self) -> dict[str, Any]:
        """The settings as JSON values."""
        return asdict(self) | {"given": list(self.given), "settled": list(self.settled)}

    def origins(self) -> dict[str, str]:
        """Where the value of each setting came from: an option, the preset, the data, the device, or the default."""
        return {
            field.name: self._origin(field.name)
            for field in fields(self)
            if field.name not in ("preset", "given", "settled")
        }

    def _origin(self, name: str) -> str:
        if name in self.settled:
            return "device" if name == "precision" else "data"
        if name in self.given:
            return "option"
        return f"preset {self.preset}" if name in PRESETS.get(self.preset or "", {}) else "default"

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "FitConfig":
        """The settings that a run's ``config.json`` holds; names that this version does not know are refused."""
        known = {field.name for field in fields(cls)}
        if unknown := sorted(values.keys() - known):
            raise InputError(f"There is no setting {', '.join(unknown)}; there are {', '.join(sorted(known))}.")
        plain: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value for name, value in values.items()
        }
        return cls(**plain)


_PAPER = {"layers": 6, "standardize": False, "batch_size": 16, "warmup_epochs": 4, "dropout": 0.1}
_CHARADES = {"loss": "focal", "focal_alpha": 1.0, "lr": 1e-4, "weight_decay": 1e-3, "mixup": 0.3, "max_length": 400}

PRESETS: dict[str, dict[str, Any]] = {
    "animal-kingdom": {
        **_PAPER,
        "loss": "focal",
        "focal_alpha": 0.25,
        "lr": 3e-5,
        "weight_decay": 1e-4,
        "mixup": 0.2,
        "epochs": 15,
        "max_length": 150,
    },
    "charades-ego": {**_PAPER, **_CHARADES, "layers": 7, "epochs": 12},
    "charades-ego-3to1": {**_PAPER, **_CHARADES, "layers": 7, "epochs": 10},
    "ucf-hmdb": {
        **_PAPER,
        "loss": "cross-entropy",
        "lr": 1e-5,
        "weight_decay": 1e-4,
        "mixup": 0.0,
        "epochs": 15,
        "max_length": 500,
    },
}
"""The paper's settings by data set (its supplement's table of training details)."""


def configure(head: str = "transformer", preset: str | None = None, **settings: Any) -> FitConfig:
    """Settings of a fit: the defaults, over them a preset's values, over them what is given here.

    Args:
        head: ``linear``, ``mlp``, ``transformer`` or ``attentive``.
        preset: one of :data:`PRESETS`.
        **settings: fields of :class:`FitConfig`; None leaves a setting as it is.

    Raises:
        InputError: unknown preset or setting, or a value out of range.
    """
    if preset is not None and preset not in PRESETS:
        raise InputError(f"A preset is one of {', '.join(PRESETS)}; got {preset!r}.")
    given = {name: value for name, value in settings.items() if value is not None}
    values = {**PRESETS.get(preset or "", {}), **given, "head": head, "preset": preset, "given": ("head", *given)}
    return FitConfig.from_dict(values)


def resolved(config: FitConfig, longest: int, multilabel: bool, channels: int = 1) -> FitConfig:
    """The settings with nothing left open to the data.

    Args:
        config: as the user gave it.
        longest: frames of the longest training video.
        multilabel: whether videos have several labels.
        channels: of the features.

    Raises:
        InputError: cross-entropy for several labels.
    """
    found: dict[str, Any] = {"loss": "focal" if multilabel else "cross-entropy", "max_length": longest}
    if channels > WIDE and config.head != "linear":
        found["width"] = INNER_WIDTH
    found = {name: value for name, value in found.items() if getattr(config, name) is None}
    config = replace(config, **found, settled=(*config.settled, *found))
    if multilabel and config.loss == "cross-entropy":
        raise InputError("Cross-entropy is for one label a video, and some here have several. Use focal or bce.")
    return config
