"""The thread that writes the log, so that a slow or stuck reader of it never holds up mail."""

from __future__ import annotations

import os
import select
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import TextIO, TypeAlias

from mailserv.logging.lines import Line, Renderer

MAX_WAITING = 10_000  # lines, some megabytes: a burst fits; more are dropped and counted
BATCH = 500  # lines in one write
LINGER = (
    0.02  # seconds that a first line waits for more: waking up for each would cost more than all that it is made of
)
PIPE_BUF = 4096  # octets that a pipe keeps together when several processes write to it (pipe(7))
_STUCK = 2.0  # seconds that flush and close wait for a reader that takes nothing

Entry: TypeAlias = "Line | threading.Lock | None"


class LogWriter:
    """Takes lines from any thread without waiting, and writes all that have come within LINGER with one write.

    Its own thread sleeps in the queue while there is nothing to do. When the reader of the stream is stuck, lines are
    dropped and counted, and the count is logged as `log_dropped` when lines flow again.
    """

    def __init__(
        self,
        stream: TextIO,
        render: Renderer,
        *,
        max_waiting: int = MAX_WAITING,
        linger: float = LINGER,
        is_shared: bool = False,
    ) -> None:
        """`is_shared`: other processes write to the same stream."""
        self.render = render
        self._output = _Output(stream)
        self._is_shared = is_shared
        self._queue: SimpleQueue[Entry] = SimpleQueue()
        self._max_waiting = max_waiting
        self._linger = linger
        self._unhurried = threading.Lock()  # held, but when somebody waits or it is the end
        self._unhurried.acquire()
        self._dropped = 0
        self._dropping = threading.Lock()
        self._thread = threading.Thread(target=self._run, name="log", daemon=True)
        self._thread.start()

    def put(self, line: Line) -> None:
        """Hand over one line. Never waits, never raises."""
        if self._queue.qsize() >= self._max_waiting:
            with self._dropping:
                self._dropped += 1
            return
        self._queue.put(line)

    def flush(self, timeout: float = _STUCK) -> bool:
        """Wait until what was put before is written. False when it was not within `timeout` seconds.

        Also in a signal's handler that interrupts another flush: nothing in here holds what the handler would wait for.
        """
        written = threading.Lock()
        written.acquire()
        self._queue.put(written)
        self._hurry()
        return written.acquire(timeout=timeout)

    def close(self, timeout: float = _STUCK) -> None:
        """Write what waits and end the thread; give up on a stuck reader after `timeout` seconds."""
        self._queue.put(None)
        self._hurry()
        self._thread.join(timeout)

    def _hurry(self) -> None:
        with suppress(RuntimeError):  # it has been told already
            self._unhurried.release()

    def _run(self) -> None:
        while True:
            batch = self._take()
            lines = [entry for entry in batch if isinstance(entry, Line)]
            lines += self._drops()
            if lines:
                for text in self._pieces([self._rendered(line) for line in lines]):
                    self._output.write(text)
            for entry in batch:
                if entry is not None and not isinstance(entry, Line):
                    entry.release()
            if None in batch:
                return

    def _take(self) -> list[Entry]:
        """Wait for an entry and for those that come soon after it, then take all that are there, at most BATCH."""
        batch = [self._queue.get()]
        if self._queue.qsize() < BATCH:
            self._unhurried.acquire(timeout=self._linger)
        self._unhurried.acquire(blocking=False)  # before the queue is emptied: whoever is in a hurry is in there
        try:
            while len(batch) < BATCH and batch[-1] is not None:
                batch.append(self._queue.get_nowait())
        except Empty:
            pass
        return batch

    def _pieces(self, lines: list[str]) -> Iterator[str]:
        """For one write each: all lines at once, or so many as no other process's can come between."""
        if not self._is_shared:
            yield "".join(lines)
            return
        piece: list[str] = []
        size = 0
        for line in lines:
            octets = len(line.encode("utf-8", "backslashreplace"))
            if piece and size + octets > PIPE_BUF:
                yield "".join(piece)
                piece, size = [], 0
            piece.append(line)
            size += octets
        yield "".join(piece)

    def _drops(self) -> list[Line]:
        with self._dropping:
            count, self._dropped = self._dropped, 0
        return [Line(time.time(), "warning", "logging", "log_dropped", {"lines": count})] if count else []

    def _rendered(self, line: Line) -> str:
        return rendered(line, self.render)


def rendered(line: Line, render: Renderer) -> str:
    """The line with its line end. A value whose str() raises costs its fields, not the line and not this thread."""
    try:
        return render(line) + "\n"
    except (ValueError, TypeError, AttributeError, RuntimeError, LookupError) as error:
        fault = Line(line.at, line.level, line.logger, line.event, {"unprintable": type(error).__name__})
        return render(fault) + "\n"


class _Output:
    """Where the bytes go: the stream's file descriptor, or the stream itself when it has none."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        try:
            self._fd: int | None = stream.fileno()
        except (OSError, ValueError, AttributeError):
            self._fd = None

    def write(self, text: str) -> None:
        """Write all of it. An output that is gone (closed pipe, full disk) loses the text: mail goes on without a log."""
        try:
            if self._fd is None:
                self._stream.write(text)
                self._stream.flush()
            else:
                _write_all(self._fd, text.encode("utf-8", "backslashreplace"))
        except (OSError, ValueError):
            return


def _write_all(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        try:
            view = view[os.write(fd, view) :]
        except BlockingIOError:  # somebody set the terminal or pipe to non-blocking; wait for room as it should
            poll = select.poll()
            poll.register(fd, select.POLLOUT)
            poll.poll()
