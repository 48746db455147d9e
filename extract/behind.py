"""Writing behind: a thread hands videos to the store while the device goes on."""

from collections.abc import Callable
from queue import Empty, Queue
from threading import Event, Thread

from actiondiff.store import Failure, StoreWriter, VideoFeatures

_MOST_WAITING = 4
"""Videos that may wait for the disk: enough to write a part meanwhile, few enough that memory stays small."""


_LOOK_SECONDS = 5.0
"""How often it is asked whether what is in hand is old enough for a part, while nothing comes."""


class Behind:
    """A store's writer on a thread of its own. What it raises is raised by the next call, or on leaving.

    On leaving, also by an error or Ctrl-C, everything that was handed over is written, by the same thread: no other one
    touches the writer. A further Ctrl-C does not leave sooner; it is raised when the thread is done.
    """

    def __init__(self, writer: StoreWriter) -> None:
        self._writer = writer
        self._queue: Queue[VideoFeatures | Failure | None] = Queue(_MOST_WAITING)
        self._error: BaseException | None = None
        self._finished = Event()
        self._thread = Thread(target=self._write, name="write", daemon=True)

    def add(self, video: VideoFeatures) -> None:
        """As :meth:`StoreWriter.add`."""
        self._submit(video)

    def fail(self, failure: Failure) -> None:
        """As :meth:`StoreWriter.fail`."""
        self._submit(failure)

    def __enter__(self) -> "Behind":
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: object) -> None:
        interrupt = self._wait()
        if self._error is not None and self._error is not error:
            raise self._error
        if interrupt is not None and kind is None:
            raise interrupt

    def _submit(self, item: VideoFeatures | Failure) -> None:
        if self._error is not None:
            raise self._error
        self._queue.put(item)

    def _wait(self) -> KeyboardInterrupt | None:
        """Wait until the thread has written everything; gives back an interrupt that came meanwhile.

        Not by joining it: a join that is interrupted takes the thread for ended.
        """
        interrupt, told = None, False
        while not self._finished.is_set():
            try:
                if not told:
                    self._queue.put(None)
                    told = True
                self._finished.wait()
            except KeyboardInterrupt as error:
                interrupt = error
        return interrupt

    def _write(self) -> None:
        try:
            while self._next():
                pass
            self._try(self._writer.commit)
        finally:
            self._finished.set()

    def _next(self) -> bool:
        """Hand over what comes next, which is not kept here; False at the end.

        While a video takes hours, the finished ones before it become a part.
        """
        try:
            item = self._queue.get(timeout=_LOOK_SECONDS)
        except Empty:
            self._try(self._writer.commit_if_due)
            return True
        if isinstance(item, Failure):
            self._try(self._writer.fail, item)
        elif item is not None:
            self._try(self._writer.add, item)
        return item is not None

    def _try(self, function: Callable[..., None], *arguments: VideoFeatures | Failure) -> None:
        """Call a method of the writer; an error is kept for the other thread, and what comes later is tried, too."""
        try:
            function(*arguments)
        except BaseException as error:
            self._error = self._error or error
