"""MixUp: train on blends of two videos (Zhang et al., 2018)."""

import numpy as np
import torch

from actiondiff.heads.batch import Batch


def mixup(batch: Batch, alpha: float, generator: np.random.Generator) -> Batch:
    """Blend every video of a batch with another one of it, with one weight drawn for the whole batch.

    Frames that only one of the two has are blended with zeros; the mask of a blend is the union.

    Args:
        batch: as gathered.
        alpha: the weight is drawn from Beta(alpha, alpha); 0 leaves the batch as it is.
        generator: where the weight and the partners are drawn from.
    """
    if alpha == 0:
        return batch
    weight = float(generator.beta(alpha, alpha))
    return blend(batch, generator.permutation(len(batch)), weight)


def epoch_draws(seed: int, epoch: int) -> tuple[np.random.Generator, int]:
    """Where an epoch's blends are drawn from, and the seed of what torch draws in it, such as dropout."""
    generator = np.random.default_rng([seed, 1, epoch])
    return generator, int(generator.integers(2**62))


def blend(batch: Batch, partners: np.ndarray, weight: float) -> Batch:
    """Each video times ``weight`` plus its partner times ``1 - weight``, labels likewise."""
    order = torch.from_numpy(partners).to(batch.features_BFC.device)
    return Batch(
        weight * batch.features_BFC + (1 - weight) * batch.features_BFC.index_select(-3, order),
        batch.mask_BF | batch.mask_BF[order],
        weight * batch.targets_BK + (1 - weight) * batch.targets_BK[order],
    )
