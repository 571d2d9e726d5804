"""Dialogue files (docs/dialogues.md): reading them, and playing them against a core or a live socket."""

from __future__ import annotations

import re
import socket
import ssl
import tomllib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

FOLDER = Path(__file__).parent / "dialogues"
DEFAULTS = {
    "service": "smtp",
    "hostname": "mail.example.org",
    "mailboxes": "alice@example.org bob@example.org",  # accounts; their domains are the local ones
    "password": "secret",  # of each of them
    "message_size": "50000000",
    "tls": "no",
}
LIVE_TIMEOUT = 10.0  # seconds; only a failing dialogue waits so long


class DialogueError(AssertionError):
    """The file cannot be read, or the server said something else. The message begins with file and line."""


@dataclass(frozen=True, slots=True)
class Send:
    """Bytes from the client; consecutive ones are one group, sent in one write (RFC 2920)."""

    data: bytes
    where: str


@dataclass(frozen=True, slots=True)
class Expect:
    """One line from the server, or a whole reply when it ends in "**"."""

    pattern: str
    where: str


@dataclass(frozen=True, slots=True)
class StartTls:
    """`== TLS`: both sides make the handshake now."""

    where: str


@dataclass(frozen=True, slots=True)
class Closed:
    """`== CLOSED`: the server closes the connection and says nothing more."""

    where: str


Step = Send | Expect | StartTls | Closed


@dataclass(frozen=True, slots=True)
class Dialogue:
    """One file. `settings`: DEFAULTS with its `@` lines over them. `messages`: the maildrop of the first mailbox.
    `plugins`: those that it enables, each with its section of `[plugin]`."""

    name: str
    settings: dict[str, str]
    messages: tuple[bytes, ...]
    steps: tuple[Step, ...]
    plugins: Mapping[str, Mapping[str, Any]]


class Driver(Protocol):
    """The server's end, as `play` sees it."""

    def send(self, data: bytes) -> None: ...

    def read_line(self) -> bytes | None:
        """The next line without CRLF; None when the server has closed. Raises DialogueError when nothing comes."""
        ...

    def start_tls(self) -> None: ...


# reading


def all_dialogues(folder: str = "") -> list[Dialogue]:
    """Every dialogue file below tests/dialogues/FOLDER, by name."""
    return [read_dialogue(path) for path in sorted((FOLDER / folder).rglob("*.dialogue"))]


def read_dialogue(path: Path) -> Dialogue:
    name = str(path.relative_to(FOLDER)) if path.is_relative_to(FOLDER) else path.name
    return parse_dialogue(name, path.read_text(encoding="utf-8"))


def parse_dialogue(name: str, text: str) -> Dialogue:
    """Raises DialogueError naming the line."""
    settings = dict(DEFAULTS)
    messages: list[bytes] = []
    plugins: dict[str, dict[str, Any]] = {}
    steps: list[Step] = []
    for number, line in enumerate(text.split("\n"), start=1):
        where = f"{name}:{number}"
        mark, rest = line[:3], line[3:]
        if not line.strip() or line.startswith("#"):
            continue
        if line.startswith("@ "):
            key, colon, value = line[2:].partition(": ")
            if not colon or key not in {"message", "plugin", *DEFAULTS}:
                raise DialogueError(f"{where}: no such setting: {line}")
            if key == "message":
                messages.append(unescape(value))
            elif key == "plugin":
                name, dot, setting = value.partition(".")
                plugins.setdefault(name, {}).update(tomllib.loads(setting) if dot else {})
            else:
                settings[key] = value.strip()
        elif mark.rstrip() == "C:":
            steps.append(Send(unescape(rest) + b"\r\n", where))
        elif mark.rstrip() == "C>":
            steps.append(Send(unescape(rest), where))
        elif mark.rstrip() == "S:":
            steps.append(Expect(rest, where))
        elif line == "== TLS":
            steps.append(StartTls(where))
        elif line == "== CLOSED":
            steps.append(Closed(where))
        else:
            raise DialogueError(f"{where}: neither C: nor S: nor anything else: {line}")
    return Dialogue(name, settings, tuple(messages), tuple(steps), plugins)


_ESCAPE = re.compile(r"\\x([0-9A-Fa-f]{2})|\\([rnt0\\])|\{(.)\*(\d+)\}", re.DOTALL)
_LETTERS = {"r": b"\r", "n": b"\n", "t": b"\t", "0": b"\0", "\\": b"\\"}


