"""What can go wrong with a store; each is also the builtin that a caller would catch anyway."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager

from actiondiff import ActionDiffError, InputError


class StoreError(ActionDiffError):
    """Something on disk is not what its format promises."""


class PartGone(StoreError):
    """A part that was there is not any more: it was merged into another, or dropped."""


class StoreBusy(ActionDiffError, BlockingIOError):
    """Another process is changing the store's parts right now."""


class StoreNotFound(InputError, FileNotFoundError):
    """There is no store at this path."""


class StoreNotWritable(InputError, OSError):
    """The store cannot be written to; it is as it was before."""


class StoreNotReadable(InputError, OSError):
    """The store's files cannot be read just now: no right to, a server that is away, too many files open."""


class RemoteError(InputError, OSError):
    """What lies behind a URL cannot be reached or read."""


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


_FULL = "its disk is full. Free some space, or choose another place"
_REMEDIES = {
    errno.ENOSPC: _FULL,
    errno.EDQUOT: "your quota there is used up. Free some space, or choose another place",
    errno.EACCES: "you have no permission to write there. Ask for it (`ls -ld` tells whom), or choose another place",
    errno.EPERM: "writing is not permitted there. Ask for it, or choose another place",
    errno.EROFS: "its file system is read-only. Choose another place",
    errno.ENOTDIR: "it lies below something that is a file. Choose another place",
    errno.EEXIST: "a file is where a folder should be. Move it away, or choose another place",
    errno.EMFILE: "too many files are open. Raise the limit: ulimit -n 4096",
    errno.ENOENT: "what was being written was taken away by another process",
}


_KEPT = "Nothing in the store was lost or changed; run it again and it goes on from there."


@contextmanager
def telling_why(place: object, kept: str = _KEPT) -> Iterator[None]:
    """Turn what the system says while writing into the rule that was broken and the remedy.

    Raises:
        StoreNotWritable: in place of every OSError that is not a message for people already.
    """
    try:
        yield
    except OSError as error:
        if isinstance(error, ActionDiffError):
            raise
        why = _REMEDIES.get(error.errno or 0, f"the system says: {error.strerror or error}")
        raise StoreNotWritable(f"{place} cannot be written: {why}. {kept}") from error


_OF_THE_FILE = {errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ELOOP, errno.EIO, errno.EBADMSG, errno.EUCLEAN}
"""What the system says of a file that is gone, is something else, or lies on a disk that cannot give it back."""

_NO_RIGHT = "you have no permission to. Ask for it (`ls -ld` tells whom)"
_TOO_MANY = (
    "too many files are open. Raise the limit (ulimit -n 4096), or merge the store's parts: actiondiff store compact"
)
_READING_REMEDIES = {
    errno.EACCES: _NO_RIGHT,
    errno.EPERM: _NO_RIGHT,
    errno.EMFILE: _TOO_MANY,
    errno.ENFILE: _TOO_MANY,
}


@contextmanager
def telling_unreadable(place: object) -> Iterator[None]:
    """Tell what says nothing of a file itself (a right, a server, a limit) from a file that is damaged or gone.

    Whoever takes an OSError for damage asks this first: what is not known to be damaged must not be dropped.

    Raises:
        StoreNotReadable: in place of such an OSError; others, and messages for people, go on as they are.
    """
    try:
        yield
    except OSError as error:
        known = isinstance(error, ActionDiffError | FileNotFoundError | NotADirectoryError | IsADirectoryError)
        if known or error.errno in _OF_THE_FILE:
            raise
        why = _READING_REMEDIES.get(error.errno or 0, f"the system says: {error.strerror or error}. Try again later")
        raise StoreNotReadable(f"{place} cannot be read: {why}.") from error
