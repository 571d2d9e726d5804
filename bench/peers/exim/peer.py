"""Exim, unpacked from Debian's packages; it syncs each message's file."""

from __future__ import annotations

import os
import pwd
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from bench.server import Server, Wanted, files_in, fill, launched
from bench.tree import Tree
from bench.unpacked import entering, package, prepare, version_of
from bench.waiting import START_SECONDS, free_port, greeted, wait_until

HERE = Path(__file__).parent
PACKAGES = ("exim4-daemon-light", "exim4-base")
VAR = ("spool/exim4",)
USER = "Debian-exim"


@dataclass(frozen=True, slots=True)
class Exim:
    name: str = "exim"

    def version(self) -> str:
        package(*PACKAGES)
        return f"Exim {version_of(PACKAGES[0])}"

    def start(self, folder: Path, wanted: Wanted) -> Iterator[Server]:
        port = free_port()
        owner = prepare(folder, (USER,), VAR)[USER]
        os.chown(folder, owner, owner)  # its log is there
        os.chown(folder / "var" / "spool" / "exim4", owner, owner)
        (folder / "mail").mkdir()
        shutil.chown(folder / "mail", pwd.getpwnam("mail").pw_uid)
        config = folder / "etc" / "exim4" / "exim4.conf"
        fill(HERE / "exim4.conf", config, folder=folder, port=port, next_hop=wanted.next_hop, sessions=wanted.sessions)
        with launched(entering(folder, package(*PACKAGES), VAR, ["exim4", "-bdf"]), folder) as process:
            wait_until(lambda: greeted(port), START_SECONDS, "Exim's greeting")
            new = folder / "mail" / "box" / "new"
            yield Server(folder, Tree(process.pid), smtp=port, delivered=lambda: files_in(new))
