"""mpop and fetchmail fetch out of a Maildir that the server delivers into, and leave mail there over two runs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from interop_kit import SECONDS, run

from mailserv.settings import Limits
from mailserv.testing.server import MailServer, mail_server

pytestmark = pytest.mark.interop
ALICE = "alice@example.org"
Fetch = Callable[[MailServer, Path], None]
"""Fetches what is new, leaves it on the server, and appends it to `mail` in that folder."""


@pytest.fixture
def maildir(tmp_path: Path) -> Path:
    return tmp_path / "served" / "alice"


@pytest.fixture
def server(maildir: Path) -> Iterator[MailServer]:
    maildir.parent.mkdir()
    settings = {"path": f"{maildir.parent}/{{local_part}}", "domains": ["example.org"], "create": True}
    with mail_server(
        plugins=["maildir"],
        services=("smtp", "pop3"),
        config={"plugin": {"maildir": settings}},
        limits=Limits(sessions_per_ip=0, connections_per_minute=0),
    ) as running:
        yield running


def private(path: Path, text: str) -> Path:
    path.touch(0o600)
    path.write_text(text)
    return path


def mpop(server: MailServer, folder: Path) -> None:
    host, port = server.address("pop3")
    settings = (
        f"account default\nhost {host}\nport {port}\nuser {ALICE}\npassword secret\nauth user\ntls off\nkeep on\n"
        f"timeout {SECONDS:.0f}\nuidls_file {folder}/uidls\nreceived_header off\ndelivery mbox {folder}/mail\n"
    )
    run("mpop", "--file", private(folder / "mpoprc", settings), home=folder)


def fetchmail(server: MailServer, folder: Path) -> None:
    host, port = server.address("pop3")
    settings = (
        f"poll {host} service {port} protocol pop3 timeout {SECONDS:.0f} uidl no dns\n"
        f'  user "{ALICE}" password "secret" options sslproto "" keep no rewrite mda "cat >>{folder}/mail"\n'
    )
    rcfile = private(folder / "fetchmailrc", settings)
    run("fetchmail", "--invisible", "--nosyslog", "--fetchmailrc", rcfile, "--idfile", folder / "ids", home=folder)


def deliver(server: MailServer, maildir: Path, *subjects: str) -> None:
    for subject in subjects:
        server.send("bob@example.net", [ALICE], f"Subject: {subject}\r\n\r\n.\r\nFrom the body\r\n".encode())
    server.wait_for_empty_queue()
    assert maildir.is_dir()


@pytest.mark.needs("mpop", "fetchmail")
@pytest.mark.parametrize("fetch", [mpop, fetchmail])
def test_what_is_left_there_is_fetched_once_whatever_flags_it_gets(
    server: MailServer, tmp_path: Path, maildir: Path, fetch: Fetch
) -> None:
    deliver(server, maildir, "one", "two")
    fetch(server, tmp_path)
    for file in (maildir / "new").iterdir():
        file.rename(maildir / "cur" / f"{file.name}:2,S")  # another reader has seen it
    deliver(server, maildir, "three")
    fetch(server, tmp_path)
    mail = (tmp_path / "mail").read_text()
    assert [mail.count(f"Subject: {subject}\n") for subject in ("one", "two", "three")] == [1, 1, 1]
    assert len([*(maildir / "new").iterdir(), *(maildir / "cur").iterdir()]) == 3
