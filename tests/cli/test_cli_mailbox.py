"""`mailserv mailbox`: what is here, out of here and back again, each message once, beside a server or without one."""

from __future__ import annotations

import json
import mailbox
import os
import pty
import re
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import pytest
from cli_kit import Command

from mailserv.cli import maildirs
from mailserv.clock import SystemClock
from mailserv.store.interface import Store
from mailserv.store.sqlite import open_store
from mailserv.testing.server import mail_server

ALICE, BOB = "alice@example.org", "bob@example.org"
SEPARATOR = b"From dave@example.net Thu Nov  5 10:20:30 2026\n"
CONTENTS = [
    b"From: Dave <dave@example.net>\r\nSubject: one\r\n\r\nFrom me\r\n>From you\r\n\r\n",
    b"Subject: 8-bit \xe9\0\r\n\r\n\xff\0\r\n",
    b"Subject: twins\r\n\r\nx\r\n",
    b"Subject: twins\r\n\r\nx\r\n",
    b"Subject: large\r\n\r\n" + b"y" * 300_000 + b"\r\n",
    b"Subject: huge\r\n\r\n" + (b"z" * 76 + b"\r\n") * 130_000,
]


@contextmanager
def store_of(mailserv: Command) -> Iterator[Store]:
    store = open_store(mailserv.data_dir, SystemClock(), exclusive=False)
    yield store
    store.close()


def contents(mailserv: Command, account: str) -> list[bytes]:
    """As RETR gives them."""
    with store_of(mailserv) as store:
        found = [store.read(message) for message in store.maildrop(account)]
        return [b"".join(content.blocks()) for content in found if content is not None]


@pytest.fixture
def accounts(mailserv: Command) -> Command:
    with open_made(mailserv.data_dir) as store:
        for address in (ALICE, BOB):
            store.add_account(address, "hash", 1.0)
    return mailserv


@contextmanager
def open_made(data_dir: Path) -> Iterator[Store]:
    store = open_store(data_dir, SystemClock())
    yield store
    store.close()


def mbox_file(folder: Path, *messages: bytes) -> Path:
    path = folder / "in.mbox"
    path.write_bytes(b"".join(SEPARATOR + message.replace(b"\r\n", b"\n") + b"\n" for message in messages))
    return path


def quoted(messages: list[bytes]) -> list[bytes]:
    return [re.sub(rb"^(?=>*From )", b">", message, flags=re.MULTILINE) for message in messages]


@pytest.fixture
def filled(accounts: Command) -> Command:
    """Alice has CONTENTS."""
    path = mbox_file(accounts.folder, *quoted(CONTENTS))
    ran = accounts("mailbox", "import", ALICE, str(path))
    assert (ran.code, ran.out) == (0, f"imported {len(CONTENTS)} messages\n")
    return accounts


# ---------------------------------------------------------------- list and show


def test_list_tells_what_each_account_has(filled: Command) -> None:
    filled.config.write_text(
        filled.config.read_text() + '[mailboxes]\naccounts."bob@example.org" = { quota = "1GB" }\n'
    )
    octets = sum(map(len, CONTENTS))
    ran = filled("mailbox", "list")
    assert [line.split() for line in ran.out.splitlines()] == [
        ["ADDRESS", "MESSAGES", "OCTETS", "QUOTA"],
        [ALICE, "6", str(octets), "-"],
        [BOB, "0", "0", "1000000000"],
    ]
    assert json.loads(filled("mailbox", "list", "--json").out) == [
        {"address": ALICE, "messages": 6, "octets": octets, "quota": None},
        {"address": BOB, "messages": 0, "octets": 0, "quota": 10**9},
    ]


def test_show_numbers_messages_as_pop3_does_and_cleans_what_a_terminal_would_obey(accounts: Command) -> None:
    author = b"From: =?utf-8?q?J=C3=B6rg?= <j@example.net>\r\n"
    wild = author + b"Subject: =?utf-8?b?G1szMW1yZWQ=?= \x1b]0;title\x07 \xe2\x80\xae x\r\n\r\n\r\n"
    path = mbox_file(accounts.folder, wild, b"Subject: =?no-such?q?x?=\r\n\tfolded\r\n\r\n", b"no header\r\n")
    accounts("mailbox", "import", ALICE, str(path))
    rows = json.loads(accounts("mailbox", "show", ALICE, "--json").out)
    assert [(row["number"], row["date"]) for row in rows] == [(n, "2026-11-05T10:20:30Z") for n in (1, 2, 3)]
    assert rows[0]["from"] == "Jörg <j@example.net>"
    assert rows[0]["octets"] == len(wild)
    assert [row["subject"] for row in rows] == ["?[31mred ?]0;title? ? x", "=?no-such?q?x?= folded", ""]
    table = accounts("mailbox", "show", ALICE).out
    assert table.isprintable() or set(table) - {"\n"} == {c for c in table if c.isprintable()}
    with store_of(accounts) as store:
        assert [row["unique_id"] for row in rows] == [message.unique_id for message in store.maildrop(ALICE)]


