"""One server at a time on a data directory: a lock that the kernel gives back when its holder dies, however it dies."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from mailserv.errors import StoreUnavailable
from mailserv.store.disk import open_private, store_error


def acquire(path: Path) -> int:
    """Take the lock; returns the descriptor whose closing gives it back. Raises StoreUnavailable naming the holder."""
    try:
        descriptor = open_private(path, os.O_RDWR)
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
