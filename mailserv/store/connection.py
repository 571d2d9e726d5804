"""SQLite connections: how they are opened, what their errors mean, and the readers' pool."""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from mailserv.errors import StorageFull, StoreError, StoreUnavailable
from mailserv.store.disk import Disk, create_private, store_error, sync_directory

# Seconds that a write waits for another process's transaction. A command rests after each of its own (`beside.py`), so the
# server waits for milliseconds; a busy server does not rest, so a command needs patience.
BUSY_TIMEOUT = 5.0
COMMAND_BUSY_TIMEOUT = 30.0
_LOOK_AGAIN = 2  # milliseconds: the wait between two looks whether the other one's transaction is over
PAGE_SIZE = 4096  # octets
_CHECKPOINT = 1000  # pages of WAL (4 MB) that start a checkpoint: more is no faster, and stalls writers for longer
_WAL_KEPT = 64 * 1024 * 1024  # octets that the WAL file may keep after a checkpoint
_WRITER_CACHE = 32 * 1024  # KiB: the inner pages of every index of a million rows
_READER_CACHE = 2 * 1024  # KiB
_IDLE_READERS = 16

Connect = Callable[[], sqlite3.Connection]

_WHAT_TO_DO = {
    sqlite3.SQLITE_NOTADB: "this is not a mailserv database, or it is damaged; move it aside and restore a backup",
    sqlite3.SQLITE_CORRUPT: 'the database is damaged; restore a backup, or try "sqlite3 FILE .recover"',
    sqlite3.SQLITE_READONLY: "the database is read-only; check its owner, its mode and the mount",
    sqlite3.SQLITE_CANTOPEN: "the database cannot be opened; check its owner, its mode and free file descriptors",
    sqlite3.SQLITE_IOERR: "the disk does not read or write; look at the kernel's log",
    sqlite3.SQLITE_BUSY: "another process holds the database",
    sqlite3.SQLITE_FULL: "no room is left on the disk",
    sqlite3.SQLITE_IOERR_SHMSIZE: "no room is left on the disk",  # for the first 32 KiB of -shm, which opening makes
}
_FULL = (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR_SHMSIZE)


def primary_code(error: sqlite3.Error) -> int | None:
    """SQLite's primary result code; None for an error that Python's module found by itself."""
    code: int | None = getattr(error, "sqlite_errorcode", None)
    return None if code is None else code & 0xFF


def as_store_error(path: Path, error: sqlite3.Error) -> StoreError:
    """The StoreError that SQLite's error comes to; its text says which file and what to do."""
    code = primary_code(error)
    extended: int | None = getattr(error, "sqlite_errorcode", None)
    advice = next((_WHAT_TO_DO[each] for each in (extended, code) if each in _WHAT_TO_DO), "")
    text = f"{path}: {error}" + (f" ({advice})" if advice else "")
    if extended in _FULL:
        return StorageFull(text)
    if code == sqlite3.SQLITE_CONSTRAINT:
        return StoreError(text)
    return StoreUnavailable(text)


def create_database(path: Path, disk: Disk) -> None:
    """Make an empty file with mode 0600 if there is none; SQLite gives its -wal and -shm the same. Raises StoreError.

    One that is there is not opened: closing it would drop the locks that SQLite has on it in this process (fcntl(2)).
    """
    try:
        os.close(create_private(path, os.O_RDWR))
        sync_directory(path.parent, disk)
    except FileExistsError:
        pass
    except OSError as error:
        raise store_error(path, error) from error


