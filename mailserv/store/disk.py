"""What the store asks of the operating system, in one value, so that a test can make the n-th call fail."""

from __future__ import annotations

import errno
import os
import sqlite3
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mailserv.errors import StorageFull, StoreError, StoreUnavailable

_NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


@dataclass(frozen=True, slots=True)
class Disk:
    """The real calls are the defaults. Any thread."""

    connect: Callable[..., sqlite3.Connection] = sqlite3.connect
    write: Callable[[int, bytes | memoryview], int] = os.write
    fsync: Callable[[int], None] = os.fsync
    unlink: Callable[[Path], None] = os.unlink
    statvfs: Callable[[Path], Any] = os.statvfs


DISK = Disk()


def store_error(path: Path, error: OSError) -> StoreError:
    """The StoreError that an operating system's error about `path` comes to."""
    kind = StorageFull if error.errno in _NO_ROOM else StoreUnavailable
    return kind(f"{path}: {error.strerror or error}")


def make_private_directory(path: Path, disk: Disk) -> None:
    """Make a directory that only its owner may enter; leave one that is there as it is. Raises OSError."""
    try:
        path.mkdir(mode=0o700, parents=True)
    except FileExistsError:
        if not path.is_dir():
            raise
    else:
        give_to_owner_of_parent(path)
        sync_directory(path.parent, disk)


def create_private(path: Path, flags: int) -> int:
    """Make a file that only its owner may read. Returns a descriptor. Raises OSError, FileExistsError if it is there."""
    descriptor = os.open(path, flags | os.O_CREAT | os.O_EXCL, 0o600)
    give_to_owner_of_parent(path)
    return descriptor


def open_private(path: Path) -> int:
    """Open a file that only its owner may read, made if need be. Returns a descriptor. Raises OSError."""
    try:
        return create_private(path, os.O_RDWR)
    except FileExistsError:
        return os.open(path, os.O_RDWR)


def give_to_owner_of_parent(path: Path) -> None:
    """Root's `mailserv user add` must not leave files that the server, which is not root, cannot open."""
    if os.geteuid() == 0:
        parent = path.parent.stat()
        os.chown(path, parent.st_uid, parent.st_gid)


def sync_directory(path: Path, disk: Disk) -> None:
    """Make the names in a directory durable. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        disk.fsync(descriptor)
    finally:
        os.close(descriptor)
