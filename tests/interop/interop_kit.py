"""`mailserv serve` in a process of its own and other people's programs beside it."""

from __future__ import annotations

import itertools
import os
import poplib
import re
import signal
import smtplib
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from serving import Process, port_of, running

from mailserv.clock import SystemClock
from mailserv.store.sqlite import open_store
from mailserv.testing.server import cheap_hash

SECONDS = 60.0  # how long anything may take here, on a machine that is busy with other things
PATH = f"{os.environ['PATH']}:/usr/sbin:/sbin"  # Debian keeps postfix's programs where only root looks
SERVICES = ("smtp", "submission", "submissions", "pop3", "pop3s")


@dataclass(frozen=True, slots=True)
class Certificates:
    authority: Path
    chain: Path
    key: Path

    def client_context(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=self.authority)


class Lines:
    """The lines that a running program prints, read by a thread as they come; a test waits for what they say."""

    def __init__(self, source: Iterable[str]) -> None:
        self._source = source
        self._changed = threading.Condition()
        self._lines: list[str] = []
        self._ended = False
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        for line in self._source:
            with self._changed:
                self._lines.append(line)
                self._changed.notify_all()
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def matching(self, pattern: str) -> list[str]:
        """The lines so far that have it."""
        with self._changed:
            return [line for line in self._lines if re.search(pattern, line)]

    def wait_for(self, pattern: str, count: int = 1) -> list[str]:
        """The first `count` lines that have it. AssertionError when they do not come."""
        found: list[str] = []
        seen = 0
        end = time.monotonic() + SECONDS
        with self._changed:
            while len(found) < count:
                if seen == len(self._lines) and (self._ended or not self._changed.wait(end - time.monotonic())):
                    last = "".join(self._lines[-30:])
                    raise AssertionError(f"{len(found)} of {count} lines with {pattern!r}; the last lines:\n{last}")
                found += [line for line in self._lines[seen:] if re.search(pattern, line)]
                seen = len(self._lines)
        return found[:count]

    def join(self) -> bool:
        """Wait for the end of the lines; whether it came."""
        self._reader.join(SECONDS)
        return not self._reader.is_alive()


def _standard_error(process: Process) -> Iterator[str]:
    while True:
        try:
            yield process.until("").string
        except AssertionError:  # it has ended
            return


@dataclass(frozen=True, slots=True)
class Account:
    address: str
    password: str


@dataclass(slots=True)
class Mailserv:
    """A running `mailserv serve` for example.org."""

    folder: Path
    certificates: Certificates
    log: Lines
    ports: dict[str, int]
    _numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    def add_account(self, local_part: str = "") -> Account:
        """A mailbox of its own for the test."""
        account = Account(f"{local_part or f'user{next(self._numbers)}'}@example.org", "correct horse battery")
        store = open_store(self.folder / "data", SystemClock(), exclusive=False)
        store.add_account(account.address, cheap_hash(account.password), SystemClock().now())
        store.close()
        return account

    @contextmanager
    def maildrop(self, account: Account) -> Iterator[poplib.POP3_SSL]:
        """The account's maildrop by poplib; deletions count at the end."""
        context = self.certificates.client_context()
        client = poplib.POP3_SSL("127.0.0.1", self.ports["pop3s"], timeout=SECONDS, context=context)
        try:
            client.utf8()  # RFC 6856: else a message with UTF-8 in its header comes as a surrogate
            client.user(account.address)
            client.pass_(account.password)
            yield client
            client.quit()
        finally:
            client.close()

    def mailbox(self, account: Account) -> list[bytes]:
        """Every message of the mailbox, octet for octet. Nothing is deleted."""
        with self.maildrop(account) as client:
            return [b"".join(line + b"\r\n" for line in client.retr(n + 1)[1]) for n in range(client.stat()[0])]

    def deliver(self, account: Account, *contents: bytes) -> None:
        """Put mail into the account's mailbox, by smtplib."""
        self.deliver_to_each([account], *contents)

    def deliver_to_each(self, accounts: Iterable[Account], *contents: bytes) -> None:
        """The same mail into several mailboxes."""
        addresses = [account.address for account in accounts]
        with smtplib.SMTP("127.0.0.1", self.ports["smtp"], "client.example.net", timeout=SECONDS) as client:
            for content in contents:
                client.sendmail("sender@example.net", addresses, content)

    def submit(self, account: Account, forward_path: str, content: bytes) -> str:
        """Send as the account, after a login; the queue id."""
        return self.submit_to_many(account, [forward_path], content)

    def submit_to_many(self, account: Account, forward_paths: Iterable[str], content: bytes) -> str:
        """The same to several recipients."""
        with smtplib.SMTP("127.0.0.1", self.ports["submission"], "client.example.net", timeout=SECONDS) as client:
            client.starttls(context=self.certificates.client_context())
            client.login(account.address, account.password)
            assert client.mail(account.address)[0] == 250
            for forward_path in forward_paths:
                assert client.rcpt(forward_path)[0] == 250
            code, text = client.data(content)
            assert code == 250
            return text.split()[-1].decode()

    def after(self, pattern: str, count: int = 1) -> list[str]:
        """Wait for lines in the log, and for the commit of what they tell: a line may be ahead of it."""
        lines = self.log.wait_for(pattern, count)
        self.deliver(self.add_account(), b"Subject: this 250 comes after every commit before it\r\n\r\n")
        return lines

    def command(self, *arguments: str) -> Ran:
        """`mailserv ARGUMENTS` beside the running server."""
        return run(
            sys.executable,
            "-m",
            "mailserv",
            *arguments,
            "--config",
            str(self.folder / "mailserv.toml"),
            home=self.folder,
        )


