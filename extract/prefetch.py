"""Decoding ahead: threads fill short queues with windows while the device works on earlier ones.

Clips come in the order of the tasks, and at most two windows more than there are threads wait, whatever the clips'
lengths, so that memory does not grow. Threads, not processes: FFmpeg and PyTorch release Python's lock while they work.
"""

from collections import deque
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import suppress
from itertools import islice
from queue import Empty, Full, Queue
from threading import Event

from actiondiff import InputError
from actiondiff.extract.clips import Frame
from actiondiff.extract.planning import Task
from actiondiff.extract.recipe import Recipe
from actiondiff.extract.windows import Window, cut_windows
from actiondiff.store import Source

_WAIT_SECONDS = 0.05
_USUAL_RATE = 30.0
"""Frames a second of most cameras, to tell about how many frames are behind those that are used."""


class Stream:
    """The windows of one task, raising what decoding raised, where it raised it.

    Attributes:
        source: known when the windows have been read to the end.
        notes: what is odd about the clip, likewise.
    """

    def __init__(self, task: Task, recipe: Recipe, short_frames: int = 0) -> None:
        self.task = task
        self.source: Source | None = None
        self.notes: tuple[str, ...] = ()
        self._recipe, self._short_frames = recipe, short_frames

    def __iter__(self) -> Iterator[Window]:
        """Decode in this thread."""
        frames = self.task.clip.frames(self._recipe.sampling, short_frames=self._short_frames)
        yield from cut_windows(self.task.clip, self._recipe, self.task.video.video_id, self._wanted(frames))
        self.source, self.notes = self.task.clip.source(), tuple(frames.reading.notes)

    def close(self) -> None:
        """Let go of what is left."""

    def _wanted(self, frames: Iterator[Frame]) -> Iterator[Frame]:
        return frames


class _Stopped(Exception):
    """Nobody wants the rest of a stream."""


class _Ahead(Stream):
    """A stream that another thread decodes; one finished window waits at most.

    Args:
        task: the clip.
        recipe: how it is cut.
        pool: of the threads.
        short_frames: clips of at most so many are decoded by a single thread.
        stop: set when nothing is wanted of any stream.
    """

    def __init__(self, task: Task, recipe: Recipe, pool: ThreadPoolExecutor, short_frames: int, stop: Event) -> None:
        super().__init__(task, recipe, short_frames)
        self._queue: Queue[Window | BaseException | None] = Queue(maxsize=1)
        self._cancelled, self._stop = Event(), stop
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
        with suppress(Empty):
            self._queue.get_nowait()  # the thread need not wait to see it
        wait([self._work])

    def _fill(self) -> None:
        try:
            for window in super().__iter__():
                self._put(window)
            self._put(None)
        except _Stopped:
            pass
        except BaseException as error:
            with suppress(_Stopped):
                self._put(error)

    def _put(self, item: Window | BaseException | None) -> None:
        while True:
            self._check()
            with suppress(Full):
                return self._queue.put(item, timeout=_WAIT_SECONDS)

    def _wanted(self, frames: Iterator[Frame]) -> Iterator[Frame]:
        """The frames, as long as anybody wants them: a window of large ones takes seconds."""
        for frame in frames:
            self._check()
            yield frame
            del frame

    def _check(self) -> None:
        if self._cancelled.is_set() or self._stop.is_set():
            raise _Stopped


def check_workers(workers: int) -> None:
    """Refuse a number of threads below 0."""
    if workers < 0:
        raise InputError(f"--workers is 0 or more; got {workers}.")


def most_frames_at_once(recipe: Recipe, workers: int) -> int:
    """Up to how many source frames a clip is decoded by a single thread, one clip beside the other.

    The windows of such a clip find room, one waiting and one in hand, so that several clips keep the cores busy. Of
    longer ones only the clip in front is decoded, while all others wait with what they have: it gets every core.
    """
    stride = recipe.stride if recipe.fps is None else max(1.0, _USUAL_RATE / recipe.fps)
    return round(2 * recipe.window * stride) if workers > 1 else 0


def streams(tasks: Sequence[Task], recipe: Recipe, workers: int) -> Generator[Stream, None, None]:
    """Streams of the tasks in order, decoded by as many threads as said; 0 decodes when asked for.

    Closing the iterator, also by an error, stops all threads. They are told at once and stop by themselves, so that an
    interrupt while they are waited for leaves none behind.
    """
    check_workers(workers)
    if workers == 0:
        yield from (Stream(task, recipe) for task in tasks)
        return
    short_frames = most_frames_at_once(recipe, workers)
    stop, upcoming = Event(), iter(tasks)
    with ThreadPoolExecutor(workers, thread_name_prefix="decode") as pool:

        def begin(count: int) -> Iterator[_Ahead]:
            return (_Ahead(task, recipe, pool, short_frames, stop) for task in islice(upcoming, count))

        try:
            begun = deque(begin(workers + 1))
            while begun:
                yield begun[0]
                begun.popleft().close()
                begun.extend(begin(1))
        finally:
            stop.set()
