"""A Debian postfix of the test's own: every file of it in a folder that goes away; the machine's postfix is not touched."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from interop_kit import PATH, SECONDS, Certificates, Lines, free_port, wait_until_served

SERVICES = """\
127.0.0.1:{port} inet n - n - - smtpd
pickup unix n - n 60 1 pickup
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
smtp unix - - n - - smtp
lmtp unix - - n - - lmtp
error unix - - n - - error
virtual unix - n n - - virtual
anvil unix - - n - 1 anvil
tlsmgr unix - - n 1000? 1 tlsmgr
proxymap unix - - n - - proxymap
scache unix - - n - 1 scache
postlog unix-dgram n - n - 1 postlogd
"""
SETTINGS = """\
compatibility_level = 3.6
queue_directory = {folder}/queue
data_directory = {folder}/data
mail_owner = postfix
setgid_group = postdrop
maillog_file = /dev/stdout
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
myhostname = postfix.example.net
mydestination =
alias_maps =
alias_database =
local_transport = error:there are no local users
virtual_transport = virtual
virtual_mailbox_base = {folder}/mail
virtual_uid_maps = static:{uid}
virtual_gid_maps = static:{gid}
mynetworks = 127.0.0.0/8
disable_dns_lookups = yes
smtputf8_enable = yes
smtpd_tls_security_level = may
smtpd_tls_chain_files = {key}, {chain}
smtp_tls_CAfile = {authority}
tls_random_source = dev:/dev/urandom
"""


@dataclass(frozen=True, slots=True)
class Postfix:
    folder: Path
    port: int
    log: Lines

    def mailbox(self, user: str) -> list[bytes]:
        """The messages that virtual(8) has put into `user`'s Maildir."""
        return [path.read_bytes() for path in sorted((self.folder / "mail" / user / "new").glob("*"))]


@contextmanager
def postfix(certificates: Certificates, settings: str, *, port: int = 0) -> Iterator[Postfix]:
    """Start it with `settings` at the end of its main.cf. Its log is its standard output."""
    folder = Path(tempfile.mkdtemp(prefix="mailserv-postfix-"))
    try:
        port = port or free_port()
        _configure(folder, certificates, settings, port)
        # A session of its own: `postfix stop` ends a whole process group.
        process = subprocess.Popen(
            ["postfix", "-c", folder / "etc", "start-fg"],
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
            log.wait_for("daemon started")
            wait_until_served(port)
            yield Postfix(folder, port, log)
        finally:
            _stop(folder, process, log)
            process.stdout.close()
    finally:
        shutil.rmtree(folder)


def _configure(folder: Path, certificates: Certificates, settings: str, port: int) -> None:
    folder.chmod(0o755)  # postfix's programs walk through it as different users
    owner = pwd.getpwnam("postfix")
    for name in ("etc", "queue", "data", "mail"):
        (folder / name).mkdir()
    for name in ("data", "mail"):
        os.chown(folder / name, owner.pw_uid, owner.pw_gid)
    for pem in (certificates.authority, certificates.chain, certificates.key):
        shutil.copy(pem, folder / "etc" / pem.name)
    filled = SETTINGS.format(
        folder=folder,
        uid=owner.pw_uid,
        gid=owner.pw_gid,
        key=folder / "etc" / certificates.key.name,
        chain=folder / "etc" / certificates.chain.name,
        authority=folder / "etc" / certificates.authority.name,
    )
    (folder / "etc" / "main.cf").write_text(filled + settings)
    (folder / "etc" / "master.cf").write_text(SERVICES.format(port=port))


def _stop(folder: Path, process: subprocess.Popen[str], log: Lines) -> None:
    """In order; and if it does not go so, by force. Nobody of it is left: the log has as many ends as writers."""
    try:
        stop = ["postfix", "-c", str(folder / "etc"), "stop"]
        subprocess.run(stop, env={"PATH": PATH}, capture_output=True, timeout=SECONDS, check=True)
        process.wait(SECONDS)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        assert log.join()