def settings(certificates: Certificates, more: str, plaintext_auth: str) -> str:
    listen = "".join(f'[[listen]]\nservice = "{service}"\naddress = "127.0.0.1:0"\n' for service in SERVICES)
    return f"""hostname = "mail.example.org"
data_dir = "data"
local_domains = ["example.org"]
postmaster = "postmaster@example.org"
{listen}
[tls]
certificate = "{certificates.chain}"
key = "{certificates.key}"
plaintext_auth = "{plaintext_auth}"

[limits]  # every client here has one address
sessions_per_ip = 0
connections_per_minute = 0
failed_logins_per_minute = 0
failed_logins_per_day = 0
message_size = "6MB"
{more}"""


@contextmanager
def mailserv(
    folder: Path, certificates: Certificates, more: str = "", plaintext_auth: str = "never"
) -> Iterator[Mailserv]:
    """Start it with design §6's kind of file, `more` at its end. It has to end in order and without an error logged."""
    config = folder / "mailserv.toml"
    config.write_text(settings(certificates, more, plaintext_auth))
    trust = {"SSL_CERT_FILE": str(certificates.authority)}  # for next hops with tls = "verify"
    with running("serve", "--config", str(config), cwd=folder, **trust) as process:
        log = Lines(_standard_error(process))
        try:
            ready = re.search(".*", log.wait_for(r"\bready\b")[0])
            assert ready
            yield Mailserv(folder, certificates, log, {service: port_of(ready, service) for service in SERVICES})
        finally:
            process.signal(signal.SIGTERM)
            if not log.join():
                process.signal(signal.SIGKILL)
                log.join()
        code, _, err = process.end()
        assert code == 0
        assert [line for line in err.splitlines() if "level=error" in line or "Traceback" in line] == []


@dataclass(frozen=True, slots=True)
class Ran:
    code: int
    out: bytes
    err: bytes

    @property
    def text(self) -> str:
        return (self.out + self.err).decode(errors="replace")


def run(*command: str | Path, home: Path, expect: int | None = 0, given: bytes = b"") -> Ran:
    """Run a program to its end, with nothing of this machine's settings. `given`: what it reads from standard input.

    Fails when its exit code is not `expect`.
    """
    env = {"PATH": PATH, "HOME": str(home), "LC_ALL": "C.UTF-8"}
    done = subprocess.run(command, cwd=home, env=env, input=given, capture_output=True, timeout=SECONDS)
    ran = Ran(done.returncode, done.stdout, done.stderr)
    assert expect in (None, ran.code), f"{command} ended with {ran.code}:\n{ran.text[-4000:]}"
    return ran


def free_port() -> int:
    """A port that nobody has at this moment, for programs that cannot say which one they took."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return int(taken.getsockname()[1])


def wait_until_served(port: int) -> None:
    """Return when somebody listens there; a refused connection costs nothing, so it is simply asked again."""
    end = time.monotonic() + SECONDS
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), SECONDS).close()
            return
        except ConnectionRefusedError:
            assert time.monotonic() < end, f"nobody listens on port {port}"
