"""OpenSMTPD, unpacked from Debian's package; its mail.maildir syncs each message."""

from __future__ import annotations

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
VAR = ("spool/smtpd", "lib/opensmtpd")


@dataclass(frozen=True, slots=True)
class OpenSMTPD:
    name: str = "opensmtpd"

    def version(self) -> str:
        package("opensmtpd")
        return f"OpenSMTPD {version_of('opensmtpd')}"

    def start(self, folder: Path, wanted: Wanted) -> Iterator[Server]:
        port = free_port()
        prepare(folder, ("opensmtpd", "opensmtpq"), VAR)
        (folder / "var" / "spool" / "smtpd").chmod(0o711)
        (folder / "var" / "lib" / "opensmtpd" / "empty").mkdir()
        fill(HERE / "smtpd.conf", folder / "etc" / "smtpd.conf", port=port, folder=folder, next_hop=wanted.next_hop)
        (folder / "mail").mkdir()
        shutil.chown(folder / "mail", pwd.getpwnam("mail").pw_uid)
        with launched(entering(folder, package("opensmtpd"), VAR, ["smtpd", "-d"]), folder) as process:
            wait_until(lambda: greeted(port), START_SECONDS, "OpenSMTPD's greeting")
            new = folder / "mail" / "box" / "new"
            yield Server(folder, Tree(process.pid), smtp=port, delivered=lambda: files_in(new))