def open_writer(path: Path, disk: Disk, timeout: float = BUSY_TIMEOUT) -> sqlite3.Connection:
    """The connection that writes. Not made for the thread that opens it. Raises sqlite3.Error."""
    connection = _open(path, disk, timeout)
    try:
        connection.execute(f"PRAGMA page_size = {PAGE_SIZE}")
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")  # a commit is synced before it returns: invariant 1
        connection.execute("PRAGMA foreign_keys = ON")
        # Debian's SQLite writes zeros over every page that is freed: 10 MB for 50 messages of 200 KB. FAST does so only
        # where it costs no writing (docs/decisions/0019).
        connection.execute("PRAGMA secure_delete = FAST")
        connection.execute(f"PRAGMA wal_autocheckpoint = {_CHECKPOINT}")
        connection.execute(f"PRAGMA journal_size_limit = {_WAL_KEPT}")
        connection.execute(f"PRAGMA cache_size = -{_WRITER_CACHE}")
    except UnicodeDecodeError as error:  # sqlite3 has no words: those it has quote text of the schema that is damaged
        connection.close()
        damage = sqlite3.DatabaseError("malformed database schema")
        damage.sqlite_errorcode = sqlite3.SQLITE_CORRUPT
        raise damage from error
    except BaseException:
        connection.close()
        raise
    return connection


def look_often(connection: sqlite3.Connection) -> sqlite3.Connection:
    """The same one, whose waits are `begin`'s from now on."""
    connection.execute(f"PRAGMA busy_timeout = {_LOOK_AGAIN}")
    return connection


def begin(connection: sqlite3.Connection, patience: float) -> None:
    """Start a transaction that writes; wait for another process's, `patience` seconds at most. Raises sqlite3.Error.

    By itself SQLite looks again after 1, 2, 5 … 100 ms, and misses the rests that a command leaves the server (`beside.py`).
    Here each look is a try, which has its own short wait (`look_often`).
    """
    for _ in range(round(patience * 1000 / _LOOK_AGAIN)):
        try:
            connection.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError as error:
            if primary_code(error) != sqlite3.SQLITE_BUSY:
                raise
        else:
            return
    connection.execute("BEGIN IMMEDIATE")


def open_reader(path: Path, disk: Disk) -> sqlite3.Connection:
    """A connection that only reads. Raises sqlite3.Error."""
    connection = _open(path, disk, BUSY_TIMEOUT)
    try:
        connection.execute("PRAGMA query_only = ON")
        connection.execute(f"PRAGMA cache_size = -{_READER_CACHE}")
    except BaseException:
        connection.close()
        raise
    return connection


def _open(path: Path, disk: Disk, timeout: float) -> sqlite3.Connection:
    # mode=rw: a database that vanished is an error, never silently a new, empty one.
    return disk.connect(
        f"{path.absolute().as_uri()}?mode=rw",
        uri=True,
        timeout=timeout,
        isolation_level=None,
        check_same_thread=False,
    )


class Readers:
    """Reading connections, lent to one thread at a time. Any thread.

    A pool, not one connection a thread: each holds two file descriptors, and hundreds of sessions that read now and
    then would exhaust them.
    """

    def __init__(self, path: Path, connect: Connect) -> None:
        self._path = path
        self._connect = connect
        self._lock = threading.Lock()
        self._idle: list[sqlite3.Connection] = []
        self._is_closed = False

    @contextmanager
    def connection(self) -> Iterator[sqlite3.Connection]:
        """Lend a connection. What SQLite raises comes out as StoreError; such a connection is not used again."""
        connection = None
        try:
            connection = self._borrow()
            yield connection
        except sqlite3.Error as error:
            if connection is not None:
                connection.close()
                connection = None
            raise as_store_error(self._path, error) from error
        finally:
            if connection is not None:
                self._give_back(connection)

    def reusable(self) -> int:
        """Octets of pages in the database file that deletions have left free. Raises StoreError."""
        with self.connection() as connection:
            pages = connection.execute("PRAGMA freelist_count").fetchone()[0]
            return int(pages * connection.execute("PRAGMA page_size").fetchone()[0])

    def close(self) -> None:
        """Close every connection; those that are lent, when they come back. Idempotent."""
        with self._lock:
            self._is_closed = True
            idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()

    def _borrow(self) -> sqlite3.Connection:
        with self._lock:
            if self._is_closed:
                raise StoreUnavailable(f"{self._path}: the store is closed")
            if self._idle:
                return self._idle.pop()
        return self._connect()

    def _give_back(self, connection: sqlite3.Connection) -> None:
        with self._lock:
            if not self._is_closed and len(self._idle) < _IDLE_READERS:
                self._idle.append(connection)
                return
        connection.close()
