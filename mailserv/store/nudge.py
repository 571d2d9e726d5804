"""How a running server learns that another process changed its database: a line through a FIFO in the data directory.

The server's thread is blocked in a read, so nothing polls. A FIFO, not a socket: its path may be longer than the 108
characters of a socket's, and without a reader a writer is told so at once. "!" says "look", from a command: how many come
does not matter, so a lost one does no harm while another is waiting. A JSON array of two is a destination that got work,
from another process of the same server: none of those may be lost, so who finds the FIFO full waits.
"""

from __future__ import annotations

import os
import stat
import threading
from collections.abc import Callable, Iterable
from pathlib import Path

import msgspec

from mailserv.errors import StoreError
from mailserv.logging import get_logger
from mailserv.mail.route import Route
from mailserv.store.disk import give_to_owner_of_parent

LOOK = b"!\n"
_route = msgspec.json.Decoder(tuple[str, str])

log = get_logger("store")


def nudge(path: Path) -> bool:
    """Tell the server to look. Never blocks; False when no server listens."""
    return _write(path, [LOOK], waits=False)


def tell(path: Path, routes: Iterable[Route]) -> bool:
    """Tell the server's first process of destinations that got work. False when it does not listen."""
    return _write(
        path, (msgspec.json.encode((route.transport, route.next_hop)) + b"\n" for route in routes), waits=True
    )


def _write(path: Path, lines: Iterable[bytes], *, waits: bool) -> bool:
    """One write for each line: up to PIPE_BUF octets none is torn apart by another process's (pipe(7))."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_NONBLOCK)
    except OSError:  # no FIFO, or nobody reads it
        return False
    try:
        if not stat.S_ISFIFO(os.fstat(descriptor).st_mode):
            return False
        os.set_blocking(descriptor, waits)
        for line in lines:
            os.write(descriptor, line)
    except BlockingIOError:
        pass  # full: the server has a reason to look already
    except OSError:  # it ended meanwhile
        return False
    finally:
        os.close(descriptor)
    return True


class Listener:
    """Calls `look` on a thread of its own after each nudge, and `queued` with the destinations that others tell of.

    Either may raise StoreError: it is logged.
    """

    def __init__(self, path: Path, look: Callable[[], None], queued: Callable[[frozenset[Route]], None]) -> None:
        """Raises OSError where the file system has no FIFOs."""
        self._look = look
        self._queued = queued
        self._descriptor = _open(path)
        self._is_closed = False
        self._thread = threading.Thread(target=self._loop, name="store-nudge", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End the thread. Idempotent, from one thread."""
        if not self._is_closed:
            self._is_closed = True
            os.write(self._descriptor, b".\n")
            self._thread.join()
            os.close(self._descriptor)

    def _loop(self) -> None:
        rest = b""
        while True:
            *lines, rest = (rest + os.read(self._descriptor, 65536)).split(b"\n")
            if self._is_closed:
                return
            try:
                routes = frozenset(Route(*_route.decode(line)) for line in lines if line.startswith(b"["))
                if routes:
                    self._queued(routes)
                if any(not line.startswith(b"[") for line in lines):
                    self._look()
            except StoreError as error:
                log.warning("store_nudge_failed", error=str(error))
            except msgspec.MsgspecError as error:  # somebody else wrote into our FIFO
                log.warning("store_nudge_failed", error=str(error))
                self._look()


def _open(path: Path) -> int:
    """Open the FIFO, made if need be, for reading *and* writing: so a read never ends because the last writer left."""
    if not path.is_fifo():
        path.unlink(missing_ok=True)
        os.mkfifo(path, 0o600)
        give_to_owner_of_parent(path)
    return os.open(path, os.O_RDWR)
