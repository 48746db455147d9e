"""Writing behind: a thread hands videos to the store while the device goes on."""

from queue import Queue
from threading import Event, Thread

from actiondiff.store import Failure, StoreWriter, VideoFeatures

_MOST_WAITING = 4
"""Videos that may wait for the disk: enough to write a part meanwhile, few enough that memory stays small."""


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
            while (item := self._queue.get()) is not None:
                self._try(item)
                del item  # a video's features are not kept until the next one comes
            self._try(None)
        finally:
            self._finished.set()

    def _try(self, item: VideoFeatures | Failure | None) -> None:
        """Hand over an item, or commit; an error is kept for the other thread, and what comes later is tried, too."""
        try:
            if item is None:
                self._writer.commit()
            elif isinstance(item, Failure):
                self._writer.fail(item)
            else:
                self._writer.add(item)
        except BaseException as error:
            self._error = self._error or error
