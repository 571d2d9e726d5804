"""The crash test's parts: a server that is killed again and again, clients that do not give up, a sink that keeps count."""

from __future__ import annotations

import contextlib
import os
import queue
import random
import re
import signal
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from reborn import Reborn
from talking import Talk, greeted

from mailserv.clock import SystemClock
from mailserv.store.interface import Store
from mailserv.store.passwords import hash_password
from mailserv.store.sqlite import open_store
from mailserv.testing.sink import ScriptedMX, TakenMessage

ALICE = "alice@example.org"
REMOTE = "bob@remote.example"
CONFIG = """hostname = "mail.example.org"
data_dir = "data"
local_domains = ["example.org"]
postmaster = "alice@example.org"
routes = {{ "remote.example" = "smtp:[127.0.0.1]:{port}" }}
relay = {{ networks = ["127.0.0.0/8"] }}
limits = {{ sessions_per_ip = 0, connections_per_minute = 0, processes = {processes} }}
log = {{ level = "warning" }}
[[listen]]
service = "smtp"
address = "127.0.0.1:0"
"""
_NUMBER = re.compile(rb"^X-Number: (\d+)\r$", re.MULTILINE)


class Fate:
    """Counts what happens, whoever does it, and calls `strike` at chosen counts, or at the next one when it did not hit:
    no clock decides. Any thread."""

    def __init__(self, moments: Iterable[int], strike: Callable[[], bool]) -> None:
        self._moments = sorted(moments, reverse=True)
        self._strike = strike
        self._lock = threading.Lock()
        self.count = 0

    def step(self) -> None:
        """One more thing has happened."""
        with self._lock:
            self.count += 1
            if self._moments and self.count >= self._moments[-1] and self._strike():
                self._moments.pop()


class WatchedMX(ScriptedMX):
    """A sink whose every command, and every message before its 250, is a step."""

    def __init__(self, fate: Callable[[], None]) -> None:
        self._step = fate
        super().__init__()

    def note_command(self, line: str) -> None:
        super().note_command(line)
        self._step()

    def note_message(self, message: TakenMessage) -> None:
        super().note_message(message)
        self._step()


