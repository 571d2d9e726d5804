"""The one thread that writes: whatever waits is committed together, with one fsync.

A session hands its work over and waits. The writer takes all that is waiting, runs it in one transaction, commits, and
wakes each session once. When an action fails in company, everything is rolled back and each runs again in a transaction
of its own, so that only the culprit gets its error. While nothing waits the thread is blocked: no polling.
"""

from __future__ import annotations

import queue
import sqlite3
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, TypeVar

from mailserv.cores import let_others_first
from mailserv.errors import StorageFull, StoreUnavailable
from mailserv.logging import get_logger
from mailserv.mail.route import Route
from mailserv.store.connection import BUSY_TIMEOUT, Connect, as_store_error, begin, look_often, primary_code
from mailserv.store.part import Turns

_GROUP_ACTIONS = 250  # one transaction's actions: more than the sessions that can wait at once
_GROUP_OCTETS = 4 * 1024 * 1024  # one transaction's content: some 20 ms of writing
_STALE = frozenset(  # after these a connection may be of no use: SQLite stays read-only when it was opened so
    {
        sqlite3.SQLITE_READONLY,
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_CORRUPT,
        sqlite3.SQLITE_NOTADB,
        sqlite3.SQLITE_CANTOPEN,
    }
)

# What nobody waits for is not given up for these: another process's transaction ends, and room comes.
_PASSING = frozenset({sqlite3.SQLITE_BUSY, sqlite3.SQLITE_FULL})

T = TypeVar("T")
log = get_logger("store")


@dataclass(slots=True)
class Work:
    """What an action gets: the connection, inside a transaction, and where it says what follows the commit.

    `queued`: destinations that got ready rows due now. `files`: spool files that nothing refers to any more.
    """

    connection: sqlite3.Connection
    queued: set[Route] = field(default_factory=set)
    files: list[str] = field(default_factory=list)


class _Task(Generic[T]):
    """One action on its way. `done` is held until the writer has finished with it."""

    __slots__ = ("action", "done", "error", "frees", "is_late", "octets", "result", "work")

    def __init__(
        self, action: Callable[[Work], T], octets: int, done: threading.Lock | None, *, frees: bool = False
    ) -> None:
        self.action = action
        self.frees = frees
        self.is_late = False  # nobody waits for it, and it was to be tried again
        self.octets = octets
        self.done = done
        self.error: BaseException | None = None
        self.result: T | None = None
        self.work: Work | None = None


