"""This checkout's mailserv, started by its own .venv as an operator would: `mailserv serve`."""

from __future__ import annotations

import poplib
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from importlib.metadata import version
from itertools import islice
from pathlib import Path

from bench.errors import Failed
from bench.load import OCTETS
from bench.server import DATA, MAILBOX, SECRET, Server, Wanted, fill, launched, tail
from bench.smtp_client import message
from bench.tree import Tree
from bench.waiting import START_SECONDS, wait_until
from mailserv.clock import SystemClock
from mailserv.mail.address import NULL_REVERSE_PATH
from mailserv.mail.message import Acceptance, BytesContent, MailboxDelivery
from mailserv.store.interface import Imported
from mailserv.store.passwords import hash_password
from mailserv.store.sqlite import open_store

HERE = Path(__file__).parent
ROOT = HERE.parent.parent.parent
BATCH = 500  # messages put into a mailbox by one transaction
COMMAND = [sys.executable, "-m", "mailserv"]


@dataclass(frozen=True, slots=True)
class Mailserv:
    name: str = "mailserv"
    processes: int = 0
    """[limits] processes; 0: what is shipped."""
    plugins: int = 0
    """How many plugins without an opinion."""

    def version(self) -> str:
        python = ".".join(map(str, sys.version_info[:3]))
        return " ".join(["mailserv", version("mailserv"), *_commit(), f"on Python {python}"])

    def start(self, folder: Path, wanted: Wanted) -> Iterator[Server]:
        limits = [f"processes = {self.processes}"] if self.processes else []
        config = folder / "mailserv.toml"
        domains = "".join(f', "d{number}.example"' for number in range(wanted.domains))
        plugins = self._plugins(folder / "plugins") if self.plugins else ""
        blanks = {"domains": domains, "limits": "\n".join(limits), "plugins": plugins}
        fill(HERE / "mailserv.toml", config, next_hop=wanted.next_hop, sessions=wanted.sessions, **blanks)
        data = folder / DATA
        _fill(data, wanted.maildrops)
        with launched([*COMMAND, "serve", "--config", config], folder, env={"PYTHONPATH": ""}) as process:
            log = folder / "log"
            wait_until(lambda: _ready(log, process), START_SECONDS, "mailserv's line `ready`")
            ports = {name: int(port) for name, port in re.findall(r"\b(smtp|pop3)=\S+:(\d+)", _ready_line(log))}
            pop3 = ports["pop3"]
            yield Server(
                folder,
                Tree(process.pid),
                ports["smtp"],
                pop3,
                delivered=lambda: _in_maildrop(pop3),
                kept=lambda: _in_files(data),
                queued=lambda: _in_queue(data),
            )

    def _plugins(self, path: Path) -> str:
        """Put them there, and say so in the configuration."""
        names = [f"quiet{number}" for number in range(self.plugins)]
        for name in names:
            fill(HERE / "plugins" / "quiet.py", path / f"{name}.py")
        return f'[plugins]\npath = "{path}"\nenabled = {names}\n'


def _commit() -> list[str]:
    """The checkout's commit, and whether the code differs from it, where git can tell."""
    git = ["git", "-C", str(ROOT)]
    try:
        commit = subprocess.run([*git, "describe", "--always"], capture_output=True, text=True, check=False)
        changed = subprocess.run([*git, "diff", "--quiet", "HEAD", "--", "mailserv", "plugins"], check=False)
    except OSError:
        return []
    return [*commit.stdout.split(), *(["with changes"] if changed.returncode == 1 else [])]


def _fill(data: Path, maildrops: Mapping[str, int]) -> None:
    """As `mailserv user add` and then `mailserv mailbox import` do it, but all in one process and with one hash. Who is
    there already stays as he is."""
    hashed = hash_password(SECRET)
    with closing(open_store(data, SystemClock(), exclusive=False)) as store:
        for user, messages in maildrops.items():
            if store.has_account(user):
                continue
            store.add_account(user, hashed, 0.0)
            imported = (_message(user, number) for number in range(messages))
            while batch := list(islice(imported, BATCH)):
                store.mailboxes.import_messages(user, batch)


def _message(user: str, number: int) -> Imported:
    """The same octets as every other peer has."""
    content = BytesContent(message(OCTETS).removesuffix(b".\r\n"))
    queue_id = f"{number}-{user.partition('@')[0]}"
    box = MailboxDelivery(user, user, b"")
    return Imported(queue_id.encode(), Acceptance(queue_id, NULL_REVERSE_PATH, content, 0.0, mailboxes=(box,)), 0.0)


def _ready(log: Path, process: subprocess.Popen[bytes]) -> bool:
    if process.poll() is not None:
        raise Failed(f"mailserv has ended: {tail(log)}")
    return bool(_ready_line(log))


def _ready_line(log: Path) -> str:
    return next((line for line in log.read_text().splitlines(keepends=True) if re.search(r"\bready\b.*\n", line)), "")


def _in_maildrop(port: int) -> int:
    client = poplib.POP3("127.0.0.1", port, START_SECONDS)
    client.user(MAILBOX)
    client.pass_(SECRET)
    messages, _ = client.stat()
    client.quit()
    return messages


def _in_queue(data: Path) -> int:
    with closing(open_store(data, SystemClock(), exclusive=False)) as store:
        return sum(store.queue_counts().values())


def _in_files(data: Path) -> int:
    with closing(open_store(data, SystemClock(), exclusive=False)) as store:
        return store.mailboxes.usage(MAILBOX).messages
