"""One server at a time on a data directory: a lock that the kernel gives back when its holder dies, however it dies."""

from __future__ import annotations

import fcntl
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mailserv.errors import StoreUnavailable
from mailserv.store.disk import open_private, store_error

DYING_PAUSE = 0.02  # seconds between two looks
DYING_LOOKS = 100  # that is two seconds; a process whose supervisor was killed ends in milliseconds


def acquire(path: Path) -> int:
    """Take the lock; returns the descriptor whose closing gives it back. Raises StoreUnavailable naming the holder."""
    try:
        descriptor = open_private(path)
    except OSError as error:
        raise store_error(path, error) from error
    try:
        _wait_for_the_dying(descriptor)
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
    except BlockingIOError as error:
        holder = _holder(descriptor)
        os.close(descriptor)
        raise StoreUnavailable(f"{path.parent}: another mailserv (process {holder or '?'}) is running here") from error
    except OSError as error:
        os.close(descriptor)
        raise store_error(path, error) from error
    return descriptor


def _wait_for_the_dying(descriptor: int) -> None:
    """While a server's other processes hold the lock and the one that took it is dead, they are about to end, too."""
    never = threading.Event()
    for _ in range(DYING_LOOKS):
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if _lives(_holder(descriptor)):
                return
            never.wait(DYING_PAUSE)
        else:
            return


def _holder(descriptor: int) -> str:
    return os.pread(descriptor, 32, 0).decode("ascii", "replace").strip()


def _lives(holder: str) -> bool:
    try:
        os.kill(int(holder), 0)
    except (ValueError, ProcessLookupError):
        return False
    except PermissionError:
        return True
    return True


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