@dataclass(frozen=True, slots=True)
class Parcel:
    """One message of the test."""

    number: int
    recipients: tuple[str, ...]
    size: int

    @property
    def content(self) -> bytes:
        head = f"From: <stranger@example.net>\r\nX-Number: {self.number}\r\nSubject: crash\r\n\r\n".encode()
        line = f"{self.number} all of it must come through, whatever happens to the server\r\n".encode()
        return head + line * (self.size // len(line) + 1)


def parcels(count: int, rng: random.Random) -> list[Parcel]:
    """Local, remote and both; one in 25 too large for the database's rows."""
    whose = [(ALICE,), (REMOTE,), (ALICE, REMOTE)]
    return [
        Parcel(number, rng.choice(whose), 300_000 if number % 25 == 7 else rng.randrange(100, 5_000))
        for number in range(count)
    ]


class Lives:
    """A server on one data_dir, in one process after another. `kill` from any thread; `keep_alive` runs on its own."""

    def __init__(self, folder: Path, sink_port: int, processes: int = 1) -> None:
        self.folder = folder
        self._config = folder / "mailserv.toml"
        self._config.write_text(CONFIG.format(port=sink_port, processes=processes))
        self._changed = threading.Condition()
        self._process = 0
        self._port = 0
        self._over = False
        self._dying = False
        self.life = 0
        self.kills = 0
        self.printed: list[str] = []
        store = self.store()
        store.add_account(ALICE, hash_password("secret"), 0.0)
        store.close()
        self._thread = threading.Thread(target=self._keep_alive, daemon=True)

    def store(self) -> Store:
        """The store between two lives."""
        return open_store(self.folder / "data", SystemClock(), exclusive=False)

    def kill(self) -> bool:
        """kill -9; False when nobody lives."""
        with self._changed:
            if not self._process or self._dying:
                return False
            os.kill(self._process, signal.SIGKILL)
            self._dying = True
            return True

    def address(self, known: int) -> tuple[tuple[str, int], int]:
        """Where a life later than `known` listens, and its number. Waits for it."""
        with self._changed:
            assert self._changed.wait_for(lambda: self._port and self.life > known, 30), "".join(self.printed)
            return ("127.0.0.1", self._port), self.life

    @contextlib.contextmanager
    def going_on(self) -> Iterator[None]:
        """Start it, and start it again whenever it has died; SIGTERM at the end."""
        self._over = False
        self._thread = threading.Thread(target=self._keep_alive, daemon=True)
        self._thread.start()
        try:
            yield
        finally:
            with self._changed:
                self._changed.wait_for(lambda: self._port, 30)
                self._over = True
                if self._process:
                    os.kill(self._process, signal.SIGTERM)
            self._thread.join(40)
            assert not self._thread.is_alive(), "the server did not end"

    def _keep_alive(self) -> None:
        with Reborn(self._config) as server:
            while not self._over:
                process = server.start()
                with self._changed:
                    self._process, self._dying = process, False
                if line := server.ready():  # else it was killed before
                    self._ready(int(re.findall(r"\bsmtp=\S+:(\d+)", line)[0]))
                self.kills += server.died() == -signal.SIGKILL
                with self._changed:
                    self._process = self._port = 0
            self.printed += server.printed

    def _ready(self, port: int) -> None:
        with self._changed:
            self._port = port
            self.life += 1
            self._changed.notify_all()


class Client:
    """Sends what is in the bag, each message until it has its 250, as a client does that keeps its own queue."""

    def __init__(self, lives: Lives, bag: queue.SimpleQueue[Parcel], step: Callable[[], None]) -> None:
        self._lives = lives
        self._bag = bag
        self._step = step
        self._talk: Talk | None = None
        self._life = 0
        self.acknowledged: list[Parcel] = []
        self.refused: list[str] = []
        self.tries = 0

    def run(self) -> None:
        with contextlib.suppress(queue.Empty):
            while True:
                self._send(self._bag.get_nowait())
        if self._talk is not None:
            self._talk.close()

    def _send(self, parcel: Parcel) -> None:
        while True:
            self.tries += 1
            try:
                answer = self._transaction(self._session(), parcel)
            except OSError:
                answer = ""
            if answer.startswith("250"):
                self.acknowledged.append(parcel)
                return
            if answer:
                self.refused.append(answer)
            self._hang_up()

    def _session(self) -> Talk:
        if self._talk is None:
            address, self._life = self._lives.address(self._life)
            self._talk = greeted_or_gone(address)
            self._step()
        return self._talk

    def _transaction(self, talk: Talk, parcel: Parcel) -> str:
        """The reply to the dot, or what came instead of a positive one."""
        commands = ["MAIL FROM:<stranger@example.net>", *(f"RCPT TO:<{each}>" for each in parcel.recipients), "DATA"]
        for command in commands:
            answer = talk.say(command)
            if answer[:1] not in ("2", "3"):
                return answer
            self._step()
        half = len(parcel.content) // 2
        talk.send(parcel.content[:half])
        self._step()
        talk.send(parcel.content[half:] + b".\r\n")
        self._step()
        answer = talk.hear()
        self._step()
        return answer

    def _hang_up(self) -> None:
        if self._talk is not None:
            self._talk.close()
            self._talk = None


def greeted_or_gone(address: tuple[str, int]) -> Talk:
    """Raises ConnectionError when the server dies before it has greeted."""
    try:
        return greeted(address)
    except AssertionError as error:
        raise ConnectionError from error


def numbers_in_mailbox(store: Store) -> Counter[int]:
    """How often each message is in alice's mailbox; each copy is whole."""
    found: Counter[int] = Counter()
    for message in store.maildrop(ALICE):
        content = store.read(message)
        assert content is not None
        found[_number(b"".join(content.blocks()))] += 1
    return found


def numbers_in_sink(sink: ScriptedMX) -> Counter[int]:
    """How often each message came to the sink."""
    return Counter(_number(message.content) for message in sink.messages)


def _number(content: bytes) -> int:
    found = _NUMBER.search(content)
    assert found, content[:500]
    number = int(found[1])
    lines = content.partition(b"\r\n\r\n")[2].splitlines()
    assert lines, "no body"
    assert all(line.startswith(b"%d all of it" % number) and line.endswith(b"server") for line in lines)
    return number
