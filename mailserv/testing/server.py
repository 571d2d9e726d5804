"""The real server in a test: threads, sockets on free ports, a database in a temporary folder."""

from __future__ import annotations

import io
import json
import random
import smtplib
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from mailserv import logging
from mailserv.clock import Clock
from mailserv.deliver.mx import SMTP_PORT
from mailserv.mail.address import parse_mailbox
from mailserv.mail.trace import TraceEntry
from mailserv.resolver import Resolver
from mailserv.server import Server
from mailserv.settings import Limits, Listen, Plugins, Service, Settings
from mailserv.store.disk import DISK, Disk
from mailserv.store.interface import QueueEntry
from mailserv.store.passwords import hash_password
from mailserv.testing.choosing import choose_plugins, from_toml

T = TypeVar("T")
WAIT_SECONDS = 20.0  # how long a `wait_…` method waits before it says that nothing came
SERVICES: tuple[Service, ...] = ("smtp", "submission", "pop3")
UNLIMITED = Limits(sessions_per_ip=0, connections_per_minute=0)
"""A test's sessions all come from one address."""


class LogLines(io.StringIO):
    """Takes the server's log as JSON lines and lets a test wait for what it says. Any thread."""

    def __init__(self) -> None:
        super().__init__()
        self._changed = threading.Condition()
        self._lines: list[dict[str, Any]] = []

    def write(self, text: str) -> int:
        """One or more whole lines."""
        with self._changed:
            self._lines += [json.loads(line) for line in text.splitlines()]
            self._changed.notify_all()
        return len(text)

    def matching(self, event: str, **fields: object) -> list[dict[str, Any]]:
        """The lines so far with this event and these values."""
        with self._changed:
            return [line for line in self._lines if _matches(line, event, fields)]

    def complaints(self) -> Iterator[str]:
        """What went wrong inside, for a person: a client hears no more of it than 451."""
        with self._changed:
            wrong = [line for line in self._lines if line["level"] == "error"]
        for line in wrong:
            fields = (
                f"{key}={line[key]}" for key in line if key not in {"ts", "level", "event", "logger", "traceback"}
            )
            yield " ".join([line["event"], *fields, *(["\n" + line["traceback"]] if "traceback" in line else [])])

    def wait(self, ready: Callable[[], T]) -> T:
        """The first true answer of `ready`, which is asked again after each line. AssertionError after WAIT_SECONDS."""
        end = time.monotonic() + WAIT_SECONDS
        with self._changed:
            while not (answer := ready()):
                if not self._changed.wait(end - time.monotonic()):
                    last = "\n".join(map(str, self._lines[-20:]))
                    raise AssertionError(f"it did not happen within {WAIT_SECONDS} s; the last of the log:\n{last}")
        return answer


def _matches(line: Mapping[str, object], event: str, fields: Mapping[str, object]) -> bool:
    return line.get("event") == event and all(line.get(key) == value for key, value in fields.items())


class MailServer:
    """A running server and what a test wants of it. Make it with `mail_server`."""

    def __init__(self, server: Server, log: LogLines) -> None:
        self.server = server
        self.log = log

    def address(self, service: Service) -> tuple[str, int]:
        """Host and port of the first listener of that service. Raises LookupError when there is none."""
        for name, host, port in self.server.listening:
            if name == service:
                return host, port
        raise LookupError(f"this server has no {service}: name it in services=")

    def connect(self, service: Service = "smtp") -> socket.socket:
        """A raw connection; reads time out after WAIT_SECONDS."""
        return socket.create_connection(self.address(service), WAIT_SECONDS)

    def add_account(self, address: str, password: str = "secret") -> None:
        """A mailbox and a login."""
        self.server.store.add_account(parse_mailbox(address).key, cheap_hash(password), 0.0)

    def send(
        self, reverse_path: str, forward_paths: Sequence[str], content: bytes, *, login: tuple[str, str] | None = None
    ) -> None:
        """One message by smtplib: to port "smtp", or with `login` (address, password) to "submission".

        `content` has CRLF line ends, as an EmailMessage's `as_bytes(policy=email.policy.SMTP)` has. Raises smtplib's
        exceptions when the server refuses.
        """
        if isinstance(forward_paths, str):
            raise TypeError(f"forward_paths is a list of addresses: [{forward_paths!r}]")
        host, port = self.address("submission" if login else "smtp")
        with smtplib.SMTP(host, port, "client.example.net", timeout=WAIT_SECONDS) as client:
            if login:
                client.login(*login)
            client.sendmail(reverse_path, list(forward_paths), content)

    def mailbox(self, address: str) -> list[bytes]:
        """The mailbox's messages, oldest first, as RETR gives them."""
        store = self.server.store
        contents = [store.read(message) for message in store.maildrop(parse_mailbox(address).key)]
        return [b"".join(content.blocks()) for content in contents if content is not None]

    def queue(self) -> list[QueueEntry]:
        """Every row of the queue."""
        self._commit()
        return self.server.store.queue_list()

    def trace(self, queue_id: str) -> list[TraceEntry]:
        """Every decision about a message."""
        self._commit()
        return self.server.store.trace(queue_id)

    def wake_queue(self) -> None:
        """After a `FakeClock` has moved: the queue sleeps by the machine's clock, so it is told to look."""
        self.server.wake_queue()

    def wait_for_log(self, event: str, count: int = 1, **fields: object) -> list[dict[str, Any]]:
        """Wait until so many lines with this event and these values are in the log; all of them."""

        def found() -> list[dict[str, Any]]:
            lines = self.log.matching(event, **fields)
            return lines if len(lines) >= count else []

        return self.log.wait(found)

    def wait_for_mail(self, address: str, count: int = 1) -> list[bytes]:
        """Wait until the mailbox has so many messages."""

        def found() -> list[bytes]:
            self._commit()
            mail = self.mailbox(address)
            return mail if len(mail) >= count else []

        return self.log.wait(found)

    def wait_for_empty_queue(self) -> None:
        """Wait until every delivery is settled and committed."""
        self.log.wait(lambda: not self.queue())

    def _commit(self) -> None:
        """Return once all that was handed to the store's writer before is committed: a log line may be ahead of it."""
        self.server.store.reclaim("nobody", 0.0)