@pytest.mark.parametrize("words", [["show"], ["export", "x"], ["import", "{file}"]])
def test_an_account_that_is_not_there_is_told(accounts: Command, words: list[str]) -> None:
    path = str(mbox_file(accounts.folder))
    arguments = [word.format(file=path) for word in words]
    ran = accounts("mailbox", arguments[0], "nobody@example.org", *arguments[1:])
    assert (ran.code, ran.err) == (1, "Error: there is no account nobody@example.org\n")


# ---------------------------------------------------------------- out and in again


@pytest.mark.parametrize("form", ["mboxrd", "maildir"])
def test_what_is_exported_and_imported_again_is_the_same_octet_for_octet(filled: Command, form: str) -> None:
    target = str(filled.folder / "out")
    assert filled("mailbox", "export", ALICE, target, "--format", form).out == "exported 6 messages\n"
    assert filled("mailbox", "import", BOB, target).out == "imported 6 messages\n"
    assert contents(filled, ALICE) == contents(filled, BOB) == CONTENTS
    with store_of(filled) as store:
        dates = {int(entry.received_at) for address in (ALICE, BOB) for entry in store.mailboxes.entries(address)}
    assert dates == {1_793_874_030}
    assert filled("mailbox", "verify").out == "nothing is wrong\n"


def test_received_mail_goes_out_and_in_with_what_final_delivery_added(accounts: Command) -> None:
    with mail_server(data_dir=accounts.data_dir, accounts={}) as server:
        for number in range(3):
            server.send("dave@example.net", [ALICE], b"Subject: %d\r\n\r\nHello.\r\n" % number)
    before = contents(accounts, ALICE)
    assert all(b"Return-Path: <dave@example.net>\r\n" in message for message in before)
    target = str(accounts.folder / "out.mbox")
    accounts("mailbox", "export", ALICE, target)
    accounts("mailbox", "import", BOB, target)
    assert contents(accounts, BOB) == before
    with store_of(accounts) as store:
        assert {entry.reverse_path for entry in store.mailboxes.entries(BOB)} == {"dave@example.net"}


def test_python_s_mailbox_reads_what_is_exported(filled: Command) -> None:
    folder, file = filled.folder / "Maildir", filled.folder / "out.mbox"
    filled("mailbox", "export", ALICE, str(folder), "--format", "maildir")
    filled("mailbox", "export", ALICE, str(file))
    oracle = mailbox.Maildir(folder, create=False)
    assert sorted(oracle.get_bytes(key).replace(b"\n", b"\r\n") for key in oracle.iterkeys()) == sorted(CONTENTS)
    with closing(mailbox.mbox(file, create=False)) as mbox:
        assert [mbox.get_bytes(key).replace(b"\n", b"\r\n") for key in mbox.iterkeys()] == quoted(CONTENTS)


def test_a_maildir_is_imported_in_the_order_of_delivery_and_without_its_tmp(accounts: Command) -> None:
    folder = accounts.folder / "Maildir"
    for name, text in {
        "cur/200.b.host:2,S": "Subject: 2\n\nno end",
        "new/100.a.host": "Subject: 1\r\n\r\nCRLF\r\n",
        "cur/300.c.host:2,": "",
        "new/.hidden": "Subject: hidden\n",
        "tmp/400.d.host": "Subject: half",
        ".Sent/cur/500.e.host": "Subject: sent\n",
        ".Sent/new/x": "",
    }.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(text.encode())
    os.utime(folder / "new/100.a.host", (1_000_000_000,) * 2)
    ran = accounts("mailbox", "import", ALICE, str(folder))
    assert ran.out == "imported 3 messages\n"
    assert ran.err == "only the inbox is imported, not its folders: .Sent\n"
    assert contents(accounts, ALICE) == [b"Subject: 1\r\n\r\nCRLF\r\n", b"Subject: 2\r\n\r\nno end\r\n", b""]
    assert json.loads(accounts("mailbox", "show", ALICE, "--json").out)[0]["date"] == "2001-09-09T01:46:40Z"


