"""A Debian dovecot of the test's own: every file of it in a folder that goes away; the machine's dovecot is not touched."""

from __future__ import annotations

import grp
import imaplib
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from interop_kit import PATH, SECONDS, Lines, free_port, wait_until_served

OWNER = "mail"  # a user and a group of every Debian
PASSWORD = "correct horse battery"
SETTINGS = """\
base_dir = {folder}/run
state_dir = {folder}/state
instance_name = {folder}
log_path = /dev/stderr
auth_verbose = yes
protocols = imap lmtp
listen = 127.0.0.1
ssl = no
disable_plaintext_auth = no
first_valid_uid = {uid}
first_valid_gid = {gid}
mail_location = maildir:{folder}/mail/%d/%n
mail_plugins = quota
plugin {{
  quota = count:User quota
  quota_vsizes = yes
  quota_rule = *:storage=20M
}}
passdb {{
  driver = passwd-file
  args = {folder}/users
}}
userdb {{
  driver = passwd-file
  args = {folder}/users
}}
namespace inbox {{
  inbox = yes
}}
service imap-login {{
  inet_listener imap {{
    port = {port}
  }}
  inet_listener imaps {{
    port = 0
  }}
}}
service lmtp {{
  unix_listener lmtp {{
    mode = 0600
  }}
  inet_listener lmtp {{
    port = {lmtp_port}
  }}
}}
"""


@dataclass(frozen=True, slots=True)
class Dovecot:
    folder: Path
    port: int
    lmtp_port: int
    log: Lines

    @property
    def mail(self) -> Path:
        """Where its Maildirs are: DOMAIN/LOCAL_PART. Its group may write there, and what is made there has that group."""
        return self.folder / "mail"

    @property
    def lmtp_socket(self) -> Path:
        return self.folder / "run" / "lmtp"

    @contextmanager
    def inbox(self, user: str) -> Iterator[imaplib.IMAP4]:
        """The user's INBOX, by IMAP."""
        with imaplib.IMAP4("127.0.0.1", self.port, SECONDS) as client:
            client.login(user, PASSWORD)
            assert client.select()[0] == "OK"
            yield client

    def messages(self, user: str) -> list[bytes]:
        """Every message of the INBOX, octet for octet as IMAP gives it."""
        with self.inbox(user) as client:
            found = client.search(None, "ALL")[1][0].split()
            answers = [client.fetch(number.decode(), "(BODY[])")[1][0] for number in found]
        return [answer[1] for answer in answers if isinstance(answer, tuple)]


@contextmanager
def dovecot(users: Iterable[str], more: str = "") -> Iterator[Dovecot]:
    """Start it for these addresses. A user "name:rule" has a quota rule of its own. `more`: at the end of dovecot.conf."""
    folder = Path(tempfile.mkdtemp(prefix="mailserv-dovecot-"))
    try:
        ports = free_port(), free_port()
        _configure(folder, users, more, *ports)
        process = subprocess.Popen(
            ["dovecot", "-F", "-c", folder / "dovecot.conf"],
            env={"PATH": PATH},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        assert process.stdout
        log = Lines(process.stdout)
        try:
            log.wait_for("starting up for imap, lmtp")
            for port in ports:
                wait_until_served(port)
            yield Dovecot(folder, *ports, log)
        finally:
            _stop(process, log)
            process.stdout.close()
    finally:
        shutil.rmtree(folder)


def _configure(folder: Path, users: Iterable[str], more: str, port: int, lmtp_port: int) -> None:
    folder.chmod(0o755)  # its processes walk through it as different users
    owner, group = pwd.getpwnam(OWNER), grp.getgrnam(OWNER)
    (folder / "mail").mkdir()
    os.chown(folder / "mail", owner.pw_uid, group.gr_gid)
    (folder / "mail").chmod(0o2770)
    lines = []
    for user in users:
        address, _, rule = user.partition(":")
        extra = f"userdb_quota_rule={rule}" if rule else ""
        lines.append(f"{address}:{{PLAIN}}{PASSWORD}:{owner.pw_uid}:{group.gr_gid}::{folder}/home/{address}::{extra}\n")
    (folder / "users").write_text("".join(lines))
    filled = SETTINGS.format(folder=folder, uid=owner.pw_uid, gid=group.gr_gid, port=port, lmtp_port=lmtp_port)
    (folder / "dovecot.conf").write_text(filled + more)


def _stop(process: subprocess.Popen[str], log: Lines) -> None:
    """In order; and if it does not go so, by force. Nobody of it is left: the log has as many ends as writers."""
    try:
        process.send_signal(signal.SIGTERM)
        process.wait(SECONDS)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        assert log.join()
