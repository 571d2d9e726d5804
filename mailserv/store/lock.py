"""One server at a time on a data directory: a lock that the kernel gives back when its holder dies, however it dies."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mailserv.errors import StoreUnavailable
from mailserv.store.disk import create_private, store_error


def acquire(path: Path) -> int:
    """Take the lock; returns the descriptor whose closing gives it back. Raises StoreUnavailable naming the holder."""
    try:
        descriptor = _open(path)
    except OSError as error:
        raise store_error(path, error) from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
    except BlockingIOError as error:
        holder = os.pread(descriptor, 32, 0).decode("ascii", "replace").strip()
        os.close(descriptor)
        raise StoreUnavailable(f"{path.parent}: another mailserv (process {holder or '?'}) is running here") from error
    except OSError as error:
        os.close(descriptor)
        raise store_error(path, error) from error
    return descriptor


def _open(path: Path) -> int:
    try:
        return create_private(path, os.O_RDWR)
    except FileExistsError:
        return os.open(path, os.O_RDWR)


@contextmanager
def alone_in(directory: Path) -> Iterator[None]:
    """One process at a time makes or migrates the database there. Raises StoreError."""
    try:
        descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        raise store_error(directory, error) from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
