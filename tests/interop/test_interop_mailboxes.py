"""Debian's dovecot reads what `mailserv mailbox` exports, and `import` takes what dovecot has written: mbox and Maildir."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from interop_kit import Account, Certificates, Mailserv, mailserv
from mail_samples import SAMPLES
from private_dovecot import Dovecot, dovecot

pytestmark = [pytest.mark.interop, pytest.mark.needs("dovecot", "dovecot:imap", "dovecot:lmtp", "root")]

USERS = ["maildir@theirs.example", "mbox@theirs.example", "written@theirs.example"]
# One more namespace for each user: mbox files in a folder.
MBOX = """
namespace mbox {
  prefix = mbox.
  separator = .
  location = mbox:%h/mbox
}
"""
TRICKY = b"Subject: tricky\r\n\r\nFrom me\r\n>From you\r\n\r\nFrom x Thu Nov  5 10:20:30 2026\r\nSubject: y\r\n\r\n\r\n\xff\r\n"
CONTENTS = [*SAMPLES.values(), TRICKY]


@dataclass(frozen=True, slots=True)
class Neighbours:
    ours: Mailserv
    theirs: Dovecot


@pytest.fixture(scope="module")
def neighbours(tmp_path_factory: pytest.TempPathFactory, certificates: Certificates) -> Iterator[Neighbours]:
    with dovecot(USERS, MBOX) as theirs, mailserv(tmp_path_factory.mktemp("mailserv"), certificates, "") as ours:
        yield Neighbours(ours, theirs)


def give(path: Path, like: Path) -> None:
    """Everything under `path` to the owner of `like`."""
    owner = like.stat()
    for each in (path, *path.rglob("*")):
        os.chown(each, owner.st_uid, owner.st_gid)


def filled(ours: Mailserv) -> Account:
    account = ours.add_account()
    ours.deliver(account, *CONTENTS)
    return account


def test_dovecot_reads_an_exported_maildir(neighbours: Neighbours) -> None:
    ours, theirs = neighbours.ours, neighbours.theirs
    account = filled(ours)
    folder = theirs.mail / "theirs.example" / "maildir"
    ours.command("mailbox", "export", account.address, str(folder), "--format", "maildir")
    give(theirs.mail / "theirs.example", theirs.mail)
    assert theirs.messages("maildir@theirs.example") == ours.mailbox(account)
    assert ours.command("mailbox", "export", account.address, str(folder), "--format", "maildir").text.startswith(
        f"exported 0 messages; {len(CONTENTS)} were there"
    )


def test_dovecot_reads_an_exported_mbox(neighbours: Neighbours) -> None:
    """It splits where we joined; the quoting it leaves as it is, as mboxo readers do."""
    ours, theirs = neighbours.ours, neighbours.theirs
    account = filled(ours)
    home = theirs.folder / "home"
    folder = home / "mbox@theirs.example" / "mbox"
    folder.mkdir(parents=True, exist_ok=True)
    ours.command("mailbox", "export", account.address, str(folder / "ours"))
    give(home, theirs.mail)
    with theirs.inbox("mbox@theirs.example") as client:
        assert client.select("mbox.ours", readonly=True)[0] == "OK"
        answers = [client.fetch(str(number + 1), "(BODY[])")[1][0] for number in range(len(CONTENTS))]
        assert client.search(None, "ALL")[1][0].split()[-1] == str(len(CONTENTS)).encode()
    quoted = [re.sub(rb"^(?=>*From )", b">", message, flags=re.MULTILINE) for message in ours.mailbox(account)]
    assert [answer[1] for answer in answers if isinstance(answer, tuple)] == quoted


def test_what_dovecot_wrote_is_imported_octet_for_octet(neighbours: Neighbours) -> None:
    ours, theirs = neighbours.ours, neighbours.theirs
    account = ours.add_account()
    user = "written@theirs.example"
    with theirs.inbox(user) as client:
        for content in CONTENTS:
            assert client.append("INBOX", "", "", content)[0] == "OK"
    assert theirs.messages(user) == CONTENTS
    folder = theirs.mail / "theirs.example" / "written"
    ours.command("mailbox", "import", account.address, str(folder))
    # By file name, where 99 microseconds stand behind 100: within a second the order is chance.
    assert sorted(ours.mailbox(account)) == sorted(CONTENTS)
