"""Dovecot over a Maildir, for POP3. Its mail is put there as its own delivery agent names it, with sizes in the names."""

from __future__ import annotations

import grp
import os
import pwd
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from bench.errors import Failed
from bench.server import PATH, SECRET, Server, Wanted, fill, launched
from bench.smtp_client import message
from bench.tree import Tree
from bench.waiting import START_SECONDS, free_port, greeted, wait_until

HERE = Path(__file__).parent
OWNER = "mail"  # a user and a group of every Debian


@dataclass(frozen=True, slots=True)
class Dovecot:
    name: str = "dovecot"

    def version(self) -> str:
        if os.geteuid():
            raise Failed("only root can run Dovecot")
        if not Path("/usr/lib/dovecot/pop3").exists():
            raise Failed("not installed (Debian: dovecot-pop3d)")
        asked = subprocess.run(["dovecot", "--version"], env={"PATH": PATH}, capture_output=True, text=True, check=True)
        return f"Dovecot {asked.stdout.split()[0]}"

    def start(self, folder: Path, wanted: Wanted) -> Iterator[Server]:
        port = free_port()
        owner, group = pwd.getpwnam(OWNER), grp.getgrnam(OWNER)
        fill(
            HERE / "dovecot.conf", folder / "dovecot.conf", folder=folder, port=port, uid=owner.pw_uid, gid=group.gr_gid
        )
        users = []
        for user, messages in wanted.maildrops.items():
            _put(folder / "mail" / user, messages)
            users.append(f"{user}:{{PLAIN}}{SECRET}:{owner.pw_uid}:{group.gr_gid}::{folder}/home/{user}::\n")
        (folder / "users").write_text("".join(users))
        subprocess.run(["chown", "-R", f"{OWNER}:{OWNER}", folder / "mail"], check=True, timeout=START_SECONDS)
        with launched(["dovecot", "-F", "-c", folder / "dovecot.conf"], folder) as process:
            wait_until(lambda: greeted(port), START_SECONDS, "Dovecot's greeting")
            yield Server(folder, Tree(process.pid), pop3=port)


def _put(maildir: Path, messages: int) -> None:
    for name in ("tmp", "new", "cur"):
        (maildir / name).mkdir(parents=True)
    content = message(4096).removesuffix(b".\r\n")
    stored = content.replace(b"\r\n", b"\n")
    for number in range(messages):
        name = f"1764000000.M{number}P1.mail,S={len(stored)},W={len(content)}"
        (maildir / "new" / name).write_bytes(stored)
