"""Why a clip or a backbone could not be used."""

from actiondiff import ActionDiffError, InputError


class ClipError(ActionDiffError):
    """A clip cannot give features; ``code`` is stable, for programs and ledgers."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class WeightsNotFound(InputError, FileNotFoundError):
    """A backbone's weights are not where they were looked for."""


class WeightsError(InputError):
    """Weights are there, but are not those of the architecture they should fill."""