def unescape(text: str) -> bytes:
    r"""C's escapes \r \n \t \0 \\ \xNN, and {x*600} for six hundred times x. All else is UTF-8."""
    out, end = b"", 0
    for match in _ESCAPE.finditer(text):
        out += text[end : match.start()].encode()
        code, letter, repeated, times = match.groups()
        if code:
            out += bytes([int(code, 16)])
        elif letter:
            out += _LETTERS[letter]
        else:
            out += repeated.encode() * int(times)
        end = match.end()
    return out + text[end:].encode()


# playing


def play(dialogue: Dialogue, driver: Driver) -> None:
    """Raises DialogueError at the first line that differs."""
    for step in _grouped(dialogue.steps):
        match step:
            case Send(data=data):
                driver.send(data)
            case StartTls():
                driver.start_tls()
            case Closed(where=where):
                said = driver.read_line()
                if said is not None:
                    raise DialogueError(f"{where}: the server should have closed, but said {said!r}")
            case Expect(pattern=pattern, where=where):
                _expect(driver, pattern, where)


def run_live(
    connect: Callable[[], socket.socket], dialogue: Dialogue, tls_context: ssl.SSLContext | None = None
) -> None:
    """Play against a server that listens. `connect` gives a connected socket, which is closed at the end.

    `tls_context` is what `== TLS` uses; a service that begins with TLS is `connect`'s affair.
    """
    driver = LiveDriver(connect(), tls_context)
    try:
        play(dialogue, driver)
    finally:
        driver.close()


def _grouped(steps: tuple[Step, ...]) -> Iterator[Step]:
    group: Send | None = None
    for step in steps:
        if isinstance(step, Send):
            group = Send(group.data + step.data if group else step.data, step.where)
            continue
        if group:
            yield group
            group = None
        yield step
    if group:
        yield group


def _expect(driver: Driver, pattern: str, where: str) -> None:
    if pattern.endswith("**"):
        _expect_reply(driver, pattern[:-2].rstrip(), where)
        return
    said = _read(driver, where)
    if not matches(pattern, said):
        raise DialogueError(f"{where}: expected {pattern!r}, the server said {said!r}")


def _expect_reply(driver: Driver, start: str, where: str) -> None:
    """SMTP: lines `250-…` and one `250 …`. POP3: a line `+OK …` and all up to the dot."""
    said = _read(driver, where)
    if not said.startswith(start):
        raise DialogueError(f"{where}: expected {start!r} to begin a reply, the server said {said!r}")
    if start.startswith("+OK"):
        while said != ".":
            said = _read(driver, where)
    while said.startswith(f"{start}-"):
        said = _read(driver, where)


def _read(driver: Driver, where: str) -> str:
    try:
        said = driver.read_line()
    except DialogueError as error:
        raise DialogueError(f"{where}: {error}") from error
    if said is None:
        raise DialogueError(f"{where}: the server closed the connection")
    return said.decode("utf-8", "backslashreplace")


def matches(pattern: str, line: str) -> bool:
    """Equal, or equal up to a "*" that ends the pattern."""
    return line.startswith(pattern[:-1]) if pattern.endswith("*") else line == pattern


class LiveDriver:
    """A client's socket. One thread."""

    def __init__(self, sock: socket.socket, tls_context: ssl.SSLContext | None) -> None:
        self._sock = sock
        self._sock.settimeout(LIVE_TIMEOUT)
        self._context = tls_context
        self._buffer = b""

    def send(self, data: bytes) -> None:
        try:
            self._sock.sendall(data)
        except (BrokenPipeError, ConnectionResetError):
            return  # what the server said before it closed can still be read

    def read_line(self) -> bytes | None:
        while b"\r\n" not in self._buffer:
            try:
                data = self._sock.recv(65536)
            except TimeoutError as error:
                raise DialogueError(f"the server said nothing (unread: {self._buffer!r})") from error
            except ConnectionResetError:
                data = b""
            if not data:
                return None
            self._buffer += data
        line, _, self._buffer = self._buffer.partition(b"\r\n")
        return line

    def start_tls(self) -> None:
        if self._context is None:
            raise DialogueError("== TLS needs a tls_context")
        self._sock = self._context.wrap_socket(self._sock, server_hostname="localhost")

    def close(self) -> None:
        self._sock.close()
