"""Several server processes over one store ([limits] processes): which one this is, and how they take turns at writing."""

from __future__ import annotations

import fcntl
import os
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from mailserv.mail.route import Route
from mailserv.store.disk import open_private, store_error
from mailserv.store.nudge import nudge, tell

NUDGE = "nudge"


@dataclass(frozen=True, slots=True)
class Part:
    """Process `index` of `count`. The first one runs the queue and POP3, and tidies up at the start."""

    index: int = 0
    count: int = 1

    @property
    def is_first(self) -> bool:
        return self.index == 0

    def share(self, limit: int) -> int:
        """This process's part of a limit that is meant for all of them, rounded up; 0 stays 0, which is no limit."""
        return -(-limit // self.count)

    def fifo(self, data_dir: Path) -> Path:
        """Where this process hears of what others changed."""
        return data_dir / (NUDGE if self.is_first else f"{NUDGE}.{self.index}")


ALONE = Part()


def nudge_all(data_dir: Path) -> bool:
    """Tell every server process to look. Whether there is any."""
    heard = [nudge(path) for path in (data_dir / NUDGE, *data_dir.glob(f"{NUDGE}.*"))]
    return any(heard)


class Follower:
    """What the writer of a process that is not the first does after each commit: the first one has the queue."""

    def __init__(self, data_dir: Path) -> None:
        self._path = data_dir / NUDGE

    def tell(self, queued: frozenset[Route]) -> None:
        """Say which destinations got work. While the first process is being started again nobody listens: it will look
        at the whole queue then."""
        if queued:
            tell(self._path, queued)

    def rest(self) -> None:
        """It takes its turn like the others."""


class Turns:
    """One process writes, then another: a lock that the kernel keeps, with a queue, where SQLite's has none.

    Without it, who finds the database locked could only look again and again. The writer's thread.
    """

    def __init__(self, path: Path | None = None) -> None:
        """None: there is nobody else. Raises StoreError."""
        self._descriptor = -1
        self._is_mine = False
        if path is not None:
            try:
                self._descriptor = open_private(path)
            except OSError as error:
                raise store_error(path, error) from error

    def __enter__(self) -> Turns:
        """Wait for the turn."""
        if self._descriptor >= 0:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX)
            self._is_mine = True
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.end()

    def end(self) -> None:
        """Let the next one write. Idempotent."""
        if self._is_mine:
            self._is_mine = False
            fcntl.flock(self._descriptor, fcntl.LOCK_UN)

    def close(self) -> None:
        """After the last turn. Idempotent."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