class Writer:
    """Owns the writing connection. `run` and `post`: any thread but the writer's own."""

    def __init__(
        self,
        path: Path,
        connect: Connect,
        *,
        committed: Callable[[frozenset[Route]], None],
        remove: Callable[[Sequence[str]], None],
        rest: Callable[[], None] | None = None,
        make_room: Callable[[], bool] = lambda: False,
        turns: Turns | None = None,
        patience: float = BUSY_TIMEOUT,
    ) -> None:
        """`committed(destinations)` is called on the writer's thread after each commit, before those who wait are woken,
        `rest()` after that; `remove(files)` by whoever handed the action over. `make_room()` is asked when an action
        that frees room finds none, and says whether to try again. `turns`: with other processes that write, too;
        `patience`: seconds to wait for the transaction of one that takes none.
        Raises sqlite3.Error when the database does not open."""
        self._path = path
        self._connect = connect
        self._committed = committed
        self._remove = remove
        self._rest = rest
        self._make_room = make_room
        self._turns = turns or Turns()
        self._patience = patience
        self._connection: sqlite3.Connection | None = look_often(connect())
        self._tasks: queue.SimpleQueue[_Task[Any] | None] = queue.SimpleQueue()
        self._late: list[_Task[Any]] = []  # posted, and to be tried again
        self._lock = threading.Lock()  # nothing is handed over after the None that ends the thread
        self._is_closed = False
        self._thread = threading.Thread(target=self._loop, name="store-writer", daemon=True)
        self._thread.start()

    def run(self, action: Callable[[Work], T], octets: int = 0, *, frees: bool = False) -> T:
        """Have `action` committed and return what it returned; raise what it raised, SQLite's errors as StoreError.

        It may run more than once, each time in a fresh transaction, so it keeps no state of its own. `frees`: in the end
        there is more room than before, so it gets the last there is.
        """
        done = threading.Lock()
        done.acquire()
        task = _Task(action, octets, done)
        self._hand_over(task)
        done.acquire()
        if task.error is not None:
            error = self._translated(task.error)
            if frees and self._is_full(error) and self._make_room():
                return self.run(action, octets)
            raise error
        if task.work is not None and task.work.files:
            self._remove(task.work.files)
        return task.result  # type: ignore[return-value]  # set whenever there is no error

    def post(self, action: Callable[[Work], object], *, frees: bool = False) -> None:
        """Hand `action` over and return. An error is logged; while another process has the database, or there is no room,
        it is tried again before whatever comes next. `frees`: as `run` has it."""
        self._hand_over(_Task(action, 0, None, frees=frees))

    def close(self) -> None:
        """Commit what was handed over, then end the thread and close the connection. Idempotent."""
        with self._lock:
            if not self._is_closed:
                self._is_closed = True
                self._tasks.put(None)
        self._thread.join()

    def _hand_over(self, task: _Task[Any]) -> None:
        if self._thread.ident == threading.get_ident():
            raise RuntimeError("the writer's thread would wait for itself: a callback may only signal")
        with self._lock:
            if self._is_closed:
                raise StoreUnavailable(f"{self._path}: the store is closed")
            self._tasks.put(task)

    def _is_full(self, error: BaseException) -> bool:
        return isinstance(self._translated(error), StorageFull)

    def _translated(self, error: BaseException) -> BaseException:
        if not isinstance(error, sqlite3.Error):
            return error
        translated = as_store_error(self._path, error)
        translated.__cause__ = error
        return translated

    # From here on: the writer's thread.

    def _loop(self) -> None:
        let_others_first()  # sessions that are about to hand something over: their work is in this group then
        is_last = False
        while not is_last:
            first = self._tasks.get()
            with self._turns:  # whoever comes while it waits for its turn joins the group
                group, is_last = self._take(first)
                group, self._late = [*self._late, *group], []
                if group:
                    self._run_group(group)
        for task in self._late:
            self._log_failed(task.error)
        self._drop_connection()
        self._turns.close()

    def _take(self, task: _Task[Any] | None) -> tuple[list[_Task[Any]], bool]:
        """This one and all that waits, up to a bound, and whether it is the last."""
        group: list[_Task[Any]] = []
        octets = 0
        while task is not None:
            group.append(task)
            octets += task.octets
            if len(group) >= _GROUP_ACTIONS or octets >= _GROUP_OCTETS:
                return group, False
            try:
                task = self._tasks.get_nowait()
            except queue.Empty:
                return group, False
        return group, True

    def _run_group(self, group: list[_Task[Any]]) -> None:
        error: BaseException | None = self._begin()
        if error is not None:  # nobody's fault: each would only wait for the same again
            for task in group:
                self._finish(task, error)
            return
        error = self._commit(group)
        if error is None:
            self._turns.end()
            self._tell(group)
            for task in group:
                self._finish(task, None)
            if self._rest is not None:
                self._rest()
        elif len(group) == 1:
            self._finish(group[0], error)
        else:
            for task in group:
                self._run_group([task])

    def _begin(self) -> sqlite3.Error | None:
        try:
            if self._connection is None:
                self._connection = look_often(self._connect())
            begin(self._connection, self._patience)
        except sqlite3.Error as error:
            self._give_up_on(error)
            return error
        return None

    def _commit(self, group: list[_Task[Any]]) -> BaseException | None:
        connection = self._connection
        assert connection is not None
        try:
            for task in group:
                task.work = work = Work(connection)
                task.result = task.action(work)
            connection.execute("COMMIT")
        except BaseException as error:  # noqa: BLE001  # it is raised again where the action came from
            self._give_up_on(error)
            return error
        return None

    def _give_up_on(self, error: BaseException) -> None:
        """Leave no transaction open, and no connection that could be of no use.

        The rollback comes first even for a connection that goes: closed with a cursor still alive (the error's traceback
        has some), SQLite would keep it, its transaction and its lock, and the next connection would wait for it.
        """
        is_stale = isinstance(error, sqlite3.Error) and primary_code(error) in _STALE
        if self._connection is not None and self._connection.in_transaction:
            try:
                self._connection.execute("ROLLBACK")
            except sqlite3.Error:
                is_stale = True
        if is_stale:
            self._drop_connection()

    def _drop_connection(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            try:
                connection.close()
            except sqlite3.Error as error:
                log.error("store_close_failed", file=str(self._path), error=str(error))

    def _tell(self, group: list[_Task[Any]]) -> None:
        queued: set[Route] = set()
        for task in group:
            if task.work is not None and task.work.queued:
                queued |= task.work.queued
        try:
            self._committed(frozenset(queued))
        except BaseException as error:  # a listener's mistake must not end the one thread that writes
            log.error("store_callback_failed", exc_info=error)

    def _finish(self, task: _Task[Any], error: BaseException | None) -> None:
        task.error = error
        if task.done is not None:
            task.done.release()
        elif error is not None and task.frees and self._is_full(error) and self._make_room():
            task.frees = False
            self._run_group([task])
        elif isinstance(error, sqlite3.Error) and primary_code(error) in _PASSING:
            self._late.append(task)
            if not task.is_late:
                task.is_late = True
                log.warning("store_action_waits", file=str(self._path), error=str(error))
        elif error is not None:
            self._log_failed(error)
        elif task.work is not None and task.work.files:
            self._remove(task.work.files)

    def _log_failed(self, error: BaseException | None) -> None:
        log.error("store_action_failed", file=str(self._path), error=str(error), kind=type(error).__name__)