class _Log:
    """The process has one log; servers of one test share it."""

    def __init__(self) -> None:
        self.users = 0
        self.lines = LogLines()


_log = _Log()


@contextmanager
def _captured_log() -> Iterator[LogLines]:
    if not _log.users:
        _log.lines = LogLines()
        logging.configure("json", "debug", _log.lines)
    _log.users += 1
    try:
        yield _log.lines
    finally:
        _log.users -= 1
        if not _log.users:
            logging.close()
            for text in _log.lines.complaints():
                print(text, file=sys.stderr)


@contextmanager
def mail_server(
    *,
    accounts: Mapping[str, str] | None = None,
    services: Sequence[Service] = SERVICES,
    clock: Clock | None = None,
    resolver: Resolver | None = None,
    rng: random.Random | None = None,
    disk: Disk = DISK,
    smtp_port: int = SMTP_PORT,
    data_dir: Path | None = None,
    plugins: Plugins | Sequence[str | type] = (),
    config: Mapping[str, Any] | None = None,
    **settings: Any,
) -> Iterator[MailServer]:
    """Start a server for example.org with an account alice@example.org (password "secret"); stop it at the end. What its
    log has of errors is printed to standard error then: pytest shows it under a test that failed.

    `accounts`: address → password. `smtp_port`: where every MX host listens, for a `ScriptedMX` behind a `FakeZone`.
    `plugins`: those to enable, in this order, by name or as classes, which need not be installed; or a whole `[plugins]`.
    A class is known by its own name in small letters, one named Plugin by its module's (mailserv_hello: "hello").
    `config`: further settings as the TOML file has them, in dictionaries; wrong names and types raise ConfigError.
    `settings`: fields of `mailserv.settings.Settings` over the test's own (hostname mail.example.org, free ports on
    127.0.0.1, no limits for one address).
    """
    with tempfile.TemporaryDirectory(prefix="mailserv-") as folder, _captured_log() as log:
        values: dict[str, Any] = {
            "hostname": "mail.example.org",
            "data_dir": data_dir or Path(folder),
            "local_domains": ("example.org",),
            "listen": tuple(Listen(service=service, address="127.0.0.1:0") for service in services),
            "limits": UNLIMITED,
        }
        chosen, classes = choose_plugins(plugins)
        server = Server(
            Settings(**{**values, **from_toml(config or {}, chosen), **settings}),
            clock=clock,
            resolver=resolver,
            rng=rng,
            disk=disk,
            smtp_port=smtp_port,
            plugin_classes=classes,
        )
        server.start()
        try:
            running = MailServer(server, log)
            for address, password in (accounts if accounts is not None else {"alice@example.org": "secret"}).items():
                if not server.store.has_account(parse_mailbox(address).key):
                    running.add_account(address, password)
            yield running
        finally:
            server.stop()


_hashes: dict[str, str] = {}


def cheap_hash(password: str) -> str:
    """The password's hash, made once for each password: argon2id takes its time on purpose."""
    if password not in _hashes:
        _hashes[password] = hash_password(password)
    return _hashes[password]
