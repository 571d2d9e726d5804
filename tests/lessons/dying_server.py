"""A server that kills itself (SIGKILL) at a chosen point of its work with the disk.

python dying_server.py DATA_DIR SINK_PORT before|after CALL [CALL …]

A call is the beginning of an SQL statement, or "write", "fsync", "unlink" of a spool file. The server dies before or
after the last call of the list, once it has made the others in this order.
"""

from __future__ import annotations

import ipaddress
import os
import signal
import sqlite3
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mailserv.server import Server
from mailserv.settings import Limits, Listen, Plugins, Relay, Settings
from mailserv.store.disk import Disk


class Doom:
    """Counts down the calls; SQLite's are made on the writer's thread, a spool file's on its session's."""

    def __init__(self) -> None:
        self._when = ""
        self._calls: list[str] = []
        self._lock = threading.Lock()

    def arm(self, when: str, calls: list[str]) -> None:
        with self._lock:
            self._when, self._calls = when, calls

    def made(self, what: str, call: Callable[[], Any]) -> Any:
        with self._lock:
            is_next = bool(self._calls) and what.strip().startswith(self._calls[0])
            if is_next:
                self._calls.pop(0)
            is_last = is_next and not self._calls
        if is_last and self._when == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        answer = call()
        if is_last:
            os.kill(os.getpid(), signal.SIGKILL)
        return answer

    def connect(self, *args: Any, **kwargs: Any) -> sqlite3.Connection:
        doom = self

        class Connection(sqlite3.Connection):
            def execute(self, sql: str, *parameters: Any) -> sqlite3.Cursor:
                return doom.made(sql, lambda: sqlite3.Connection.execute(self, sql, *parameters))

            def executemany(self, sql: str, *parameters: Any) -> sqlite3.Cursor:
                return doom.made(sql, lambda: sqlite3.Connection.executemany(self, sql, *parameters))

        return sqlite3.connect(*args, factory=Connection, **kwargs)

    @property
    def disk(self) -> Disk:
        return Disk(
            connect=self.connect,
            write=lambda *args: self.made("write", lambda: os.write(*args)),
            fsync=lambda *args: self.made("fsync", lambda: os.fsync(*args)),
            unlink=lambda *args: self.made("unlink", lambda: os.unlink(*args)),
        )


def settings(data_dir: Path, sink_port: int) -> dict[str, Any]:
    """What the life that dies and the life after it have in common."""
    return {
        "hostname": "mail.example.org",
        "data_dir": data_dir,
        "local_domains": ("example.org",),
        "listen": tuple(Listen(service=service, address="127.0.0.1:0") for service in ("smtp", "pop3")),
        "limits": Limits(sessions_per_ip=0, connections_per_minute=0),
        "relay": Relay(networks=(ipaddress.ip_network("127.0.0.0/8"),)),
        "plugins": Plugins(enabled=("forward",)),
        "plugin": {"forward": {"secret": "of a test", "users": {"fred@example.org": {"to": ["bob@remote.example"]}}}},
        "routes": {"remote.example": f"smtp:[127.0.0.1]:{sink_port}"},
    }


if __name__ == "__main__":
    folder, port, when, *calls = sys.argv[1:]
    doom = Doom()
    server = Server(Settings(**settings(Path(folder), int(port))), disk=doom.disk)
    server.start()
    doom.arm(when, calls)
    print(*(bound for _, _, bound in server.listening), flush=True)
    signal.pause()
