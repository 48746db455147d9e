"""From what a user types to keys: ``9``, ``3,6,9``, ``1-13`` and ``all``."""

import re
from collections.abc import Collection, Sequence

from actiondiff import InputError
from actiondiff.extract.backbone import backbone_spec
from actiondiff.store import FeatureKey


def parse_numbers(
    text: str, allowed: Collection[int], rule: str, every: Sequence[int] | None = None
) -> tuple[int, ...]:
    """Read a list of numbers and ranges.

    Args:
        text: such as ``9``, ``3,6,9``, ``1-13`` or ``all``.
        allowed: the numbers that exist.
        rule: which numbers exist, in words, for the message.
        every: what ``all`` stands for, if not all that exist.

    Raises:
        InputError: not of this form, or a number that does not exist.
    """
    if text.strip() == "all":
        return tuple(sorted(allowed) if every is None else every)
    numbers: set[int] = set()
    for piece in text.split(","):
        match = re.fullmatch(r"\s*(\d+)\s*(?:-\s*(\d+)\s*)?", piece)
        if match is None:
            raise InputError(f"Numbers are given like 9 or 3,6,9 or 1-13 or all; got {text!r}. {rule}")
        first, last = int(match[1]), int(match[2] or match[1])
        if last < first:
            raise InputError(f"A range goes from the smaller to the larger number; got {piece.strip()!r}. {rule}")
        for number in (first, last):
            if number not in allowed:
                raise InputError(f"{number} does not exist. {rule}")
        numbers.update(range(first, last + 1))
    return tuple(sorted(numbers))


def feature_keys(
    backbone: str, layers: str | None, timesteps: str | None, steps: int | None = None, *, depth: int | None = None
) -> list[FeatureKey]:
    """Every pair of the layers and timesteps asked for; None takes the backbone's usual one.

    Args:
        backbone: name in the table.
        layers: such as ``9``, ``3,6,9``, ``1-13`` or ``all``.
        timesteps: likewise.
        steps: of the schedule, if not the backbone's default.
        depth: layers of the network at hand, where its weights are not the table's; the last is then the usual one.

    Raises:
        InputError: a layer or timestep that the backbone does not have.
    """
    spec = backbone_spec(backbone)
    steps = spec.timesteps if steps is None or spec.family != "svd" else steps
    usual = spec.key if depth is None else FeatureKey(depth, spec.key.timestep)
    depth = depth or spec.layers
    layer_rule = f"{backbone} has layers 1 to {depth}; {usual.layer} is the usual one."
    if spec.decoder_layers:
        layer_rule += f" {spec.decoder_layers[0]} to {spec.decoder_layers[-1]} are its decoder's."
    step_rule = f"{backbone} has timesteps 0 to {steps - 1}; {usual.timestep} is the usual one."
    if steps == 1:
        step_rule = f"{backbone} has one timestep, 0."
    every = range(1, depth + 1)
    chosen_layers = _choose(layers, usual.layer, every, (*every, *spec.decoder_layers), "Layer", layer_rule)
    chosen_steps = _choose(timesteps, usual.timestep, range(steps), range(steps), "Timestep", step_rule)
    return [FeatureKey(layer, timestep) for layer in chosen_layers for timestep in chosen_steps]


def parse_size(text: str) -> tuple[int, int]:
    """Read ``HEIGHTxWIDTH``.

    Raises:
        InputError: not of this form.
    """
    match = re.fullmatch(r"(\d+)x(\d+)", text.strip().lower())
    if match is None:
        raise InputError(f"A size is HEIGHTxWIDTH, such as 576x1024; got {text!r}.")
    return int(match[1]), int(match[2])


def _choose(
    text: str | None, usual: int, every: Sequence[int], allowed: Collection[int], noun: str, rule: str
) -> Sequence[int]:
    if text is None:
        return [usual]
    try:
        return parse_numbers(text, allowed, rule, every)
    except InputError as error:
        raise InputError(f"{noun} {error}" if str(error)[0].isdigit() else str(error)) from None
