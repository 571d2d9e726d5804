"""Postfix, with its defaults or tuned; mail for the mailbox goes into a Maildir by virtual(8)."""

from __future__ import annotations

import os
import pwd
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from bench.errors import Failed
from bench.server import PATH, Server, Wanted, files_in, fill, launched
from bench.tree import Tree
from bench.waiting import START_SECONDS, free_port, greeted, wait_until

HERE = Path(__file__).parent


@dataclass(frozen=True, slots=True)
class Postfix:
    name: str
    tuned: bool

    def version(self) -> str:
        if os.geteuid():
            raise Failed("only root can run Postfix")
        try:
            asked = subprocess.run(
                ["postconf", "-dh", "mail_version"], env={"PATH": PATH}, capture_output=True, text=True, check=True
            )
        except OSError:
            raise Failed("not installed (Debian: postfix)") from None
        return f"Postfix {asked.stdout.strip()}"

    def start(self, folder: Path, wanted: Wanted) -> Iterator[Server]:
        port = free_port()
        self._configure(folder, port, wanted)
        with launched(["postfix", "-c", folder / "etc", "start-fg"], folder) as process:
            wait_until(lambda: greeted(port), START_SECONDS, "Postfix's greeting")
            new, queue = folder / "mail" / "box" / "new", folder / "queue"
            yield Server(
                folder, Tree(process.pid), port, delivered=lambda: files_in(new), queued=lambda: _queued(queue)
            )

    def _configure(self, folder: Path, port: int, wanted: Wanted) -> None:
        owner = pwd.getpwnam("postfix")
        for name in ("queue", "data", "mail"):
            (folder / name).mkdir()
        for name in ("data", "mail"):
            os.chown(folder / name, owner.pw_uid, owner.pw_gid)
        etc = folder / "etc"
        blanks = {"folder": folder, "next_hop": wanted.next_hop, "uid": owner.pw_uid, "gid": owner.pw_gid}
        fill(HERE / "main.cf", etc / "main.cf", **blanks)
        fill(HERE / "master.cf", etc / "master.cf", port=port)
        if self.tuned:
            with (etc / "main.cf").open("a") as main:
                main.write((HERE / "tuned.cf").read_text())


def _queued(queue: Path) -> int:
    """Deferred mail lies in folders named by the first character of its queue id."""
    return sum(files_in(queue / name) for name in ("incoming", "active")) + sum(
        map(files_in, (queue / "deferred").glob("?"))
    )
