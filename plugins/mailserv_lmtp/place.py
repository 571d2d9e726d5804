"""Where an LMTP server listens: "unix:/path", "[address]:port" or "address:port" (RFC 2033 §5: never port 25)."""

from __future__ import annotations

import ipaddress
import re
import socket
from dataclasses import dataclass

PORT = 24  # "any private mail system" (IANA), where LMTP servers listen by custom
_TCP = re.compile(r"(?:\[(?P<literal>[^\[\]]+)\]|(?P<name>[^\[\]:]+))(?::(?P<port>\d{1,5}))?")


@dataclass(frozen=True, slots=True)
class Place:
    """`path` of a socket, or `ip` and `port`."""

    path: str = ""
    ip: str = ""
    port: int = PORT

    @classmethod
    def parse(cls, text: str) -> Place:
        """Raises ValueError, which says what is wrong."""
        if text.startswith("unix:"):
            path = text.removeprefix("unix:")
            if not path.startswith("/") or "\0" in path:
                raise ValueError(f'"{text}": a socket is written "unix:/path"')
            return cls(path=path)
        found = _TCP.fullmatch(text)
        port = int(found["port"] or PORT) if found else 0
        if not found or not 0 < port < 65536 or port == 25:
            raise ValueError(f'"{text}": an LMTP server is "unix:/path" or "[address]:port", and the port is not 25')
        name = found["literal"] or found["name"]
        try:
            ip = ipaddress.ip_address("127.0.0.1" if name == "localhost" else name)
        except ValueError:
            raise ValueError(f'"{text}": {name} is no IP address') from None
        return cls(ip=str(ip), port=port)

    def connect(self, seconds: float) -> socket.socket:
        """Raises OSError."""
        if not self.path:
            sock = socket.create_connection((self.ip, self.port), seconds)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            return sock
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            sock.settimeout(seconds)
            sock.connect(self.path)
        except BaseException:
            sock.close()
            raise
        return sock

    def __str__(self) -> str:
        """As it may stand in a DSN: no path of this machine."""
        if self.path:
            return "localhost (LMTP)"
        return f"[{self.ip}]:{self.port} (LMTP)"
