"""actiondiff: frozen video-diffusion features for action recognition in domains never trained on.

Rooms, in the order of a frame's way: :mod:`actiondiff.manifests` (which clips), :mod:`actiondiff.extract`
(clips to features), :mod:`actiondiff.store` (features on disk), :mod:`actiondiff.heads` (features to labels).
"""

__version__ = "0.1.0"


class ActionDiffError(Exception):
    """Root of every error that this package raises on purpose; its message says rule, finding and remedy."""


class InputError(ActionDiffError, ValueError):
    """An argument or a file's content breaks a rule; the command line answers it with exit code 2."""