def test_a_date_that_cannot_be_does_not_keep_the_message_from_being_shown_and_exported(accounts: Command) -> None:
    late = b"From dave@example.net Fri Dec 31 23:59:59 9999 -2300\nSubject: late\n\n"
    (accounts.folder / "in.mbox").write_bytes(late)
    folder = accounts.folder / "Maildir" / "cur"
    folder.mkdir(parents=True)
    (folder / "early").write_bytes(b"Subject: early\n\n")
    os.utime(folder / "early", (-(2**36),) * 2)
    for source in ("in.mbox", "Maildir"):
        assert accounts("mailbox", "import", ALICE, str(accounts.folder / source)).out == "imported 1 message\n"
    assert [row["subject"] for row in json.loads(accounts("mailbox", "show", ALICE, "--json").out)] == ["late", "early"]
    assert accounts("mailbox", "export", ALICE, str(accounts.folder / "out.mbox")).out == "exported 2 messages\n"


def test_an_empty_file_is_an_empty_mbox(accounts: Command) -> None:
    assert accounts("mailbox", "import", ALICE, str(mbox_file(accounts.folder))).out == "imported 0 messages\n"


def test_what_is_neither_is_refused(accounts: Command) -> None:
    path = accounts.folder / "letter.txt"
    path.write_text("Dear Alice,\n")
    assert (
        'this is no mbox: its first line does not begin with "From "'
        in accounts("mailbox", "import", ALICE, str(path)).err
    )
    assert "is no Maildir" in accounts("mailbox", "import", ALICE, str(accounts.folder)).err
    assert "is no Maildir" in accounts("mailbox", "import", ALICE, str(path), "--format", "maildir").err
    assert "is no file" in accounts("mailbox", "import", ALICE, str(accounts.folder), "--format", "mboxrd").err


def test_a_file_that_is_there_is_not_written_over(filled: Command) -> None:
    target = filled.folder / "out.mbox"
    target.write_text("precious")
    assert "is there already" in filled("mailbox", "export", ALICE, str(target)).err
    assert target.read_text() == "precious"


def test_an_export_is_private(filled: Command) -> None:
    filled("mailbox", "export", ALICE, str(filled.folder / "out.mbox"))
    filled("mailbox", "export", ALICE, str(filled.folder / "Maildir"), "--format", "maildir")
    paths = [filled.folder / "out.mbox", *(filled.folder / "Maildir" / "new").iterdir()]
    assert {path.stat().st_mode & 0o777 for path in paths} == {0o600}


def test_an_export_of_what_cannot_be_read_leaves_nothing_that_looks_whole(filled: Command) -> None:
    next((filled.data_dir / "spool").iterdir()).write_bytes(b"short")
    ran = filled("mailbox", "export", ALICE, str(filled.folder / "out.mbox"))
    assert ran.code == 1
    assert "mailserv mailbox verify tells more" in ran.err
    assert list(filled.folder.glob("out.mbox*")) == []


# ---------------------------------------------------------------- once


def test_what_a_reader_has_just_moved_and_is_in_both_folders_is_one_message(accounts: Command) -> None:
    folder = accounts.folder / "Maildir"
    for name in ("new/100.a.host", "cur/100.a.host:2,S", "cur/200.b.host:2,"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"Subject: 1\n\nx\n")
    assert accounts("mailbox", "import", ALICE, str(folder)).out == "imported 2 messages\n"


def test_nothing_is_imported_twice_not_even_from_another_place(filled: Command) -> None:
    again = f"imported 0 messages; {len(CONTENTS)} were imported before (--again imports them, too)\n"
    assert filled("mailbox", "import", ALICE, str(filled.folder / "in.mbox")).out == again
    target = str(filled.folder / "Maildir")
    filled("mailbox", "export", ALICE, target, "--format", "maildir")
    assert filled("mailbox", "import", ALICE, target).out == again
    assert filled("mailbox", "import", ALICE, target, "--again").out == f"imported {len(CONTENTS)} messages\n"
    more = mbox_file(filled.folder, *quoted(CONTENTS), b"Subject: twins\r\n\r\nx\r\n", b"Subject: new\r\n\r\n")
    assert filled("mailbox", "import", ALICE, str(more)).out.startswith("imported 2 messages; 6 were")


def test_a_maildir_export_goes_on_where_it_was_ended(filled: Command) -> None:
    target = filled.folder / "Maildir"
    filled("mailbox", "export", ALICE, str(target), "--format", "maildir")
    names = sorted(path.name for path in (target / "new").iterdir())
    (target / "new" / names[0]).unlink()
    (target / "new" / names[1]).rename(target / "cur" / f"{names[1]}:2,S")  # somebody has read it
    (target / "tmp" / names[0]).write_bytes(b"half of i")
    ran = filled("mailbox", "export", ALICE, str(target), "--format", "maildir")
    assert ran.out == "exported 1 message; 5 were there or are gone\n"
    assert len(list((target / "new").iterdir())) == 5
    assert list((target / "tmp").iterdir()) == []


