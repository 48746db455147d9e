"""Decoding ahead: threads fill short queues with windows while the device works on earlier ones.

Clips come in the order of the tasks, and at most two windows more than there are threads wait, whatever the clips'
lengths, so that memory does not grow. Threads, not processes: FFmpeg and PyTorch release Python's lock while they work.
"""

from collections import deque
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from itertools import islice
from queue import Empty, Queue
from threading import Event

from actiondiff import InputError
from actiondiff.extract.planning import Task
from actiondiff.extract.recipe import Recipe
from actiondiff.extract.windows import Window, cut_windows
from actiondiff.store import Source

_WAIT_SECONDS = 0.05


class Stream:
    """The windows of one task, raising what decoding raised, where it raised it.

    Attributes:
        source: known when the windows have been read to the end.
        notes: what is odd about the clip, likewise.
    """

    def __init__(self, task: Task, recipe: Recipe, decoder_threads: int = 0) -> None:
        self.task = task
        self.source: Source | None = None
        self.notes: tuple[str, ...] = ()
        self._recipe, self._decoder_threads = recipe, decoder_threads

    def __iter__(self) -> Iterator[Window]:
        """Decode in this thread."""
        frames = self.task.clip.frames(self._recipe.sampling, threads=self._decoder_threads)
        yield from cut_windows(self.task.clip, self._recipe, self.task.video.video_id, frames)
        self.source, self.notes = self.task.clip.source(), tuple(frames.reading.notes)

    def close(self) -> None:
        """Let go of what is left."""


class _Ahead(Stream):
    """A stream that another thread decodes; one finished window waits at most."""

    def __init__(self, task: Task, recipe: Recipe, pool: ThreadPoolExecutor, decoder_threads: int) -> None:
        super().__init__(task, recipe, decoder_threads)
        self._queue: Queue[Window | BaseException | None] = Queue(maxsize=1)
        self._cancelled = Event()
        self._work: Future[None] = pool.submit(self._fill)

    def __iter__(self) -> Iterator[Window]:
        while (item := self._queue.get()) is not None:
            if isinstance(item, BaseException):
                raise item
            yield item

    def close(self) -> None:
        """Stop decoding, and wait until it has stopped."""
        self._cancelled.set()
        self._work.cancel()
        while not self._work.done():
            with suppress(Empty):
                self._queue.get(timeout=_WAIT_SECONDS)

    def _fill(self) -> None:
        try:
            for window in super().__iter__():
                if self._cancelled.is_set():
                    return
                self._queue.put(window)
        except BaseException as error:
            self._queue.put(error)
        else:
            self._queue.put(None)


def streams(tasks: Sequence[Task], recipe: Recipe, workers: int) -> Generator[Stream, None, None]:
    """Streams of the tasks in order, decoded by as many threads as said; 0 decodes when asked for.

    Closing the iterator, also by an error, stops all threads.
    """
    if workers < 0:
        raise InputError(f"--workers is 0 or more; got {workers}.")
    if workers == 0:
        yield from (Stream(task, recipe) for task in tasks)
        return
    decoder_threads = 0 if workers == 1 else 1  # several clips at once keep the cores busy by themselves
    with ThreadPoolExecutor(workers, thread_name_prefix="decode") as pool:
        upcoming = iter(tasks)
        begun = deque(_Ahead(task, recipe, pool, decoder_threads) for task in islice(upcoming, workers + 1))
        try:
            while begun:
                yield begun[0]
                begun.popleft().close()
                begun.extend(_Ahead(task, recipe, pool, decoder_threads) for task in islice(upcoming, 1))
        finally:
            for stream in begun:
                stream.close()
