"""clamd's INSTREAM (clamd(8)): the content in counted chunks, one line back, a connection for each message."""

from __future__ import annotations

import ipaddress
import os
import re
import socket
import struct
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

COMMAND = b"zINSTREAM\0"  # z: the reply ends with a NUL
LONGEST_PATH = 107  # octets of a socket's (unix(7))
LONGEST_REPLY = 4096  # octets; a signature's name is far shorter
_REPLY = re.compile(rb"stream: (?:(OK)|([^\0]+) FOUND)\0?", re.DOTALL)
_TCP = re.compile(r"\[([^\[\]]+)\]:(\d{1,5})")


class ClamdError(Exception):
    """clamd did not say whether the message is clean."""


@dataclass(frozen=True, slots=True)
class Clamd:
    """Any thread. `address` is a path, or an IP address and a port; `timeout` is for a message as a whole, in seconds."""

    address: str | tuple[str, int]
    timeout: float
    monotonic: Callable[[], float]

    @classmethod
    def at(cls, text: str, timeout: float, monotonic: Callable[[], float]) -> Clamd:
        """Raises ValueError, which says what is wrong with the address."""
        path = text.removeprefix("unix:")
        if path != text:
            if not path.startswith("/") or "\0" in path or len(os.fsencode(path)) > LONGEST_PATH:
                raise ValueError(f'"{text}": a socket is written "unix:/path", with at most {LONGEST_PATH} octets')
            return cls(path, timeout, monotonic)
        found = _TCP.fullmatch(text)
        if not found or not 0 < int(found[2]) < 65536:
            raise ValueError(f'"{text}": clamd listens at "unix:/path" or "[address]:port"')
        try:
            ip = str(ipaddress.ip_address(found[1]))
        except ValueError:
            raise ValueError(f'"{text}": {found[1]} is no IP address') from None
        return cls((ip, int(found[2])), timeout, monotonic)

    def scan(self, blocks: Iterable[bytes]) -> str:
        """What was found, printable; "" for a clean message. Raises ClamdError and OSError."""
        deadline = self.monotonic() + self.timeout
        with socket.socket(self._family) as sock:
            self._wait(sock, deadline)
            sock.connect(self.address)
            reply = self._ask(sock, blocks, deadline)
        found = _REPLY.fullmatch(reply)
        if not found:
            said = reply.strip(b"\0\r\n").decode("ascii", "replace")
            raise ClamdError(f"it said {said[:200]!r}" if said else "it hung up without an answer")
        return "" if found[1] else _printable(found[2].decode("utf-8", "replace"))

    @property
    def _family(self) -> socket.AddressFamily:
        if isinstance(self.address, str):
            return socket.AF_UNIX
        return socket.AF_INET6 if ":" in self.address[0] else socket.AF_INET

    def _ask(self, sock: socket.socket, blocks: Iterable[bytes], deadline: float) -> bytes:
        """The reply. One that comes before the end, because clamd wants no more, breaks the sending, and counts."""
        try:
            for piece in _pieces(blocks):
                self._wait(sock, deadline)
                sock.sendall(piece)
        except (BrokenPipeError, ConnectionResetError):
            return self._read(sock, deadline)
        return self._read(sock, deadline)

    def _read(self, sock: socket.socket, deadline: float) -> bytes:
        reply = b""
        while not reply.endswith(b"\0") and len(reply) < LONGEST_REPLY:
            self._wait(sock, deadline)
            data = sock.recv(LONGEST_REPLY)
            if not data:
                break
            reply += data
        return reply

    def _wait(self, sock: socket.socket, deadline: float) -> None:
        left = deadline - self.monotonic()
        if left <= 0:
            raise TimeoutError("no answer in time")
        sock.settimeout(left)


def _pieces(blocks: Iterable[bytes]) -> Iterator[bytes]:
    yield COMMAND
    for block in blocks:
        if block:  # a chunk of no length is the end
            yield struct.pack("!I", len(block)) + block
    yield struct.pack("!I", 0)


def _printable(text: str) -> str:
    return "".join(char if " " <= char <= "~" else "?" for char in text[:200])
