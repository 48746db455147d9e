"""What can go wrong with a store; each is also the builtin that a caller would catch anyway."""

from actiondiff import ActionDiffError, InputError


class StoreError(ActionDiffError):
    """Something on disk is not what format 1 promises."""


class PartGone(StoreError):
    """A part that was there is not any more: it was merged into another, or dropped."""


class StoreBusy(ActionDiffError, BlockingIOError):
    """Another process is changing the store's parts right now."""


class StoreNotFound(InputError, FileNotFoundError):
    """There is no store at this path."""


class RecipeMismatch(InputError):
    """The store holds features of another recipe."""


class VideoNotFound(ActionDiffError, KeyError):
    """The store has no features of this video."""

    def __str__(self) -> str:  # KeyError would show the message in quotes
        return str(self.args[0])


class KeyNotFound(VideoNotFound):
    """The video is there, but not at this layer and timestep."""


class FeatureValueError(ActionDiffError, ValueError):
    """Features that may not be stored: ``code`` is ``not_finite`` or ``overflow``."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code

    def __reduce__(self) -> tuple[type, tuple[str, str]]:  # so that it comes whole out of another process
        return type(self), (self.code, str(self))
