"""Where an LMTP server listens: "unix:/path", "[address]:port" or "name:port" (RFC 2033 §5: never port 25)."""

from __future__ import annotations

import errno
import ipaddress
import re
import socket
from dataclasses import dataclass

from mailserv.mail.address import parse_domain
from mailserv.mail.plugin import Names

PORT = 24  # "any private mail system" (IANA), where LMTP servers listen by custom
_TCP = re.compile(r"(?:\[(?P<literal>[^\[\]]+)\]|(?P<name>[^\[\]:]+))(?::(?P<port>\d{1,5}))?")


@dataclass(frozen=True, slots=True)
class Place:
    """`path` of a socket, or `ip` and `port`, or `host` and `port`."""

    path: str = ""
    ip: str = ""
    host: str = ""
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
            return cls(ip=str(ipaddress.ip_address("127.0.0.1" if name == "localhost" else name)), port=port)
        except ValueError:
            if found["literal"]:
                raise ValueError(f'"{text}": {name} is no IP address') from None
        try:
            return cls(host=parse_domain(name), port=port)
        except ValueError as error:
            raise ValueError(f'"{text}": {error}') from error

    def connect(self, seconds: float, dns: Names) -> socket.socket:
        """To the first address that answers, `seconds` for each. Raises OSError, and ResolverError for a `host`."""
        if self.path:
            return _connect(socket.AF_UNIX, self.path, seconds)
        trouble: OSError = ConnectionRefusedError(errno.EHOSTUNREACH, "it has no address")
        for ip in [self.ip] if self.ip else dns.addresses(self.host):
            try:
                return _connect(socket.AF_INET6 if ":" in ip else socket.AF_INET, (ip, self.port), seconds)
            except OSError as error:
                trouble = error
        raise trouble

    def __str__(self) -> str:
        """As it may stand in a DSN: no path of this machine."""
        if self.path:
            return "localhost (LMTP)"
        return f"{self.host or f'[{self.ip}]'}:{self.port} (LMTP)"


def _connect(family: socket.AddressFamily, address: str | tuple[str, int], seconds: float) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.settimeout(seconds)
        sock.connect(address)
        if family is not socket.AF_UNIX:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    except BaseException:
        sock.close()
        raise
    return sock
