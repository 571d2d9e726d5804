"""The data directory and its database, before the store opens: made, locked, migrated."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path

from mailserv.errors import StoreUnavailable
from mailserv.store import lock
from mailserv.store.connection import as_store_error, create_database, open_writer
from mailserv.store.disk import DISK, Disk, make_private_directory, store_error
from mailserv.store.nudge import nudge
from mailserv.store.part import NUDGE
from mailserv.store.schema import migrate


def reserve(data_dir: Path, disk: Disk = DISK) -> int:
    """Make the directory, if need be, and take it for this server and the processes that it starts: the descriptor whose
    closing in all of them gives it back. Raises StoreError, StoreUnavailable naming who has it."""
    make(data_dir, disk)
    return lock.acquire(data_dir / "lock")


def make(data_dir: Path, disk: Disk) -> None:
    """The directory, mode 0700, if it is not there. Raises StoreError."""
    try:
        make_private_directory(data_dir, disk)
    except OSError as error:
        raise store_error(data_dir, error) from error


def make_database(path: Path, disk: Disk, *, is_command: bool) -> None:
    """The database, made if need be, with today's schema. One process at a time does so; a command not below a server
    that runs, which is then of an older version. Raises StoreError."""
    with lock.alone_in(path.parent):
        _refuse_to_forget(path)
        create_database(path, disk)
        _migrate(path, disk, is_used=lambda: is_command and nudge(path.parent / NUDGE))


def _refuse_to_forget(path: Path) -> None:
    """A new database would know nothing of what is left of an old one: SQLite throws its write-ahead log away, the start
    of the server its spool files, and a database that is restored afterwards lacks them."""
    try:
        if path.exists() and path.stat().st_size:
            return
        spool = path.parent / "spool"
        left = [path.with_name(f"{path.name}-wal"), *(sorted(spool.iterdir())[:1] if spool.is_dir() else ())]
        found = next((each for each in left if each.exists() and each.stat().st_size), None)
    except OSError as error:
        raise store_error(path, error) from error
    if found is not None:
        advice = "restore it from a backup, or move what is left of it aside, too"
        raise StoreUnavailable(f"{path}: it is gone, and {found} is of it ({advice})")


def _migrate(path: Path, disk: Disk, is_used: Callable[[], bool]) -> None:
    try:
        connection = open_writer(path, disk)
        try:
            migrate(connection, is_used)
        finally:
            connection.close()
    except sqlite3.Error as error:
        raise as_store_error(path, error) from error
    except StoreUnavailable as error:
        raise StoreUnavailable(f"{path}: {error}") from error
