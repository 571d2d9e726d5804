"""How a running server learns that another process changed its database: a byte through a FIFO in the data directory.

The server's thread is blocked in a read, so nothing polls. A FIFO, not a socket: its path may be longer than the 108
characters of a socket's, and without a reader a writer is told so at once. A byte only says "look": which one it is, or
how many came, does not matter, so a full or a lost one does no harm while another is waiting.
"""

from __future__ import annotations

import os
import stat
import threading
from collections.abc import Callable
from pathlib import Path

from mailserv.errors import StoreError
from mailserv.logging import get_logger
from mailserv.store.disk import give_to_owner_of_parent

log = get_logger("store")


def nudge(path: Path) -> bool:
    """Tell the server to look. Never blocks; False when no server listens."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_NONBLOCK)
    except OSError:  # no FIFO, or nobody reads it
        return False
    try:
        if not stat.S_ISFIFO(os.fstat(descriptor).st_mode):
            return False
        os.write(descriptor, b"!")
    except BlockingIOError:
        pass  # full: the server has a reason to look already
    except OSError:
        return False
    finally:
        os.close(descriptor)
    return True


class Listener:
    """Calls `look` on a thread of its own after each nudge. `look` may raise StoreError: it is logged."""

    def __init__(self, path: Path, look: Callable[[], None]) -> None:
        """Raises OSError where the file system has no FIFOs."""
        self._look = look
        self._descriptor = _open(path)
        self._is_closed = False
        self._thread = threading.Thread(target=self._loop, name="store-nudge", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End the thread. Idempotent, from one thread."""
        if not self._is_closed:
            self._is_closed = True
            os.write(self._descriptor, b".")
            self._thread.join()
            os.close(self._descriptor)

    def _loop(self) -> None:
        while True:
            os.read(self._descriptor, 4096)
            if self._is_closed:
                return
            try:
                self._look()
            except StoreError as error:
                log.warning("store_nudge_failed", error=str(error))


def _open(path: Path) -> int:
    """Open the FIFO, made if need be, for reading *and* writing: so a read never ends because the last writer left."""
    if not path.is_fifo():
        path.unlink(missing_ok=True)
        os.mkfifo(path, 0o600)
        give_to_owner_of_parent(path)
    return os.open(path, os.O_RDWR)