def test_a_message_of_a_maildir_export_is_on_the_disk_before_it_has_its_name(tmp_path: Path) -> None:
    maildirs.make(tmp_path)
    seen: list[tuple[int, list[Path]]] = []

    def sync(descriptor: int) -> None:
        seen.append((os.fstat(descriptor).st_size, list((tmp_path / "new").iterdir())))

    maildirs.write(tmp_path, "1.a.host", [b"x\r\n"], 1.0, sync)
    assert maildirs.names(tmp_path) == {"1.a.host"}
    assert seen == [(2, [])]


def test_an_import_that_is_killed_again_and_again_brings_each_message_once(accounts: Command) -> None:
    messages = [
        b"Subject: %d\r\n\r\n%s\r\n" % (number, b"x" * (300_000 if number % 500 == 7 else 500))
        for number in range(3000)
    ]
    path = mbox_file(accounts.folder, *messages)
    killed = 0
    for after in (100, 700, 1500, 2200):
        killed += import_until(accounts, path, lambda count, after=after: count >= after)  # type: ignore[misc]
    assert killed
    assert import_until(accounts, path, lambda _: False) is False
    assert contents(accounts, ALICE) == messages
    with open_made(accounts.data_dir):  # the next start of the server collects what a killed import left in the spool
        assert len(list((accounts.data_dir / "spool").iterdir())) == 6
    assert accounts("mailbox", "verify").out == "nothing is wrong\n"


def import_until(mailserv: Command, path: Path, enough: Callable[[int], bool]) -> bool:
    """Whether it was killed, at a moment when `enough(messages that have come)`."""
    child = subprocess.Popen(
        [sys.executable, "-m", "mailserv", "mailbox", "import", ALICE, str(path)], stdout=subprocess.PIPE, text=True
    )
    with child, closing(sqlite3.connect(mailserv.data_dir / "mailserv.db", timeout=10)) as connection:
        ends = time.monotonic() + 60
        while child.poll() is None:
            assert time.monotonic() < ends
            with suppress(subprocess.TimeoutExpired):
                child.wait(0.01)  # leave it the core
            (count,) = connection.execute("SELECT count(*) FROM mailbox").fetchone()
            if enough(count):
                child.send_signal(signal.SIGKILL)
                return child.wait() == -signal.SIGKILL
        assert child.returncode == 0
    return False


# ---------------------------------------------------------------- beside a server, on a terminal


def test_everything_works_beside_a_running_server(filled: Command) -> None:
    with mail_server(data_dir=filled.data_dir, accounts={}) as server:
        server.send("dave@example.net", [ALICE], b"Subject: live\r\n\r\nHello.\r\n")
        assert json.loads(filled("mailbox", "list", "--json").out)[0]["messages"] == len(CONTENTS) + 1
        target = str(filled.folder / "out.mbox")
        assert filled("mailbox", "export", ALICE, target).code == 0
        assert filled("mailbox", "import", BOB, target).code == 0
        assert filled("mailbox", "verify").out == "nothing is wrong\n"
        assert server.mailbox(BOB)[:-1] == CONTENTS
        assert server.mailbox(BOB) == server.mailbox(ALICE)


def test_long_work_shows_its_progress_on_a_terminal(accounts: Command) -> None:
    path = mbox_file(accounts.folder, *CONTENTS)
    leader, follower = pty.openpty()
    child = subprocess.Popen(
        [sys.executable, "-m", "mailserv", "mailbox", "import", ALICE, str(path)],
        stdout=subprocess.PIPE,
        stderr=follower,
    )
    with child:
        os.close(follower)
        assert child.wait(60) == 0
        shown = os.read(leader, 65536).decode()
        os.close(leader)
    assert "importing" in shown
    assert "100%" in shown


def test_verify_names_what_it_finds_and_repairs_totals_only(filled: Command) -> None:
    with closing(sqlite3.connect(filled.data_dir / "mailserv.db", isolation_level=None)) as connection:
        connection.execute("UPDATE account SET messages = 7")
    (filled.data_dir / "spool" / "stray\x1b").write_bytes(b"x")
    os.utime(filled.data_dir / "spool" / "stray\x1b", (0, 0))
    ran = filled("mailbox", "verify")
    assert ran.code == 1
    assert (
        ran.out.splitlines()[0] == "spool file stray?: belongs to no message; the next start of the server removes it"
    )
    assert [line.partition(":")[0] for line in ran.out.splitlines()[1:]] == [f"account {ALICE}", f"account {BOB}"]
    assert ran.err == "Error: 3 things not as they must be\n"
    ran = filled("mailbox", "verify", "--repair")
    assert ran.out.splitlines()[0] == "counted anew what 2 accounts had wrong"
    assert ran.err == "Error: 1 thing not as it must be\n"
    assert (filled.data_dir / "spool" / "stray\x1b").exists()
