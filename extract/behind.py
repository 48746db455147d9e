"""Writing behind: a thread hands videos to the store while the device goes on."""

from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from actiondiff.store import Failure, StoreWriter, VideoFeatures

_MOST_WAITING = 4
"""Videos that may wait for the disk: enough to write a part meanwhile, few enough that memory stays small."""


class Behind:
    """A store's writer on a thread of its own. What it raises is raised by the next call, or on leaving.

    On leaving, also by an error or Ctrl-C, everything that was handed over is with the writer.
    """

    def __init__(self, writer: StoreWriter) -> None:
        self._writer = writer
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="write")
        self._waiting: deque[Future[None]] = deque()

    def add(self, video: VideoFeatures) -> None:
        """As :meth:`StoreWriter.add`."""
        self._submit(self._writer.add, video)

    def fail(self, failure: Failure) -> None:
        """As :meth:`StoreWriter.fail`."""
        self._submit(self._writer.fail, failure)

    def __enter__(self) -> "Behind":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._pool.shutdown(wait=True)
        while self._waiting:
            error = self._waiting.popleft().exception()
            if error is not None and kind is None:
                raise error

    def _submit(self, function: Callable[[Any], None], item: VideoFeatures | Failure) -> None:
        while self._waiting and (self._waiting[0].done() or len(self._waiting) >= _MOST_WAITING):
            self._waiting.popleft().result()
        self._waiting.append(self._pool.submit(function, item))
