"""Answers about files kept within a process: hundreds of rows over one recording ask the same questions of it."""

import threading
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import Generic, TypeVar

Answer = TypeVar("Answer")
FileState = tuple[str, int, int]


class Remembered(Generic[Answer]):
    """Asks a question once for each state of a file (its size and modification time), also from several threads.

    Args:
        ask: the question, put to a path.
        most: how many answers are kept; the one used longest ago goes first.
    """

    def __init__(self, ask: Callable[[Path], Answer], most: int) -> None:
        self._ask, self._most = ask, most
        self._answers: OrderedDict[FileState, Future[Answer]] = OrderedDict()
        self._lock = threading.Lock()

    def __call__(self, path: Path) -> Answer:
        """The answer for a file as it is now; an error is raised to everyone who waited, and not kept."""
        stat = path.stat()
        state = (str(path.absolute()), stat.st_size, stat.st_mtime_ns)
        with self._lock:
            future = self._answers.get(state)
            if mine := future is None:
                future = self._answers[state] = Future()
            self._answers.move_to_end(state)
            while len(self._answers) > self._most:
                self._answers.popitem(last=False)
        if mine:
            self._settle(state, path, future)
        return future.result()

    def _settle(self, state: FileState, path: Path, future: "Future[Answer]") -> None:
        try:
            future.set_result(self._ask(path))
        except BaseException as error:
            with self._lock:
                self._answers.pop(state, None)
            future.set_exception(error)
