"""Noise levels of Stable Video Diffusion, counted in the direction of generation (Karras et al. 2022, equation 5)."""

import math
from dataclasses import dataclass

from actiondiff import InputError

SIGMA_MAX = 700.0
SIGMA_MIN = 0.002
RHO = 7.0


@dataclass(frozen=True)
class Schedule:
    """The noise levels of ``steps`` denoising steps: timestep 0 is the noisiest, the last is almost clean."""

    steps: int = 30

    def __post_init__(self) -> None:
        if self.steps < 2:
            raise InputError(f"A schedule has at least 2 steps; got {self.steps}. The paper's has 30.")

    def sigma(self, timestep: int) -> float:
        """Noise level at a timestep.

        Raises:
            InputError: a timestep outside 0 to ``steps - 1``.
        """
        if not 0 <= timestep < self.steps:
            raise InputError(
                f"Timestep {timestep} does not exist. A schedule of {self.steps} steps has timesteps 0 (most noise) "
                f"to {self.steps - 1} (least); the paper's is 20 of 30."
            )
        high, low = SIGMA_MAX ** (1 / RHO), SIGMA_MIN ** (1 / RHO)
        return (high + timestep / (self.steps - 1) * (low - high)) ** RHO

    def input_scale(self, timestep: int) -> float:
        """What a clean latent is multiplied by on entering the U-Net: 1 / sqrt(sigma^2 + 1)."""
        return 1 / math.sqrt(self.sigma(timestep) ** 2 + 1)

    def noise_label(self, timestep: int) -> float:
        """What the U-Net is told as its continuous timestep: ln(sigma) / 4."""
        return 0.25 * math.log(self.sigma(timestep))
