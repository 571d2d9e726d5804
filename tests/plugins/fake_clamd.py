"""A clamd for tests: takes INSTREAM as clamd(8) describes it, and answers as it is told."""

from __future__ import annotations

import socket
import struct
import threading
from pathlib import Path
from types import TracebackType
from typing import Self

SECONDS = 10.0  # how long a client may take


class FakeClamd:
    """Listens on a free port, or at `path`. Says `reply` after each message, or with `at_once` before it has read any;
    an empty reply hangs up; None says nothing until the end."""

    def __init__(
        self, reply: bytes | None = b"stream: OK\0", *, path: Path | None = None, at_once: bool = False
    ) -> None:
        self.reply = reply
        self.scanned: list[bytes] = []
        self._at_once = at_once
        self._ended = threading.Event()
        if path is None:
            self._listener = socket.create_server(("127.0.0.1", 0))
            host, port = self._listener.getsockname()
            self.address = f"[{host}]:{port}"
        else:
            self._listener = socket.socket(socket.AF_UNIX)
            self._listener.bind(str(path))
            self._listener.listen()
            self.address = f"unix:{path}"
        self._thread = threading.Thread(target=self._accept, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._listener.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            with client, client.makefile("rb") as reader:
                client.settimeout(SECONDS)
                self._serve(client, reader)

    def _serve(self, client: socket.socket, reader: object) -> None:
        try:
            if not self._at_once:
                self.scanned.append(_message(reader))
            if self.reply is None:
                self._ended.wait(SECONDS)
            else:
                client.sendall(self.reply)
        except OSError:
            return  # the client has gone


def _message(reader: object) -> bytes:
    read = reader.read  # type: ignore[attr-defined]
    assert read(10) == b"zINSTREAM\0"
    message = b""
    while size := struct.unpack("!I", read(4))[0]:
        message += read(size)
    return message
