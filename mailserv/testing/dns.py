"""A DNS zone on a real socket, for tests: what a name server says, and how it fails. Needs dnslib (`mailserv[test]`)."""

from __future__ import annotations

import socketserver
import struct
import threading
from collections.abc import Iterable, Mapping
from enum import Enum
from types import TracebackType
from typing import Any, ClassVar, Self

try:
    import dnslib
except ImportError as missing:  # a plugin author may have installed mailserv without its test extra
    raise ImportError('mailserv.testing.dns needs dnslib: pip install "mailserv[test]"') from missing

_BIND_TRIES = 20  # a free UDP port may be taken for TCP; then another one is tried


class Trouble(Enum):
    """How a name fails instead of being answered."""

    SERVFAIL = "servfail"
    REFUSED = "refused"
    SILENCE = "silence"  # no answer at all: the resolver times out


class FakeZone:
    """An authoritative name server for every name there is, on 127.0.0.1, UDP and TCP, on a free port.

    Records are text as in a zone file, without name and TTL::

        with FakeZone({"example.net": ["MX 10 mx.example.net.", "TXT \\"v=spf1 -all\\""],
                       "mx.example.net": ["A 192.0.2.1", "AAAA 2001:db8::1"]}) as zone:
            resolver = Resolver([zone.nameserver])

    A name with no record is NXDOMAIN; one without the type asked for is NODATA. CNAMEs are followed. Records may be
    added and taken away while it runs, from any thread.
    """

    def __init__(self, records: Mapping[str, Iterable[str]] | None = None, *, ttl: int = 300) -> None:
        self._lock = threading.Lock()
        self._records: dict[str, list[Any]] = {}
        self._trouble: dict[str, Trouble] = {}
        self._truncated: set[str] = set()
        self._queries: list[tuple[str, str, str]] = []
        for name, texts in (records or {}).items():
            self.add(name, *texts, ttl=ttl)
        self._servers = _bind(self)
        self._threads = [threading.Thread(target=s.serve_forever, args=(0.02,), daemon=True) for s in self._servers]
        for thread in self._threads:
            thread.start()

    @property
    def nameserver(self) -> str:
        """What to write into `[dns] nameservers`: "127.0.0.1:port"."""
        return f"127.0.0.1:{self._servers[0].server_address[1]}"

    @property
    def queries(self) -> list[tuple[str, str]]:
        """Every question so far, as (name, type), in order."""
        with self._lock:
            return [(name, rdtype) for name, rdtype, _ in self._queries]

    @property
    def tcp_queries(self) -> list[tuple[str, str]]:
        """The questions that came over TCP."""
        with self._lock:
            return [(name, rdtype) for name, rdtype, protocol in self._queries if protocol == "tcp"]

    def add(self, name: str, *texts: str, ttl: int = 300) -> None:
        """Add records to a name; without texts the name exists and has none (NODATA for every type).

        Raises ValueError for what is no record.
        """
        parsed = [record for text in texts for record in _parsed(name, ttl, text)]
        with self._lock:
            self._records.setdefault(_key(name), []).extend(parsed)

    def remove(self, name: str) -> None:
        """Forget a name: NXDOMAIN from now on."""
        with self._lock:
            self._records.pop(_key(name), None)

    def fail(self, name: str, how: Trouble = Trouble.SERVFAIL) -> None:
        """Questions for this name go wrong from now on."""
        with self._lock:
            self._trouble[_key(name)] = how

    def mend(self, name: str) -> None:
        """Undo `fail`."""
        with self._lock:
            self._trouble.pop(_key(name), None)

    def truncate(self, name: str) -> None:
        """Answers about this name do not fit into UDP: the resolver must come back by TCP."""
        with self._lock:
            self._truncated.add(_key(name))

    def close(self) -> None:
        """Stop both servers and wait for their threads."""
        for server in self._servers:
            server.shutdown()
            server.server_close()
        for thread in self._threads:
            thread.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def answer(self, wire: bytes, protocol: str) -> bytes | None:
        """The reply to one question in wire format, None for silence. Called on the servers' threads."""
        request = dnslib.DNSRecord.parse(wire)
        name, rdtype = _key(str(request.q.qname)), dnslib.QTYPE[request.q.qtype]
        reply = request.reply(ra=1)
        with self._lock:
            self._queries.append((name, rdtype, protocol))
            trouble = self._trouble.get(name)
            if trouble is Trouble.SILENCE:
                return None
            if trouble:
                reply.header.rcode = getattr(dnslib.RCODE, trouble.name)
            elif protocol == "udp" and name in self._truncated:
                reply.header.tc = 1
            else:
                self._fill(reply, name, rdtype)
        packed: bytes = reply.pack()
        return packed

    def _fill(self, reply: Any, name: str, rdtype: str) -> None:
        seen: set[str] = set()
        while name in self._records and name not in seen:
            seen.add(name)
            matching = [r for r in self._records[name] if dnslib.QTYPE[r.rtype] in {rdtype, "CNAME"}]
            reply.add_answer(*matching)
            aliases = [r for r in matching if dnslib.QTYPE[r.rtype] == "CNAME" and rdtype != "CNAME"]
            if not aliases:
                break
            name = _key(str(aliases[0].rdata.label))
        is_parent = any(known.endswith("." + name) for known in self._records)
        if name not in self._records and not is_parent:
            reply.header.rcode = dnslib.RCODE.NXDOMAIN
        if not any(dnslib.QTYPE[r.rtype] == rdtype for r in reply.rr):
            reply.add_auth(*dnslib.RR.fromZone(". 60 IN SOA ns.test. hostmaster.test. 1 3600 600 86400 60"))


def _parsed(name: str, ttl: int, text: str) -> list[Any]:
    try:
        return list(dnslib.RR.fromZone(f"{_key(name)}. {ttl} IN {text}"))
    except Exception as error:  # dnslib's may be a DNSError, an IndexError or a StopIteration
        raise ValueError(f"{name!r}, {text!r} is no record of a zone file: {type(error).__name__}") from error


def _key(name: str) -> str:
    return name.lower().rstrip(".")


class _UdpHandler(socketserver.BaseRequestHandler):
    server: _UdpServer

    def handle(self) -> None:
        wire, sock = self.request
        reply = self.server.zone.answer(wire, "udp")
        if reply is not None:
            sock.sendto(reply, self.client_address)


class _TcpHandler(socketserver.StreamRequestHandler):
    """RFC 1035 §4.2.2: two octets of length before each message."""

    timeout: ClassVar[float | None] = 5.0
    server: _TcpServer

    def handle(self) -> None:
        while len(prefix := self.rfile.read(2)) == 2:
            reply = self.server.zone.answer(self.rfile.read(struct.unpack("!H", prefix)[0]), "tcp")
            if reply is None:
                return
            self.wfile.write(struct.pack("!H", len(reply)) + reply)


class _UdpServer(socketserver.UDPServer):
    zone: FakeZone


class _TcpServer(socketserver.ThreadingTCPServer):
    zone: FakeZone
    daemon_threads = True


def _bind(zone: FakeZone) -> tuple[_UdpServer, _TcpServer]:
    """A UDP and a TCP server on the same free port."""
    for _ in range(_BIND_TRIES):
        udp = _UdpServer(("127.0.0.1", 0), _UdpHandler)
        try:
            tcp = _TcpServer(("127.0.0.1", udp.server_address[1]), _TcpHandler)
        except OSError:
            udp.server_close()
            continue
        udp.zone = tcp.zone = zone
        return udp, tcp
    raise OSError("no port was free for both UDP and TCP")
