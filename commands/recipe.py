"""Options for every setting of a fit; what is not given is left to the preset, or to the default."""

from typing import Any

import click

from actiondiff.commands.options import options

PRESETS = ("animal-kingdom", "charades-ego", "charades-ego-3to1", "ucf-hmdb")

SETTINGS: dict[str, tuple[str, Any, str]] = {
    "epochs": ("--epochs", int, "Passes over the training videos.  [default: 30]"),
    "batch_size": ("--batch-size", int, "Videos a step, over all devices.  [default: 16]"),
    "lr": ("--lr", float, "Highest learning rate of AdamW, a step.  [default: 0.001]"),
    "weight_decay": ("--weight-decay", float, "Of AdamW, a step and unit of learning rate.  [default: 0.01]"),
    "warmup_epochs": ("--warmup-epochs", int, "Epochs of linear warm-up, at most half of all.  [default: 4]"),
    "mixup": ("--mixup", float, "Beta parameter of MixUp, a number; 0 for none.  [default: 0.0]"),
    "max_length": (
        "--max-length",
        int,
        "Sampled frames of a video that are used.  [default: the longest training video]",
    ),
    "loss": (
        "--loss",
        click.Choice(("cross-entropy", "focal", "bce")),
        "[default: cross-entropy for one label a video, focal for several]",
    ),
    "focal_alpha": ("--focal-alpha", float, "Scale of the focal loss, a factor.  [default: 0.25]"),
    "focal_gamma": ("--focal-gamma", float, "Exponent of the focal loss, a number.  [default: 2.0]"),
    "class_weights": (
        "--class-weights",
        click.Choice(("none", "balanced")),
        "balanced weighs classes by 1 / their training videos.  [default: none]",
    ),
    "label_smoothing": ("--label-smoothing", float, "Share of every target given away, 0 to 1.  [default: 0.0]"),
    "layers": ("--encoder-layers", int, "Layers of the transformer, a count.  [default: 2]"),
    "attention_heads": ("--attention-heads", int, "A count for each attention layer.  [default: 8]"),
    "hidden": ("--hidden", int, "Channels of the MLP's hidden layer.  [default: 512]"),
    "width": (
        "--width",
        int,
        "Channels that each frame is projected to, not by linear.  [default: no projection; 1280 above 2048 channels]",
    ),
    "dropout": ("--dropout", float, "Share of units dropped, 0 to 1, not by linear.  [default: 0.1]"),
    "standardize": ("--standardize/--no-standardize", bool, "Channels to mean 0, deviation 1.  [default: yes]"),
    "val_fraction": (
        "--val-fraction",
        float,
        "Share of training videos set aside where no validation part is given, 0 to 1.  [default: 0.2]",
    ),
    "patience": ("--patience", int, "Epochs without a better validation metric before stopping.  [default: never]"),
    "precision": (
        "--precision",
        click.Choice(("auto", "float32", "bfloat16")),
        "Of training's arithmetic; auto is bfloat16 where it is faster.  [default: auto]",
    ),
    "seed": ("--seed", int, "A whole number; it decides everything random.  [default: 0]"),
}
"""By field of ``FitConfig``: the option, its type, and its help with unit and default."""


def _option(name: str) -> Any:
    flag, kind, text = SETTINGS[name]
    typed = {} if kind is bool else {"type": kind}
    return click.option(flag, name, default=None, help=text, **typed)


preset_option = click.option("--preset", type=click.Choice(PRESETS), help="The paper's settings for a data set.")


def recipe_options(*without: str) -> Any:
    """The options of all settings but some."""
    return options(preset_option, *(_option(name) for name in SETTINGS if name not in without))
