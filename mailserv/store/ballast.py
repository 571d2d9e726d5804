"""Room kept for making room: on a full disk even a deletion must first be written to the write-ahead log."""

from __future__ import annotations

import os
import threading
from pathlib import Path

from mailserv.logging import get_logger
from mailserv.store.disk import create_private

OCTETS = 4 * 1024 * 1024  # a write-ahead log between two checkpoints (1,000 pages of 4 KiB)

log = get_logger("store")


class Ballast:
    """A file of OCTETS that is thrown overboard when a deletion finds no room, and taken in again later. Any thread."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._is_there = path.exists()

    def take_in(self) -> None:
        """Make the file if it is not there; to be called when there is room. Quick while it is."""
        if self._is_there:
            return
        with self._lock:
            if self._is_there:
                return
            try:
                descriptor = create_private(self._path, os.O_WRONLY)
                try:
                    os.posix_fallocate(descriptor, 0, OCTETS)
                finally:
                    os.close(descriptor)
            except FileExistsError:
                pass  # another process took it in
            except OSError as error:
                log.warning("ballast_missing", file=str(self._path), error=str(error))
                self._path.unlink(missing_ok=True)
                return
            self._is_there = True

    def look(self) -> None:
        """Another process may have thrown it out."""
        with self._lock:
            self._is_there = self._path.exists()

    def throw_out(self) -> bool:
        """Free its room. False when there was nothing to free."""
        with self._lock:
            self._is_there = False
            try:
                self._path.unlink()
            except OSError:
                return False
            log.warning("ballast_used", file=str(self._path))
            return True
