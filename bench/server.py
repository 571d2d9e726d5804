"""A server that was started to be measured: a private instance in a temporary folder, on ports of the loopback."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Protocol

from bench.tree import Tree, birth
from bench.waiting import START_SECONDS

PATH = f"{os.environ['PATH']}:/usr/sbin:/sbin"  # Debian keeps mail servers where only root looks
MAILBOX = "box@example.org"
"""The mailbox that every peer has."""
ELSEWHERE = "anybody@sink.example.net"
"""What every peer sends to `Wanted.next_hop`."""
SECRET = "secret"
DATA = "data"
"""Where mailserv keeps what it has, in its folder."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a measurement wants of a server, beyond what its configuration says."""

    next_hop: int = 1
    """The port of the loopback to which all mail goes that is not for MAILBOX; nobody listens on port 1."""
    sessions: int = 250
    """So many sessions at once must be possible."""
    domains: int = 0
    """So many more local domains (mailserv only)."""
    maildrops: Mapping[str, int] = field(default_factory=lambda: {MAILBOX: 0})
    """User → so many messages of 4 KiB are there at the start."""


@dataclass(frozen=True, slots=True)
class Server:
    """It runs and has greeted."""

    folder: Path
    tree: Tree
    smtp: int = 0
    pop3: int = 0
    delivered: Callable[[], int] = lambda: 0
    """How many messages are in MAILBOX, by a look from outside."""
    kept: Callable[[], int] = lambda: 0
    """How many of MAILBOX's messages are still in its files (mailserv only)."""
    queued: Callable[[], int] = lambda: 0
    """How many wait for the next hop."""


class Peer(Protocol):
    """A kind of server."""

    @property
    def name(self) -> str: ...

    def version(self) -> str:
        """What it is, as it says itself. Failed when it is not installed."""

    def start(self, folder: Path, wanted: Wanted) -> Iterator[Server]:
        """Start it in `folder`, yield it when it serves, stop it afterwards."""


@contextmanager
def running(peer: Peer, wanted: Wanted) -> Iterator[Server]:
    """Start it in a folder of its own, which goes away."""
    with folder_of(peer) as folder, started(peer, folder, wanted) as server:
        yield server


@contextmanager
def folder_of(peer: Peer) -> Iterator[Path]:
    """A folder for one that is started more than once on what it has kept; it goes away."""
    folder = Path(tempfile.mkdtemp(prefix=f"bench-{peer.name}-"))
    folder.chmod(0o755)  # many have processes under several users
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def started(peer: Peer, folder: Path, wanted: Wanted) -> AbstractContextManager[Server]:
    """Start it there."""
    return contextmanager(peer.start)(folder, wanted)


@contextmanager
def launched(
    command: Sequence[str | Path], folder: Path, *, env: Mapping[str, str] | None = None, log: str = "log"
) -> Iterator[subprocess.Popen[bytes]]:
    """Run it as the leader of a session; what it prints is in `folder`/`log`. At the end nobody of it is left."""
    with (folder / log).open("wb") as output:
        process = subprocess.Popen(
            command,
            cwd=folder,
            env={"PATH": PATH, "LC_ALL": "C.UTF-8", **(env or {})},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        yield process
    finally:
        stop(process)


def stop(process: subprocess.Popen[bytes]) -> None:
    """In order; and who is then left of it is ended by force, in whatever session it is."""
    family = Tree(process.pid).born()
    try:
        process.send_signal(signal.SIGTERM)
        process.wait(START_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
    finally:
        for pid, born in family.items():
            if birth(pid) == born:  # the number may be somebody else's by now
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        process.wait()


def fill(template: Path, target: Path, **blanks: object) -> None:
    """Copy a configuration, with a value in each `@BLANK@`."""
    text = template.read_text()
    for name, value in blanks.items():
        text = text.replace(f"@{name.upper()}@", str(value))
    left = re.findall(r"@[A-Z][A-Z_]+@", text)
    if left:
        raise ValueError(f"{template}: nothing to put into {left}")
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(text)


def files_in(folder: Path) -> int:
    """How many files there are, as in a Maildir's `new`."""
    try:
        with os.scandir(folder) as entries:
            return sum(1 for _ in entries)
    except FileNotFoundError:
        return 0


def tail(log: Path | IO[bytes]) -> str:
    """The last of a log, for an error's one line."""
    text = log.read_bytes() if isinstance(log, Path) else log.read()
    return " | ".join(text.decode(errors="replace").splitlines()[-3:])[-500:]
