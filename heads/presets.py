"""Every setting of a fit in one frozen record, and the paper's settings as a table."""

from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from actiondiff import InputError
from actiondiff.heads.losses import LOSSES
from actiondiff.heads.models import HeadConfig


@dataclass(frozen=True)
class FitConfig:
    """Settings of a fit; the defaults are for small data sets (tens to hundreds of clips).

    Attributes:
        head: ``linear``, ``mlp`` or ``transformer``.
        layers: encoder layers of the transformer.
        attention_heads: attention heads of each encoder layer.
        dropout: inside transformer and MLP.
        hidden: width of the MLP's hidden layer.
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
        standardize: whether the head brings channels to mean 0 and deviation 1 of the training features.
        val_fraction: share of the training part set aside for choosing the epoch where no validation part is given.
        seed: of weights, order, MixUp, dropout and the set-aside part.
        preset: name of the preset that the values come from, if any.
    """

    head: str = "transformer"
    layers: int = 2
    attention_heads: int = 8
    dropout: float = 0.1
    hidden: int = 512
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
    standardize: bool = True
    val_fraction: float = 0.2
    seed: int = 0
    preset: str | None = None

    def __post_init__(self) -> None:
        if self.loss is not None and self.loss not in LOSSES:
            raise InputError(f"A loss is one of {', '.join(LOSSES)}; got {self.loss!r}.")
        if wrong := {name: getattr(self, name) for name in ("epochs", "batch_size") if getattr(self, name) < 1}:
            raise InputError(f"Epochs and batch size are 1 or more; got {wrong}.")
        positive = ("weight_decay", "mixup", "warmup_epochs", "focal_alpha", "focal_gamma", "seed")
        if wrong := {name: getattr(self, name) for name in positive if getattr(self, name) < 0}:
            raise InputError(f"These settings are 0 or more; got {wrong}.")
        if not self.lr > 0 or not 0 <= self.val_fraction < 1:
            raise InputError(
                f"The learning rate is above 0 and the validation fraction from 0 to below 1; got {self.lr} and "
                f"{self.val_fraction}."
            )
        self.head_config(self.attention_heads, 1, max_length=1 if self.max_length is None else self.max_length)

    def head_config(self, channels: int, classes: int, max_length: int) -> HeadConfig:
        """The head that these settings ask for on such features."""
        shared = ("layers", "attention_heads", "dropout", "hidden", "standardize")
        values = {name: getattr(self, name) for name in shared}
        return HeadConfig(kind=self.head, channels=channels, classes=classes, max_length=max_length, **values)

    def to_dict(self) -> dict[str, Any]:
        """The settings as JSON values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "FitConfig":
        """The settings that a run's ``config.json`` holds; names that this version does not know are refused."""
        known = {field.name for field in fields(cls)}
        if unknown := sorted(values.keys() - known):
            raise InputError(f"There is no setting {', '.join(unknown)}; there are {', '.join(sorted(known))}.")
        return cls(**values)


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
        head: ``linear``, ``mlp`` or ``transformer``.
        preset: one of :data:`PRESETS`.
        **settings: fields of :class:`FitConfig`; None leaves a setting as it is.

    Raises:
        InputError: unknown preset or setting, or a value out of range.
    """
    if preset is not None and preset not in PRESETS:
        raise InputError(f"A preset is one of {', '.join(PRESETS)}; got {preset!r}.")
    given = {name: value for name, value in settings.items() if value is not None}
    values = {**PRESETS.get(preset or "", {}), **given, "head": head, "preset": preset}
    return FitConfig.from_dict(values)


def resolved(config: FitConfig, longest: int, multilabel: bool) -> FitConfig:
    """The settings with nothing left open.

    Args:
        config: as the user gave it.
        longest: frames of the longest training video.
        multilabel: whether videos have several labels.

    Raises:
        InputError: cross-entropy for several labels.
    """
    loss = config.loss or ("focal" if multilabel else "cross-entropy")
    if multilabel and loss == "cross-entropy":
        raise InputError("Cross-entropy is for one label a video, and some here have several. Use focal or bce.")
    return replace(config, loss=loss, max_length=config.max_length or longest)
