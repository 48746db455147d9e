"""The learning rate's way: up in a straight line, down along half a cosine, step by step."""

import math


def lr_factor(step: int, warmup_steps: int, total_steps: int) -> float:
    """What the learning rate is multiplied by at a step.

    Args:
        step: steps done, from 0.
        warmup_steps: steps of the linear rise from 0 to 1.
        total_steps: when the cosine has reached 0.
    """
    if step < warmup_steps:
        return step / warmup_steps
    progress = (step - warmup_steps) / max(1, total_steps - warmup_steps)
    return 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))


def warmup_length(warmup_epochs: int, epochs: int, steps_per_epoch: int) -> int:
    """Steps of warm-up: as many epochs as asked for, but never more than half of them all."""
    return min(warmup_epochs * steps_per_epoch, epochs * steps_per_epoch // 2)
